//! The certificate in use. Its files are reloaded when they change, for new connections.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tracing::{info, warn};

use super::config::{CERTIFICATE, KEY, TlsConfig, TlsError};
use super::validity::not_after;
use crate::metrics::TlsMetrics;
use crate::upkeep::reload_again;

/// Gives each handshake the current certificate.
pub(super) struct Certificates {
    config: TlsConfig,
    provider: Arc<CryptoProvider>,
    metrics: Arc<TlsMetrics>,
    current: RwLock<Loaded>,
}

struct Loaded {
    files: Files,
    key: Arc<CertifiedKey>,
}

#[derive(PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Certificates {
    /// Loads certificate and key.
    ///
    /// # Errors
    /// When a file cannot be read or used.
    pub(super) async fn read(
        config: TlsConfig,
        provider: Arc<CryptoProvider>,
        metrics: Arc<TlsMetrics>,
    ) -> Result<Self, TlsError> {
        let loaded = Files::read(&config).await?.load(&provider, &metrics)?;
        Ok(Self { config, provider, metrics, current: RwLock::new(loaded) })
    }

    /// Reloads the files whenever they change, for ever. If they cannot be used, the previous certificate stays in use.
    pub(super) async fn watch(&self) {
        reload_again("the previous TLS certificate stays in use", async || {
            self.reload_if_changed().await.map_err(|error| {
                self.metrics.reload_failed();
                format!("{}: {error}", error.setting())
            })
        })
        .await;
    }

    async fn reload_if_changed(&self) -> Result<(), TlsError> {
        let files = Files::read(&self.config).await?;
        if files != self.current.read().unwrap_or_else(PoisonError::into_inner).files {
            let loaded = files.load(&self.provider, &self.metrics)?;
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        }
        Ok(())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).key))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Files {
    /// Both files of one version. The kubelet replaces them together; a certificate that is the same before and after
    /// the key was read belongs to that key.
    async fn read(config: &TlsConfig) -> Result<Self, TlsError> {
        let mut certificate = read(CERTIFICATE, &config.certificate).await?;
        loop {
            let key = read(KEY, &config.key).await?;
            let again = read(CERTIFICATE, &config.certificate).await?;
            if again == certificate {
                return Ok(Self { certificate, key });
            }
            certificate = again;
        }
    }

    fn load(self, provider: &CryptoProvider, metrics: &TlsMetrics) -> Result<Loaded, TlsError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .map_err(|_| TlsError::Certificate)?;
        let first = chain.first().ok_or(TlsError::Certificate)?;
        let expires = not_after(first).ok_or(TlsError::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| TlsError::NoKey)?;
        let key = CertifiedKey::from_der(chain, key, provider).map_err(TlsError::Key)?;
        metrics.certificate(expires);
        if expires < Timestamp::now() {
            warn!(%expires, "the TLS certificate has expired: clients refuse it");
        } else {
            info!(%expires, "TLS certificate loaded");
        }
        Ok(Loaded { files: self, key: Arc::new(key) })
    }
}

async fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let read = tokio::fs::read(path).await;
    read.map_err(|source| TlsError::Read { setting, path: path.to_owned(), source })
}
