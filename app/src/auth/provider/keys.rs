//! The public keys of one version of the JWKS file.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::config::{ProviderConfig, ProviderError};
use crate::auth::claims::{Payload, signature_only};
use crate::auth::error::TokenError;
use crate::auth::token_cache::TokenCache;

/// Accepted lengths of an RSA modulus, in bytes (2048 to 4096 bits).
const MODULUS: std::ops::RangeInclusive<usize> = 256..=512;

/// The keys of one version of the file, and the tokens that they verified.
pub(super) struct KeySet {
    pub(super) text: String,
    keys: Vec<PublicKey>,
    /// Replaced together with the keys: a token of a removed key is no longer found.
    pub(super) verified: TokenCache,
}

/// A key that verifies tokens.
pub(super) struct PublicKey {
    kid: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
    /// Accepts only this algorithm.
    validation: Validation,
}

#[derive(Deserialize)]
struct JwkSet {
    /// Parsed one by one, so that one malformed key does not affect the others.
    keys: Vec<Value>,
}

/// The members of a key that are used here (RFC 7517, 7518, 8037).
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

impl KeySet {
    /// Parses the keys. The second part of the result says why some keys were skipped.
    ///
    /// # Errors
    /// When no key is usable.
    pub(super) fn parse(
        text: String,
        config: &ProviderConfig,
    ) -> Result<(Self, Vec<ProviderError>), ProviderError> {
        let set: JwkSet = serde_json::from_str(&text)?;
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        for jwk in set.keys {
            match PublicKey::parse(jwk, config) {
                Ok(key) => keys.extend(key),
                Err(error) => skipped.push(error),
            }
        }
        if keys.is_empty() {
            return Err(skipped.into_iter().next().unwrap_or(ProviderError::Empty));
        }
        Ok((Self { text, keys, verified: TokenCache::default() }, skipped))
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key named by `kid`. `kid` may be absent if there is only one key.
    pub(super) fn key(&self, header: &Header) -> Option<&PublicKey> {
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
}

impl PublicKey {
    /// `None` for a key of another kind or use: providers publish those in the same file.
    fn parse(jwk: Value, config: &ProviderConfig) -> Result<Option<Self>, ProviderError> {
        let kid = jwk["kid"].as_str().unwrap_or_default().to_owned();
        let jwk: Jwk = serde_json::from_value(jwk)
            .map_err(|error| ProviderError::Key(kid, "JWK", error.to_string()))?;
        let (algorithm, name) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => (Algorithm::EdDSA, "EdDSA"),
            ("EC", Some("P-256")) => (Algorithm::ES256, "ES256"),
            ("RSA", _) => (Algorithm::RS256, "RS256"),
            _ => return Ok(None),
        };
        let differs = |said: &Option<String>, ours| said.as_ref().is_some_and(|it| it != ours);
        if differs(&jwk.alg, name) || differs(&jwk.usage, "sig") {
            return Ok(None);
        }
        let error = |why: &str| {
            ProviderError::Key(jwk.kid.clone().unwrap_or_default(), name, why.to_owned())
        };
        let key = jwk.decoding_key(algorithm).map_err(error)?;
        let validation = validation(algorithm, config);
        if !can_verify(name, &key, &validation) {
            return Err(error("its numbers are none of such a key"));
        }
        Ok(Some(Self { kid: jwk.kid, algorithm, key, validation }))
    }

    /// Checks the signature, and issuer and audience if they are configured.
    pub(super) fn verify(&self, token: &str) -> Result<Payload, TokenError> {
        let verified = decode(token, &self.key, &self.validation);
        Ok(verified.map_err(|_| TokenError::Invalid)?.claims)
    }
}

/// Whether this key can verify a signature. `jsonwebtoken` parses the key's numbers only then.
fn can_verify(algorithm: &str, key: &DecodingKey, validation: &Validation) -> bool {
    let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{algorithm}"}}"#));
    let verified = decode::<IgnoredAny>(format!("{header}.e30.AA"), key, validation);
    verified.is_err_and(|error| matches!(error.kind(), ErrorKind::InvalidSignature))
}

impl Jwk {
    fn decoding_key(&self, algorithm: Algorithm) -> Result<DecodingKey, &'static str> {
        let length = |text: &str| URL_SAFE_NO_PAD.decode(text).map_or(0, |bytes| bytes.len());
        let key = match algorithm {
            Algorithm::EdDSA if length(&self.x) == 32 => DecodingKey::from_ed_components(&self.x),
            Algorithm::ES256 if length(&self.x) == 32 && length(&self.y) == 32 => {
                DecodingKey::from_ec_components(&self.x, &self.y)
            }
            Algorithm::RS256 if MODULUS.contains(&length(&self.n)) => {
                DecodingKey::from_rsa_components(&self.n, &self.e)
            }
            Algorithm::RS256 => return Err("n must have 2048 to 4096 bits"),
            _ => return Err("a coordinate must have 32 bytes, in base64url"),
        };
        key.map_err(|_| "it is not in base64url")
    }
}

/// Checks signature, issuer and audience. The other claims have the same rules for all signers.
fn validation(algorithm: Algorithm, config: &ProviderConfig) -> Validation {
    let mut validation = signature_only(algorithm);
    let mut required = Vec::new();
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
    validation
}
