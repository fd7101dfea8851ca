//! A key that all replicas share: it signs our own tokens, and whoever else has it may sign too.
//!
//! HS256 by hand, on the `hmac` crate: each request passes here, and `jsonwebtoken` parses header
//! and claims twice and prepares the key anew each time, which takes several times as long.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::digest::block_api::BlockSizeUser;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::{Digest, Sha256};

/// What the header says when it names no key.
const NAMELESS: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9";

/// One HS256 key.
#[derive(Clone)]
pub(super) struct SharedKey {
    kid: String,
    /// The first part of the tokens it signs.
    header: String,
    /// With the key already in it.
    mac: Hmac<Sha256>,
}

/// A token in its parts.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub header: &'a str,
    pub payload: &'a str,
    pub signature: &'a str,
    /// Header and payload: what is signed.
    pub signed: &'a str,
}

impl<'a> Parts<'a> {
    pub(super) fn of(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        // A dot too many is no base64, and fails there.
        Some(Self { header, payload, signature, signed })
    }
}

impl SharedKey {
    pub(super) fn new(secret: &str) -> Self {
        // As HMAC has it: a key longer than a block is hashed.
        let mut block = [0; 64];
        debug_assert_eq!(block.len(), Sha256::block_size());
        if let Some(start) = block.get_mut(..secret.len()) {
            start.copy_from_slice(secret.as_bytes());
        } else {
            block[..32].copy_from_slice(&Sha256::digest(secret));
        }
        let mac = Hmac::<Sha256>::new(&block.into());
        // The id is made of the key, so that every replica has the same, and tells nothing of it
        // that a signature does not.
        let name = mac.clone().chain_update("flashsale key id").finalize().into_bytes();
        let kid = URL_SAFE_NO_PAD.encode(&name[..9]);
        let header = json!({"alg": "HS256", "kid": kid, "typ": "JWT"});
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        Self { kid, header, mac }
    }

    pub(super) fn kid(&self) -> &str {
        &self.kid
    }

    pub(super) fn sign(&self, payload: &[u8]) -> String {
        let mut token = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(payload));
        let signature = self.mac.clone().chain_update(&token).finalize().into_bytes();
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }

    /// Whether a token names this key, or an HS256 key without saying which.
    pub(super) fn may_have_signed(&self, parts: Parts<'_>) -> bool {
        parts.header == self.header || parts.header == NAMELESS
    }

    /// Compares in constant time.
    pub(super) fn has_signed(&self, parts: Parts<'_>) -> bool {
        // A byte more than a signature has: a longer one fails.
        let mut signature = [0; 33];
        URL_SAFE_NO_PAD.decode_slice(parts.signature, &mut signature).is_ok_and(|length| {
            let mac = self.mac.clone().chain_update(parts.signed);
            mac.verify_slice(&signature[..length]).is_ok()
        })
    }
}
