//! TLS on the API's port.

use std::path::PathBuf;

use clap::Args;

use super::error::ConfigError;
use crate::http::TlsConfig;

/// Settings of [`TlsConfig`].
#[derive(Args, Debug)]
#[command(next_help_heading = "HTTP")]
pub struct TlsArgs {
    /// PEM file with the API's certificate, followed by its intermediates. With it, the API's port accepts TLS 1.2 and
    /// 1.3 only. It is read again when it changes. Default: none, the port accepts plain HTTP.
    #[arg(long, env = "TLS_CERT_FILE")]
    tls_cert_file: Option<PathBuf>,
    /// PEM file with the private key of the certificate, not encrypted. It is read again when it changes.
    #[arg(long, env = "TLS_KEY_FILE")]
    tls_key_file: Option<PathBuf>,
}

impl TlsArgs {
    /// `None`: plain HTTP.
    pub(super) fn into_config(self) -> Result<Option<TlsConfig>, ConfigError> {
        match (self.tls_cert_file, self.tls_key_file) {
            (Some(certificate), Some(key)) => Ok(Some(TlsConfig { certificate, key })),
            (None, None) => Ok(None),
            (Some(_), None) => {
                Err(ConfigError::new("TLS_KEY_FILE", "is needed with TLS_CERT_FILE"))
            }
            (None, Some(_)) => {
                Err(ConfigError::new("TLS_CERT_FILE", "is needed with TLS_KEY_FILE"))
            }
        }
    }
}
