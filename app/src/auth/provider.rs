//! The shop's own identity provider: it signs tokens with its private keys, and we have the public
//! ones in a JWKS file, which is read again when it changes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode};
use serde::Deserialize;
use tokio::time::interval;
use tracing::{info, warn};

use super::seen::Seen;
use super::token::{Claims, Role, TokenError};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How far the provider's clock may be from ours.
const LEEWAY_SECONDS: u64 = 10;
/// In front of the provider's subjects: an account of ours cannot have such an id, so nobody can
/// sign up as somebody whom the provider knows.
const PREFIX: &str = "idp:";
/// Of an RSA key's modulus, in bytes: from 2048 to 4096 bits.
const MODULUS: std::ops::RangeInclusive<usize> = 256..=512;

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
    /// A key that cannot be right.
    #[error("key {0:?} is no good {1} key: {2}")]
    Key(String, &'static str, &'static str),
    /// Nothing in it is of use.
    #[error("holds no signing key for EdDSA, ES256 or RS256")]
    Empty,
}

/// Checks the provider's tokens.
pub struct Provider {
    config: ProviderConfig,
    keys: RwLock<Arc<KeySet>>,
}

/// The keys of one version of the file, and the tokens that they were good for.
struct KeySet {
    text: String,
    keys: Vec<PublicKey>,
    seen: Mutex<Seen>,
}

struct PublicKey {
    kid: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
    /// For this algorithm alone.
    validation: Validation,
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

/// What is of interest in a key (RFC 7517, 7518, 8037).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
}

/// What the provider's tokens say.
#[derive(Deserialize)]
struct Payload {
    sub: String,
    exp: i64,
    role: Option<serde_json::Value>,
}

impl Provider {
    /// Reads the keys.
    ///
    /// # Errors
    /// When there are none in the file.
    pub fn read(config: ProviderConfig) -> Result<Self, ProviderError> {
        let text = std::fs::read_to_string(&config.file)
            .map_err(|source| ProviderError::Read { path: config.file.clone(), source })?;
        let keys = RwLock::new(Arc::new(KeySet::parse(text, &config)?));
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
            let keys = KeySet::parse(text, &self.config)?;
            info!(keys = keys.keys.len(), "new keys of the identity provider");
            *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        }
        Ok(())
    }

    /// The claims of a token that was good before.
    pub(super) fn seen(&self, token: &str) -> Option<Claims> {
        self.keys().seen().get(token, Timestamp::now().as_second())
    }

    /// Checks a token with the key that its header names.
    pub(super) fn verify(&self, token: &str, header: &Header) -> Result<Claims, TokenError> {
        // Something that we would have to know of, and do not.
        if header.crit.is_some() {
            return Err(TokenError::Invalid);
        }
        let set = self.keys();
        let key = set.key(header).ok_or(TokenError::Invalid)?;
        let payload: Payload = decode(token, &key.key, &key.validation)
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => TokenError::Expired,
                _ => TokenError::Invalid,
            })?
            .claims;
        // The provider may have roles of its own: whoever is no administrator is a buyer.
        let admin = payload.role.is_some_and(|role| role == "admin");
        let role = if admin { Role::Admin } else { Role::Buyer };
        if payload.sub.is_empty() {
            return Err(TokenError::Invalid);
        }
        let sub = format!("{PREFIX}{}", payload.sub);
        let claims = Claims { sub, exp: payload.exp, role }.checked()?;
        set.seen().insert(token, claims.clone());
        Ok(claims)
    }

    fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl KeySet {
    fn parse(text: String, config: &ProviderConfig) -> Result<Self, ProviderError> {
        let set: JwkSet = serde_json::from_str(&text)?;
        let keys: Vec<PublicKey> = set
            .keys
            .iter()
            .filter_map(|jwk| PublicKey::of(jwk, config).transpose())
            .collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err(ProviderError::Empty);
        }
        Ok(Self { text, keys, seen: Mutex::default() })
    }

    /// The named key; an only key need not be named.
    fn key(&self, header: &Header) -> Option<&PublicKey> {
        let mut keys = self.keys.iter();
        let key = match &header.kid {
            Some(kid) => {
                let named = |key: &&PublicKey| key.kid.as_ref() == Some(kid);
                keys.find(|key| named(key) && key.algorithm == header.alg)?
            }
            None => keys.next().filter(|_| self.keys.len() == 1)?,
        };
        (key.algorithm == header.alg).then_some(key)
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PublicKey {
    /// `None` for a key that is not for these signatures: providers publish others beside.
    fn of(jwk: &Jwk, config: &ProviderConfig) -> Result<Option<Self>, ProviderError> {
        let (algorithm, name) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => (Algorithm::EdDSA, "EdDSA"),
            ("EC", Some("P-256")) => (Algorithm::ES256, "ES256"),
            ("RSA", _) => (Algorithm::RS256, "RS256"),
            _ => return Ok(None),
        };
        let elsewhere = |said: &Option<String>, ours| said.as_ref().is_some_and(|it| it != ours);
        if elsewhere(&jwk.alg, name) || elsewhere(&jwk.usage, "sig") {
            return Ok(None);
        }
        let wrong = |why| ProviderError::Key(jwk.kid.clone().unwrap_or_default(), name, why);
        let length = |text: &str| URL_SAFE_NO_PAD.decode(text).map_or(0, |bytes| bytes.len());
        let key = match algorithm {
            Algorithm::EdDSA if length(&jwk.x) == 32 => DecodingKey::from_ed_components(&jwk.x),
            Algorithm::ES256 if length(&jwk.x) == 32 && length(&jwk.y) == 32 => {
                DecodingKey::from_ec_components(&jwk.x, &jwk.y)
            }
            Algorithm::RS256 if MODULUS.contains(&length(&jwk.n)) => {
                DecodingKey::from_rsa_components(&jwk.n, &jwk.e)
            }
            Algorithm::RS256 => return Err(wrong("n must have 2048 to 4096 bits")),
            _ => return Err(wrong("a coordinate must have 32 bytes, in base64url")),
        };
        let key = key.map_err(|_| wrong("it is not in base64url"))?;

        let mut validation = Validation::new(algorithm);
        let mut required = vec!["exp", "sub"];
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.validate_aud = config.audience.is_some();
        if let Some(issuer) = &config.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = &config.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        Ok(Some(Self { kid: jwk.kid.clone(), algorithm, key, validation }))
    }
}

#[cfg(test)]
mod tests;
