//! The shop's own identity provider: it signs tokens with its private keys, and we have the public
//! ones in a JWKS file, which is read again when it changes.

pub(super) mod config;
mod keys;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use jsonwebtoken::{Header, decode};
use serde::de::IgnoredAny;
use tokio::time::interval;
use tracing::{info, warn};

use self::config::{ProviderConfig, ProviderError};
use self::keys::KeySet;
use super::claims::{Claims, Payload, decode_payload};
use super::error::TokenError;
use super::shared_key::Parts;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// In front of the provider's subjects: an account of ours cannot have such an id, so nobody can
/// sign up as somebody whom the provider knows.
const PREFIX: &str = "idp:";

/// Checks the provider's tokens.
pub struct Provider {
    config: ProviderConfig,
    keys: RwLock<Arc<KeySet>>,
}

impl Provider {
    /// Reads the keys.
    ///
    /// # Errors
    /// When there are none in the file.
    pub fn read(config: ProviderConfig) -> Result<Self, ProviderError> {
        let text = std::fs::read_to_string(&config.file)
            .map_err(|source| ProviderError::Read { path: config.file.clone(), source })?;
        let keys = RwLock::new(Arc::new(parse(text, &config)?));
        Ok(Self { config, keys })
    }

    /// Reads the keys again whenever the file has changed; for ever. Keys that cannot be used leave
    /// the last ones in place.
    pub async fn follow(&self) {
        let mut tick = interval(LOOK);
        let mut refused = None;
        loop {
            tick.tick().await;
            let error = self.look().await.err().map(|error| error.to_string());
            if let Some(error) = &error
                && refused.as_ref() != Some(error)
            {
                warn!(error, "JWKS_FILE: keeping the keys of before");
            }
            refused = error;
        }
    }

    async fn look(&self) -> Result<(), ProviderError> {
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

    /// The claims of a token that was good before.
    pub(super) fn seen(&self, token: &str) -> Option<Claims> {
        self.keys().seen().get(token, Timestamp::now().as_second())
    }

    /// Checks a token with the key that its header names.
    pub(super) fn verify(
        &self,
        token: &str,
        header: &Header,
        parts: Parts<'_>,
    ) -> Result<Claims, TokenError> {
        let set = self.keys();
        let key = set.key(header).ok_or(TokenError::Invalid)?;
        decode::<IgnoredAny>(token, &key.key, &key.validation).map_err(|_| TokenError::Invalid)?;
        let payload = decode_payload(parts.payload)?;
        let mut payload = Payload::parse(&payload)?;
        if payload.sub.is_empty() {
            return Err(TokenError::Invalid);
        }
        payload.sub = format!("{PREFIX}{}", payload.sub).into();
        let claims = payload.check()?;
        set.seen().insert(token, claims.clone());
        Ok(claims)
    }

    fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The keys that can be used. One that cannot is reported and ends only its own tokens.
fn parse(text: String, config: &ProviderConfig) -> Result<KeySet, ProviderError> {
    let (set, skipped) = KeySet::parse(text, config)?;
    for error in skipped {
        warn!(%error, "JWKS_FILE: a key is skipped");
    }
    Ok(set)
}

#[cfg(test)]
mod tests;
