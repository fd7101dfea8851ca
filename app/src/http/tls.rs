//! TLS on the API's port. Knows no HTTP, except how it differs from TLS.

mod certificates;
pub(super) mod config;
mod validity;

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use self::certificates::Certificates;
use self::config::{TlsConfig, TlsError};
use crate::metrics::TlsMetrics;

/// The only protocol of the server.
const ALPN: &[u8] = b"http/1.1";

/// The server's side of TLS 1.2 and 1.3.
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    certificates: Arc<Certificates>,
    pub(super) metrics: Arc<TlsMetrics>,
}

/// The protocol in which a client begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Anything that is not plain HTTP.
    Tls,
    /// HTTP without TLS.
    PlainHttp,
}

impl Tls {
    /// Loads the certificate.
    ///
    /// # Errors
    /// When certificate or key cannot be read or used.
    pub(crate) async fn read(
        config: TlsConfig,
        metrics: Arc<TlsMetrics>,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let certificates =
            Certificates::read(config, Arc::clone(&provider), Arc::clone(&metrics)).await?;
        let certificates = Arc::new(certificates);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificates) as _);
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Sessions are resumed by tickets, so the replica stores nothing for clients that left.
        config.ticketer = ring::Ticketer::new().map_err(TlsError::Setup)?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), certificates, metrics })
    }

    /// Reloads the certificate whenever its files change, for ever.
    pub(crate) async fn watch(&self) {
        self.certificates.watch().await;
    }

    /// Does the handshake.
    ///
    /// # Errors
    /// When the client is gone, or speaks no TLS that the server accepts.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.acceptor.accept(stream).await
    }
}

/// The protocol of the client's first byte, which stays in the stream. `None`: it closed without a byte, as health
/// checks of load balancers do.
pub(super) async fn protocol(stream: &TcpStream) -> io::Result<Option<Protocol>> {
    let mut first = [0];
    Ok(match stream.peek(&mut first).await? {
        0 => None,
        // Methods are in capital letters; no record of TLS begins with one.
        _ if first[0].is_ascii_uppercase() => Some(Protocol::PlainHttp),
        _ => Some(Protocol::Tls),
    })
}
