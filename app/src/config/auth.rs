//! Who is trusted.

use super::source::{ConfigError, Source};
use super::values::{number, required, wrong};
use crate::auth::ProviderConfig;
use crate::bounds;

/// The keys of tokens, and who is in front.
// No `Debug`: it holds secrets.
#[derive(Clone)]
pub struct AuthConfig {
    /// `JWT_SECRET`
    pub secret: String,
    /// `JWT_ACCEPTED_SECRET`
    pub accepted_secret: Option<String>,
    /// `JWKS_FILE`, `JWKS_ISSUER` and `JWKS_AUDIENCE`
    pub provider: Option<ProviderConfig>,
    /// `TRUSTED_PROXIES`
    pub trusted_proxies: usize,
}

impl AuthConfig {
    pub(super) fn read(source: &impl Source) -> Result<Self, ConfigError> {
        let secret = required(source, "JWT_SECRET", "the key that signs tokens")?;
        let secret = long_enough("JWT_SECRET", secret)?;
        let accepted_secret = source
            .get("JWT_ACCEPTED_SECRET")
            .map(|secret| long_enough("JWT_ACCEPTED_SECRET", secret))
            .transpose()?;
        let (issuer, audience) = (source.get("JWKS_ISSUER"), source.get("JWKS_AUDIENCE"));
        let provider = match source.get("JWKS_FILE") {
            Some(file) => Some(ProviderConfig { file: file.into(), issuer, audience }),
            None if issuer.is_some() => return Err(wrong("JWKS_ISSUER", "needs JWKS_FILE")),
            None if audience.is_some() => return Err(wrong("JWKS_AUDIENCE", "needs JWKS_FILE")),
            None => None,
        };
        let trusted_proxies = number(source, "TRUSTED_PROXIES", 0, bounds::TRUSTED_PROXIES)?;
        Ok(Self { secret, accepted_secret, provider, trusted_proxies })
    }
}

fn long_enough(name: &'static str, secret: String) -> Result<String, ConfigError> {
    if secret.len() < 32 {
        return Err(wrong(name, "has fewer than 32 bytes; make one with: openssl rand -hex 32"));
    }
    Ok(secret)
}
