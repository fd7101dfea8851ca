//! Settings of the identity provider, and why its keys are refused.

use std::path::PathBuf;

/// File of the keys, and the required claims.
#[derive(Debug, Clone)]
pub struct ProviderConfig {
    /// `JWKS_FILE`
    pub file: PathBuf,
    /// `JWKS_ISSUER`: required in `iss`, if given.
    pub issuer: Option<String>,
    /// `JWKS_AUDIENCE`: required in `aud`, if given.
    pub audience: Option<String>,
}

/// Why a JWKS file or one of its keys is refused.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The file is not a JWKS.
    #[error("is no JSON Web Key Set: {0}")]
    Format(#[from] serde_json::Error),
    /// A malformed or weak key: its id, its algorithm and the reason.
    #[error("key {0:?} is no good {1} key: {2}")]
    Key(String, &'static str, String),
    /// The file has no key of a supported kind.
    #[error("holds no signing key for EdDSA, ES256 or RS256")]
    Empty,
}
