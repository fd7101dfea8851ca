//! Where the provider's keys are, and why they cannot be used.

use std::path::PathBuf;

/// Where the keys are, and what a token must say.
#[derive(Debug, Clone)]
pub struct ProviderConfig {
    /// `JWKS_FILE`
    pub file: PathBuf,
    /// `JWKS_ISSUER`: required in `iss`, if given.
    pub issuer: Option<String>,
    /// `JWKS_AUDIENCE`: required in `aud`, if given.
    pub audience: Option<String>,
}

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no JWKS.
    #[error("is no JSON Web Key Set: {0}")]
    Format(#[from] serde_json::Error),
    /// A key that cannot be right, where no other can be used.
    #[error("key {0:?} is no good {1} key: {2}")]
    Key(String, &'static str, String),
    /// Nothing in it is of use.
    #[error("holds no signing key for EdDSA, ES256 or RS256")]
    Empty,
}
