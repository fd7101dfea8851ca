//! The sale's own key (HS256), which all replicas share. A shop that has it may sign tokens too.

use jsonwebtoken::errors::Error;
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, crypto, decode, encode,
};
use serde::Serialize;

use super::claims::{Payload, signature_only};
use super::error::TokenError;

/// Characters of a key id.
const KID_LENGTH: usize = 12;

/// One HS256 key.
pub(super) struct SharedKey {
    /// Of the tokens that it signs.
    header: Header,
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
}

impl SharedKey {
    pub(super) fn new(secret: &str) -> Self {
        let signing = EncodingKey::from_secret(secret.as_bytes());
        // Derived from the key, so that all replicas agree on it. Like any signature, it does not
        // reveal the key.
        let kid = crypto::sign(b"flashsale key id", &signing, Algorithm::HS256).ok();
        let kid = kid.and_then(|kid| Some(kid.get(..KID_LENGTH)?.to_owned()));
        Self {
            header: Header { kid, ..Header::new(Algorithm::HS256) },
            signing,
            verifying: DecodingKey::from_secret(secret.as_bytes()),
            validation: signature_only(Algorithm::HS256),
        }
    }

    pub(super) fn sign<T: Serialize>(&self, claims: &T) -> Result<String, Error> {
        encode(&self.header, claims, &self.signing)
    }

    /// Whether a token with this header names this key.
    pub(super) fn is_named_by(&self, header: &Header) -> bool {
        header.kid.is_some() && header.kid == self.header.kid
    }

    /// Checks the signature.
    pub(super) fn verify(&self, token: &str) -> Result<Payload, TokenError> {
        let verified = decode(token, &self.verifying, &self.validation);
        Ok(verified.map_err(|_| TokenError::Invalid)?.claims)
    }
}
