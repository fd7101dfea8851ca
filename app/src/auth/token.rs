//! Tokens: JWT. Our own are HS256 under a key that the replicas share; those of the shop's
//! identity provider are checked with its public keys. The two never mix: a token's `alg` decides
//! which kind of key it is checked with, and each key takes its own `alg` only.

use std::sync::Arc;

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, decode_header};
use serde::Serialize;

use super::claims::{Claims, Payload, Role, decode_payload};
use super::error::TokenError;
use super::provider::Provider;
use super::shared_key::{Parts, SharedKey};

/// How long a token from a login is good for.
const LIFETIME_SECONDS: i64 = 3600;
/// What our tokens say in `iss`.
const ISSUER: &str = "flashsale";
/// Tokens are some hundred bytes; a header cannot be much longer than this anyway.
const MAX_LENGTH: usize = 8 * 1024;

/// The claims of a token that we sign.
#[derive(Serialize)]
struct Signed<'a> {
    sub: &'a str,
    exp: i64,
    iss: &'static str,
    role: Role,
}

/// Signs and checks tokens.
#[derive(Clone)]
pub struct Tokens {
    /// The first signs; all are accepted.
    keys: Vec<SharedKey>,
    provider: Option<Arc<Provider>>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Tokens {
    /// Signs with this key.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self { keys: vec![SharedKey::new(secret)], provider: None }
    }

    /// Accepts the tokens of another key too: the next or the last one, while it is changed.
    #[must_use]
    pub fn accepting(mut self, secret: &str) -> Self {
        self.keys.push(SharedKey::new(secret));
        self
    }

    /// Accepts the tokens of an identity provider too.
    #[must_use]
    pub fn trusting(mut self, provider: Arc<Provider>) -> Self {
        self.provider = Some(provider);
        self
    }

    /// Signs a token, and says how many seconds it is good for.
    ///
    /// # Errors
    /// When the claims cannot be encoded.
    pub fn sign(&self, subject: &str, role: Role) -> Result<(String, i64), serde_json::Error> {
        let exp = Timestamp::now().as_second() + LIFETIME_SECONDS;
        let payload = Signed { sub: subject, exp, iss: ISSUER, role };
        let payload = serde_json::to_vec(&payload)?;
        Ok((self.keys[0].sign(&payload), LIFETIME_SECONDS))
    }

    /// Checks a token. Every request passes here.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        if token.len() > MAX_LENGTH {
            return Err(TokenError::Invalid);
        }
        let parts = Parts::of(token).ok_or(TokenError::Invalid)?;
        let mut keys = self.keys.iter().filter(|key| key.may_have_signed(parts)).peekable();
        if keys.peek().is_some() {
            return own(keys, parts);
        }
        // Not as we write it: another signer's, or no token at all.
        if let Some(claims) = self.provider.as_ref().and_then(|provider| provider.cached(token)) {
            return Ok(claims);
        }
        let header = decode_header(token).map_err(|_| TokenError::Invalid)?;
        // An extension that changes what the token means, and none is known here (RFC 7515).
        if header.crit.is_some() {
            return Err(TokenError::Invalid);
        }
        if header.alg == Algorithm::HS256 {
            // A signer with our key may have a name of its own for it: then any of ours may be it.
            let named = |key: &&SharedKey| header.kid.as_deref() == Some(key.kid());
            return match self.keys.iter().find(named) {
                Some(key) => own(std::iter::once(key), parts),
                None => own(self.keys.iter(), parts),
            };
        }
        self.provider.as_ref().ok_or(TokenError::Invalid)?.verify(token, &header, parts)
    }
}

