//! Settings of TLS, and why files are refused.

use std::io;
use std::path::PathBuf;

/// Setting of [`TlsConfig::certificate`].
pub(super) const CERTIFICATE: &str = "TLS_CERT_FILE";
/// Setting of [`TlsConfig::key`].
pub(super) const KEY: &str = "TLS_KEY_FILE";

/// Files of the API's certificate.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// `TLS_CERT_FILE`
    pub certificate: PathBuf,
    /// `TLS_KEY_FILE`
    pub key: PathBuf,
}

/// Why the certificate or its key is refused.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}; give the path of a PEM file that this user may read", path.display())]
    Read {
        /// Setting that names the file.
        setting: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The file has no certificate, or the first one is malformed.
    #[error(
        "has no valid certificate: give a PEM file with the server's certificate first, then its intermediates"
    )]
    Certificate,
    /// The file has no key.
    #[error(
        "has no private key: give a PEM file with an unencrypted key (PKCS #8, PKCS #1 or SEC 1)"
    )]
    NoKey,
    /// The key's algorithm or size is not supported, or it belongs to another certificate.
    #[error(
        "cannot be used ({0}): give the key of the certificate in TLS_CERT_FILE: ECDSA P-256 or P-384, Ed25519, or RSA \
         of 2048 to 4096 bits"
    )]
    Key(rustls::Error),
    /// The library refused its own settings.
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}

impl TlsError {
    /// The setting at fault.
    #[must_use]
    pub fn setting(&self) -> &'static str {
        match self {
            Self::Read { setting, .. } => setting,
            Self::Certificate | Self::Setup(_) => CERTIFICATE,
            Self::NoKey | Self::Key(_) => KEY,
        }
    }
}
