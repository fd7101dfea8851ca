//! HTTP/1.1 over TCP or TLS. A connection belongs to its caller: nothing is pooled, queued or sent again unseen, so the
//! time of a call is what the caller measures around it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("{0}")]
    Url(String),
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("no TLS")]
    Tls(#[source] io::Error),
    #[error("the connection failed")]
    Connection(#[from] hyper::Error),
    #[error("cannot form the request")]
    Request(#[from] hyper::http::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// The certificate authorities that servers are verified with.
#[derive(Clone)]
pub struct Authorities(Arc<ClientConfig>);

impl Authorities {
    /// Those of a PEM file; without one, the public ones.
    pub fn read(file: Option<&Path>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        if let Some(file) = file {
            let wrong = |problem: String| format!("{}: {problem}", file.display());
            let certificates =
                CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(wrong("has no certificate".to_owned()));
            }
        } else {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Each buyer has a device of its own, so no handshake is a short one.
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }
}

/// The server of a base URL.
pub struct Server {
    host: String,
    port: u16,
    /// Value of the header `Host`.
    authority: String,
    /// The path of the base URL, without a slash at the end.
    prefix: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// The addresses of the host, found once: a crowd would ask the cluster's DNS several times for each buyer.
    addresses: OnceCell<Vec<SocketAddr>>,
}

/// A request, for any connection.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: Method,
    pub path: String,
    /// JSON
    pub body: Option<Bytes>,
}

impl Call {
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: None }
    }

    pub fn post(path: impl Into<String>, body: &serde_json::Value) -> Self {
        let body = Some(Bytes::from(body.to_string()));
        Self { method: Method::POST, path: path.into(), body }
    }
}

/// Who calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct Caller<'a> {
    pub token: Option<&'a str>,
    pub idempotency_key: Option<&'a str>,
}

impl<'a> Caller<'a> {
    pub fn with_token(token: &'a str) -> Self {
        Self { token: Some(token), idempotency_key: None }
    }
}

/// A whole response.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    /// The header `Retry-After`, at most 30 s; 0 without it.
    pub retry_after: Duration,
    pub body: Bytes,
}

/// What the opening of a connection took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// Until TCP was connected
    pub tcp: Duration,
    /// From then on until the TLS handshake was done; absent with plain HTTP
    pub tls: Option<Duration>,
}

/// An open connection.
pub struct Connection(SendRequest<Full<Bytes>>);

impl Server {
    /// Does not connect yet.
    pub fn new(url: &str, authorities: &Authorities) -> Result<Self, HttpError> {
        let wrong = |problem: &str| HttpError::Url(format!("{url:?} {problem}"));
        let uri: Uri = url.parse().map_err(|_| wrong("is not a URL"))?;
        let (Some(scheme), Some(authority), Some(host)) =
            (uri.scheme_str(), uri.authority(), uri.host())
        else {
            return Err(wrong("is not a URL that starts with http:// or https://"));
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let (tls, port) = match scheme {
            "http" => (None, 80),
            "https" => {
                let name = ServerName::try_from(host.clone())
                    .map_err(|_| wrong("has no host that a certificate can name"))?;
                (Some((TlsConnector::from(Arc::clone(&authorities.0)), name)), 443)
            }
            _ => return Err(wrong("does not start with http:// or https://")),
        };
        Ok(Self {
            port: uri.port_u16().unwrap_or(port),
            authority: authority.to_string(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            host,
            tls,
            addresses: OnceCell::new(),
        })
    }

    /// Looks the name up, unless that was done.
    pub async fn resolve(&self) -> Result<&[SocketAddr], HttpError> {
        let find = async || {
            let found = lookup_host((self.host.as_str(), self.port)).await?;
            Ok(found.collect())
        };
        let addresses = self.addresses.get_or_try_init(find).await.map_err(HttpError::Connect)?;
        Ok(addresses)
    }

    /// Opens a connection. The times do not include the look-up of the name.
    pub async fn connect(&self) -> Result<(Connection, Opening), HttpError> {
        let addresses = self.resolve().await?;
        let started = Instant::now();
        let stream = TcpStream::connect(addresses).await.map_err(HttpError::Connect)?;
        let tcp = started.elapsed();
        // A request is one packet.
        stream.set_nodelay(true).map_err(HttpError::Connect)?;
        // Buyers have addresses of their own. This process has one, whose 28,000 ports would stay occupied for a minute
        // each after a usual close.
        stream.set_zero_linger().map_err(HttpError::Connect)?;
        let Some((tls, name)) = &self.tls else {
            return Ok((Connection::over(stream).await?, Opening { tcp, tls: None }));
        };
        let started = Instant::now();
        let stream = tls.connect(name.clone(), stream).await.map_err(HttpError::Tls)?;
        let opening = Opening { tcp, tls: Some(started.elapsed()) };
        Ok((Connection::over(stream).await?, opening))
    }

    /// One call on a connection of its own.
    pub async fn call(
        &self,
        call: &Call,
        caller: Caller<'_>,
        timeout: Duration,
    ) -> Result<Answer, HttpError> {
        let answer = async { self.connect().await?.0.call(self, call, caller).await };
        tokio::time::timeout(timeout, answer).await.map_err(|_| HttpError::Timeout(timeout))?
    }
}

impl Connection {
    async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Self, HttpError> {
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // It ends when the sender is dropped; its errors are those of the calls.
        tokio::spawn(async { drop(connection.await) });
        Ok(Self(sender))
    }

    /// Whether another call can be tried.
    pub fn is_open(&self) -> bool {
        !self.0.is_closed()
    }

    /// Sends a request and reads the whole answer.
    pub async fn call(
        &mut self,
        server: &Server,
        call: &Call,
        caller: Caller<'_>,
    ) -> Result<Answer, HttpError> {
        let path = format!("{}{}", server.prefix, call.path);
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(if path.is_empty() { "/" } else { path.as_str() })
            .header(HOST, server.authority.as_str());
        if let Some(token) = caller.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(key) = caller.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        if call.body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(call.body.clone().unwrap_or_default()))?;
        self.0.ready().await?;
        let (head, body) = self.0.send_request(request).await?.into_parts();
        let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let seconds = retry_after.and_then(|value| value.parse().ok()).unwrap_or(0);
        Ok(Answer {
            status: head.status,
            retry_after: Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER),
            body: body.collect().await?.to_bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_port_a_prefix_and_a_host() {
        let public = Authorities::read(None).unwrap();
        let server = |url| Server::new(url, &public).map_err(|error| error.to_string());
        let plain = server("http://shop:8080/").unwrap();
        assert_eq!((plain.host.as_str(), plain.port, plain.prefix.as_str()), ("shop", 8080, ""));
        assert!(plain.tls.is_none());
        let tls = server("https://[::1]/a/b/").unwrap();
        assert_eq!((tls.host.as_str(), tls.port, tls.prefix.as_str()), ("::1", 443, "/a/b"));
        assert_eq!((tls.authority.as_str(), tls.tls.is_some()), ("[::1]", true));
        for wrong in ["shop", "ftp://shop", "http://", "https://a b"] {
            assert!(server(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = |path: &Path| Authorities::read(Some(path)).err().unwrap();
        assert!(error(file.path()).ends_with("has no certificate"));
        assert!(error(Path::new("/nowhere/ca.crt")).starts_with("/nowhere/ca.crt: "));
    }
}