/// Checks a token with keys that we share.
fn own<'a>(
    mut keys: impl Iterator<Item = &'a SharedKey>,
    parts: Parts<'_>,
) -> Result<Claims, TokenError> {
    if !keys.any(|key| key.has_signed(parts)) {
        return Err(TokenError::Invalid);
    }
    let payload = decode_payload(parts.payload)?;
    let payload = Payload::parse(&payload)?;
    // Another signer with our key need not say its name, but must not say another.
    if payload.iss.as_ref().is_some_and(|issuer| issuer.0.as_deref() != Some(ISSUER)) {
        return Err(TokenError::Invalid);
    }
    payload.validate()
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const NEXT: &str = "the next key, of thirty-two bytes or more, and even of more than a block";
    const FAR: i64 = 4_000_000_000;

    fn signed_with(header: &Header, claims: &Value, secret: &str) -> String {
        encode(header, claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    fn signed(claims: &Value, secret: &str) -> String {
        signed_with(&Header::new(Algorithm::HS256), claims, secret)
    }

    fn kid(token: &str) -> Option<String> {
        decode_header(token).unwrap().kid
    }

    #[test]
    fn accepts_what_it_signed() {
        for secret in [SECRET, NEXT] {
            let tokens = Tokens::new(secret);
            let (token, _) = tokens.sign("ann", Role::Admin).unwrap();
            let claims = tokens.verify(&token).unwrap();
            assert_eq!((claims.sub.as_str(), claims.role), ("ann", Role::Admin));
        }
    }

    #[test]
    fn signs_as_the_standard_has_it() {
        for secret in [SECRET, NEXT] {
            let (token, _) = Tokens::new(secret).sign("ann", Role::Buyer).unwrap();
            let key = jsonwebtoken::DecodingKey::from_secret(secret.as_bytes());
            let validation = jsonwebtoken::Validation::new(Algorithm::HS256);
            let claims = jsonwebtoken::decode::<Value>(&token, &key, &validation).unwrap().claims;
            assert_eq!(claims["sub"], "ann");
            assert_eq!(claims["iss"], ISSUER);
        }
    }

    #[test]
    fn two_keys_are_good_during_a_change() {
        let (old, _) = Tokens::new(SECRET).sign("ann", Role::Buyer).unwrap();
        let (new, _) = Tokens::new(NEXT).sign("ann", Role::Buyer).unwrap();
        assert_ne!(kid(&old), kid(&new));
        let changing = Tokens::new(NEXT).accepting(SECRET);
        assert_eq!(kid(&changing.sign("bob", Role::Buyer).unwrap().0), kid(&new));
        for token in [&old, &new] {
            assert_eq!(changing.verify(token).unwrap().sub, "ann");
        }
        // One that names no key, too.
        let ann = json!({"sub": "ann", "exp": FAR});
        for secret in [SECRET, NEXT] {
            assert_eq!(changing.verify(&signed(&ann, secret)).unwrap().sub, "ann");
        }
        assert_eq!(Tokens::new(NEXT).verify(&old), Err(TokenError::Invalid));
    }

    #[test]
    fn a_key_id_is_for_its_key_only() {
        let tokens = Tokens::new(NEXT).accepting(SECRET);
        let named = |token: &str| Header { kid: kid(token), ..Header::new(Algorithm::HS256) };
        let header = named(&Tokens::new(NEXT).sign("ann", Role::Buyer).unwrap().0);
        let ann = json!({"sub": "ann", "exp": FAR});
        assert!(tokens.verify(&signed_with(&header, &ann, NEXT)).is_ok());
        assert_eq!(tokens.verify(&signed_with(&header, &ann, SECRET)), Err(TokenError::Invalid));
        // A name that is not ours says nothing: the signature must be of one of our keys.
        let header = Header { kid: Some("shop-2026".to_owned()), ..header };
        for secret in [SECRET, NEXT] {
            assert_eq!(tokens.verify(&signed_with(&header, &ann, secret)).unwrap().sub, "ann");
        }
        let foreign = signed_with(&header, &ann, "another key of more than thirty-two bytes");
        assert_eq!(tokens.verify(&foreign), Err(TokenError::Invalid));
    }

    #[test]
    fn a_critical_extension_that_is_not_known_is_refused() {
        let ann = json!({"sub": "ann", "exp": FAR});
        for crit in [vec!["b64".to_owned()], vec!["exp".to_owned()], vec![]] {
            let header = Header { crit: Some(crit), ..Header::new(Algorithm::HS256) };
            let token = signed_with(&header, &ann, SECRET);
            assert_eq!(Tokens::new(SECRET).verify(&token), Err(TokenError::Invalid));
        }
    }

    #[test]
    fn takes_a_token_without_a_role_for_a_buyers() {
        let token = signed(&json!({"sub": "ann", "exp": FAR, "aud": "shop"}), SECRET);
        assert_eq!(Tokens::new(SECRET).verify(&token).unwrap().role, Role::Buyer);
    }

    #[test]
    fn refuses_everything_else() {
        let tokens = Tokens::new(SECRET);
        let ann = json!({"sub": "ann", "exp": FAR});
        let expired = signed(&json!({"sub": "ann", "exp": 1}), SECRET);
        assert_eq!(tokens.verify(&expired), Err(TokenError::Expired));
        let good = signed(&ann, SECRET);
        assert!(tokens.verify(&good).is_ok());
        let (body, signature) = good.rsplit_once('.').unwrap();
        let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4iLCJleHAiOjQwMDAwMDAwMDB9.";
        let weaker = signed_with(&Header::new(Algorithm::HS384), &ann, SECRET);
        for bad in [
            String::new(),
            ".".to_owned(),
            "..".to_owned(),
            "a.b.c".to_owned(),
            unsigned.to_owned(),
            weaker,
            format!("{body}."),
            format!("{good}A"),
            format!("{good}."),
            format!("{body}.{}", &signature[..42]),
            format!("{body}A.{signature}"),
            format!("{good}{}", "A".repeat(MAX_LENGTH)),
            signed(&ann, "another key of more than thirty-two bytes"),
            signed(&json!({"sub": "ann"}), SECRET),
            signed(&json!({"exp": FAR}), SECRET),
            signed(&json!({"sub": "", "exp": FAR}), SECRET),
            signed(&json!({"sub": "a\0", "exp": FAR}), SECRET),
            signed(&json!({"sub": "ann", "exp": FAR, "iss": "elsewhere"}), SECRET),
            signed(&json!({"sub": "ann", "exp": FAR, "iss": ["flashsale"]}), SECRET),
            signed(&json!({"sub": "ann", "exp": FAR, "nbf": FAR - 1}), SECRET),
        ] {
            assert_eq!(tokens.verify(&bad), Err(TokenError::Invalid), "{bad}");
        }
    }
}
