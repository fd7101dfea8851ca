//! Tokens of the shop's identity provider. Its public keys are in a JWKS file, which is reloaded when
//! it changes.

pub(super) mod config;
mod keys;

use std::sync::{Arc, PoisonError, RwLock};

use jsonwebtoken::Header;
use tracing::{info, warn};

use self::config::{ProviderConfig, ProviderError};
use self::keys::KeySet;
use super::claims::Claims;
use super::error::TokenError;
use crate::upkeep::reload_again;

/// Prefix of the provider's subjects. No account's id can begin with it, so no sign-up can take the
/// identity of one of the provider's users.
const SUBJECT_PREFIX: &str = "idp:";

/// Verifies the provider's tokens.
pub struct Provider {
    config: ProviderConfig,
    keys: RwLock<Arc<KeySet>>,
}

impl Provider {
    /// Loads the keys.
    ///
    /// # Errors
    /// When the file cannot be read or has no usable key.
    pub fn read(config: ProviderConfig) -> Result<Self, ProviderError> {
        let text = std::fs::read_to_string(&config.file)
            .map_err(|source| ProviderError::Read { path: config.file.clone(), source })?;
        let keys = RwLock::new(Arc::new(parse(text, &config)?));
        Ok(Self { config, keys })
    }

    /// Reloads the keys whenever the file changes, for ever. If the new file has no usable key, the
    /// previous keys stay in use.
    pub async fn watch(&self) {
        reload_again("JWKS_FILE: keeping the keys of before", async || {
            self.reload_if_changed().await.map_err(|error| error.to_string())
        })
        .await;
    }

    async fn reload_if_changed(&self) -> Result<(), ProviderError> {
        let path = &self.config.file;
        let text = tokio::fs::read_to_string(path).await;
        let text = text.map_err(|source| ProviderError::Read { path: path.clone(), source })?;
        if text != self.keys().text {
            let keys = parse(text, &self.config)?;
            info!(keys = keys.len(), "new keys of the identity provider");
            *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        }
        Ok(())
    }

    /// The claims of a token that was verified before and has not expired.
    pub(super) fn cached(&self, token: &str) -> Option<Claims> {
        self.keys().verified.get(token)
    }

    /// Verifies a token with the key that its header names.
    pub(super) fn verify(&self, token: &str, header: &Header) -> Result<Claims, TokenError> {
        let set = self.keys();
        let mut payload = set.key(header).ok_or(TokenError::Invalid)?.verify(token)?;
        if payload.sub.is_empty() {
            return Err(TokenError::Invalid);
        }
        payload.sub = format!("{SUBJECT_PREFIX}{}", payload.sub);
        let claims = payload.validate()?;
        set.verified.insert(token, claims.clone());
        Ok(claims)
    }

    fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The usable keys. An unusable key is logged, and only its own tokens are refused.
fn parse(text: String, config: &ProviderConfig) -> Result<KeySet, ProviderError> {
    let (set, skipped) = KeySet::parse(text, config)?;
    for error in skipped {
        warn!(%error, "JWKS_FILE: a key is skipped");
    }
    Ok(set)
}

#[cfg(test)]
mod tests;
