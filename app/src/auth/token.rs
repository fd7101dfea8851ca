//! Tokens: JWT. Our own are HS256, signed with a key that the replicas share. Those of the shop's
//! identity provider are verified with its public keys. A token's `alg` decides which kind of key
//! verifies it, and each key accepts only its own `alg`.

use std::sync::Arc;

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, Header, decode_header};
use serde::Serialize;

use super::claims::{Claims, Role};
use super::error::TokenError;
use super::provider::Provider;
use super::shared_key::SharedKey;
use super::token_cache::TokenCache;

/// Validity of a token from a log-in.
const LIFETIME_SECONDS: i64 = 3600;
/// `iss` of our tokens.
const ISSUER: &str = "flashsale";
/// In bytes. Usual tokens have some hundred.
const MAX_LENGTH: usize = 8 * 1024;

/// The claims of a token that we sign.
#[derive(Serialize)]
struct OwnClaims<'a> {
    sub: &'a str,
    exp: i64,
    iss: &'static str,
    role: Role,
}

/// Signs and verifies tokens.
pub struct Tokens {
    /// The first signs; all are accepted.
    keys: Vec<SharedKey>,
    /// Tokens that one of the keys verified.
    verified: TokenCache,
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
        Self { keys: vec![SharedKey::new(secret)], verified: TokenCache::default(), provider: None }
    }

    /// Also accepts the tokens of another key: the next or the previous one, during a key change.
    #[must_use]
    pub fn accepting(mut self, secret: &str) -> Self {
        self.keys.push(SharedKey::new(secret));
        self
    }

    /// Also accepts the tokens of an identity provider.
    #[must_use]
    pub fn trusting(mut self, provider: Arc<Provider>) -> Self {
        self.provider = Some(provider);
        self
    }

    /// Signs a token. The second part of the result is its validity in seconds.
    ///
    /// # Errors
    /// When the claims cannot be encoded.
    pub fn sign(
        &self,
        subject: &str,
        role: Role,
    ) -> Result<(String, i64), jsonwebtoken::errors::Error> {
        let exp = Timestamp::now().as_second() + LIFETIME_SECONDS;
        let claims = OwnClaims { sub: subject, exp, iss: ISSUER, role };
        Ok((self.keys[0].sign(&claims)?, LIFETIME_SECONDS))
    }

    /// Verifies a token. Every request calls this.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        if token.len() > MAX_LENGTH {
            return Err(TokenError::Invalid);
        }
        let provider = self.provider.as_ref();
        let cached = self.verified.get(token).or_else(|| provider?.cached(token));
        if let Some(claims) = cached {
            return Ok(claims);
        }
        let header = decode_header(token).map_err(|_| TokenError::Invalid)?;
        // RFC 7515: a critical extension must be understood, and none is here.
        if header.crit.is_some() {
            return Err(TokenError::Invalid);
        }
        if header.alg == Algorithm::HS256 {
            let claims = self.verify_own(token, &header)?;
            self.verified.insert(token, claims.clone());
            return Ok(claims);
        }
        provider.ok_or(TokenError::Invalid)?.verify(token, &header)
    }

    fn verify_own(&self, token: &str, header: &Header) -> Result<Claims, TokenError> {
        let named = self.keys.iter().find(|key| key.is_named_by(header));
        let payload = named.map_or_else(
            // Without a `kid`, or with a name that the shop gave the key.
            || self.keys.iter().find_map(|key| key.verify(token).ok()).ok_or(TokenError::Invalid),
            |key| key.verify(token),
        )?;
        // `iss` is optional, because the shop may sign with our key.
        if payload.iss.as_ref().is_some_and(|issuer| issuer != ISSUER) {
            return Err(TokenError::Invalid);
        }
        payload.validate()
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, encode};
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
            // The second time from the cache.
            for _ in 0..2 {
                let claims = tokens.verify(&token).unwrap();
                assert_eq!((claims.sub.as_str(), claims.role), ("ann", Role::Admin));
            }
        }
    }

    #[test]
    fn jsonwebtoken_accepts_what_it_signed() {
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
    fn two_keys_are_accepted_during_a_change() {
        let (old, _) = Tokens::new(SECRET).sign("ann", Role::Buyer).unwrap();
        let (new, _) = Tokens::new(NEXT).sign("ann", Role::Buyer).unwrap();
        assert_ne!(kid(&old), kid(&new));
        let changing = Tokens::new(NEXT).accepting(SECRET);
        assert_eq!(kid(&changing.sign("bob", Role::Buyer).unwrap().0), kid(&new));
        for token in [&old, &new] {
            assert_eq!(changing.verify(token).unwrap().sub, "ann");
        }
        // Tokens without a `kid`, too.
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
        // A foreign `kid` is ignored, but one of our keys must have signed the token.
        let header = Header { kid: Some("shop-2026".to_owned()), ..header };
        for secret in [SECRET, NEXT] {
            assert_eq!(tokens.verify(&signed_with(&header, &ann, secret)).unwrap().sub, "ann");
        }
        let foreign = signed_with(&header, &ann, "another key of more than thirty-two bytes");
        assert_eq!(tokens.verify(&foreign), Err(TokenError::Invalid));
    }

    #[test]
    fn an_unknown_critical_extension_is_refused() {
        let ann = json!({"sub": "ann", "exp": FAR});
        for crit in [vec!["b64".to_owned()], vec!["exp".to_owned()], vec![]] {
            let header = Header { crit: Some(crit), ..Header::new(Algorithm::HS256) };
            let token = signed_with(&header, &ann, SECRET);
            assert_eq!(Tokens::new(SECRET).verify(&token), Err(TokenError::Invalid));
        }
    }

    #[test]
    fn a_token_without_a_role_is_a_buyers() {
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
        let flipped = if signature.starts_with('A') { 'B' } else { 'A' };
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
            format!("{body}.{flipped}{}", &signature[1..]),
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
        assert_eq!(tokens.verified.len(), 1, "only valid tokens are cached");
    }
}
