//! TLS of the operator's metrics and probes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::serve::Listener;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::warn;

/// Deadline of a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at a time. Further connections wait.
const HANDSHAKES: usize = 64;

/// A certificate and its key, read again for each connection: cert-manager renews them.
#[derive(Clone, Debug)]
pub struct Certificate {
    chain: PathBuf,
    key: PathBuf,
}

impl Certificate {
    /// The files of a mounted `kubernetes.io/tls` Secret.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self { chain: folder.join("tls.crt"), key: folder.join("tls.key") }
    }

    async fn server_config(&self) -> Result<ServerConfig> {
        let chain = CertificateDer::pem_slice_iter(&read(&self.chain).await?)
            .collect::<Result<Vec<_>, _>>()
            .with_context(|| format!("{} is no certificate", self.chain.display()))?;
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key).await?)
            .with_context(|| format!("{} is no private key", self.key.display()))?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth();
        config
            .with_single_cert(chain, key)
            .with_context(|| format!("cannot use {}", self.chain.display()))
    }
}

async fn read(file: &Path) -> Result<Vec<u8>> {
    tokio::fs::read(file).await.with_context(|| format!("cannot read {}", file.display()))
}

type Connection = (TlsStream<TcpStream>, SocketAddr);

/// A listener whose connections have completed their handshake. A slow client delays no other.
#[derive(Debug)]
pub struct TlsListener {
    connections: mpsc::Receiver<Connection>,
    address: SocketAddr,
}

impl TlsListener {
    /// Accepts connections of `listener` until it is dropped.
    ///
    /// # Errors
    /// When the certificate cannot be used.
    pub async fn new(listener: TcpListener, certificate: Certificate) -> Result<Self> {
        certificate.server_config().await?;
        let address = listener.local_addr()?;
        let (sender, connections) = mpsc::channel(1);
        tokio::spawn(accept(listener, certificate, sender));
        Ok(Self { connections, address })
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> Connection {
        match self.connections.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.address)
    }
}

async fn accept(
    mut listener: TcpListener,
    certificate: Certificate,
    connections: mpsc::Sender<Connection>,
) {
    let mut handshakes = JoinSet::new();
    loop {
        tokio::select! {
            () = connections.closed() => return,
            Some(_) = handshakes.join_next() => {}
            (stream, peer) = Listener::accept(&mut listener), if handshakes.len() < HANDSHAKES => {
                let (certificate, connections) = (certificate.clone(), connections.clone());
                handshakes.spawn(async move {
                    match timeout(HANDSHAKE, handshake(&certificate, stream)).await {
                        // The receiver is gone at shutdown only.
                        Ok(Ok(stream)) => drop(connections.send((stream, peer)).await),
                        Ok(Err(error)) => {
                            let error = format!("{error:#}");
                            warn!(%peer, error, "no TLS connection for metrics and probes");
                        }
                        Err(_) => warn!(%peer, "TLS handshake took too long"),
                    }
                });
            }
        }
    }
}

async fn handshake(certificate: &Certificate, stream: TcpStream) -> Result<TlsStream<TcpStream>> {
    let config = certificate.server_config().await?;
    TlsAcceptor::from(Arc::new(config)).accept(stream).await.context("the handshake failed")
}
