//! The collector: one connection at a time, over TCP or TLS.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{HeaderName, HeaderValue, Request, StatusCode};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::config::{Endpoint, TracesConfig};

/// Bytes of a response that are read: it says how many spans were refused.
const LARGEST_RESPONSE: usize = 64 * 1024;

/// Why spans did not arrive.
#[derive(Debug, thiserror::Error)]
pub(super) enum CollectorError {
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("its host cannot be named by a certificate")]
    Name(#[from] rustls::pki_types::InvalidDnsNameError),
    #[error("the connection failed")]
    Connection(#[from] hyper::Error),
    #[error("its answer is too long, or ended early")]
    Answer(#[from] axum::Error),
    #[error("the request cannot be formed")]
    Request(#[from] axum::http::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("it answered {0}")]
    Status(StatusCode),
}

impl CollectorError {
    /// Whether the same spans may be accepted later.
    pub(super) fn is_temporary(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Connection(_) | Self::Answer(_) | Self::Timeout(_) => true,
            Self::Status(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            Self::Name(_) | Self::Request(_) => false,
        }
    }
}

/// The collector that spans are sent to.
pub(super) struct Collector {
    endpoint: Endpoint,
    headers: Vec<(HeaderName, HeaderValue)>,
    tls: Option<TlsConnector>,
    connection: Option<SendRequest<Body>>,
}

impl Collector {
    /// Does not connect yet.
    pub(super) fn new(config: &TracesConfig) -> Result<Self, rustls::Error> {
        Ok(Self {
            endpoint: config.endpoint.clone(),
            headers: config.headers.clone(),
            tls: config.endpoint.is_tls.then(public_authorities).transpose()?,
            connection: None,
        })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Posts a request and returns the response, within this time.
    pub(super) async fn post(
        &mut self,
        body: Bytes,
        within: Duration,
    ) -> Result<Bytes, CollectorError> {
        // A connection that failed, or is in the middle of a call, is not used again.
        let connection = self.connection.take().filter(|connection| !connection.is_closed());
        let answered = timeout(within, self.post_over(connection, body)).await;
        let (response, connection) =
            answered.map_err(|_elapsed| CollectorError::Timeout(within))??;
        self.connection = Some(connection);
        Ok(response)
    }

    async fn post_over(
        &self,
        connection: Option<SendRequest<Body>>,
        body: Bytes,
    ) -> Result<(Bytes, SendRequest<Body>), CollectorError> {
        let mut connection = match connection {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let mut request = Request::post(&*self.endpoint.path)
            .header(HOST, &*self.endpoint.authority)
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(Body::from(body))?;
        request.headers_mut().extend(self.headers.iter().cloned());
        connection.ready().await?;
        let (head, body) = connection.send_request(request).await?.into_parts();
        let response = to_bytes(Body::new(body), LARGEST_RESPONSE).await?;
        if !head.status.is_success() {
            return Err(CollectorError::Status(head.status));
        }
        Ok((response, connection))
    }

    async fn connect(&self) -> Result<SendRequest<Body>, CollectorError> {
        let address = (&*self.endpoint.host, self.endpoint.port);
        let stream = TcpStream::connect(address).await.map_err(CollectorError::Connect)?;
        let Some(tls) = &self.tls else { return open(stream).await };
        let name = ServerName::try_from(self.endpoint.host.clone())?;
        open(tls.connect(name, stream).await.map_err(CollectorError::Connect)?).await
    }
}

async fn open(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<SendRequest<Body>, CollectorError> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // It ends with the sender; its errors are those of the calls.
    tokio::spawn(async { drop(connection.await) });
    Ok(sender)
}

fn public_authorities() -> Result<TlsConnector, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
