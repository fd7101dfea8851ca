//! Tokens: JWT signed with HS256 under a shared key, ours or the shop's identity provider's.

use jiff::Timestamp;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

/// How long a token from a login is good for.
const LIFETIME_SECONDS: i64 = 3600;

/// What a token says. Whoever signs for us must set `sub` and `exp`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who it is.
    pub sub: String,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
    /// What they may do; a buyer unless it says otherwise.
    #[serde(default)]
    pub role: Role,
}

/// What somebody may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Buys.
    #[default]
    Buyer,
    /// Runs the sale.
    Admin,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was good once.
    #[error("the token has expired")]
    Expired,
    /// It is no token of ours.
    #[error("the token is not valid")]
    Invalid,
}

/// Signs and checks tokens.
#[derive(Clone)]
pub struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
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
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp", "sub"]);
        validation.validate_aud = false;
        validation.leeway = 0;
        Self {
            encoding: EncodingKey::from_secret(secret.as_bytes()),
            decoding: DecodingKey::from_secret(secret.as_bytes()),
            validation,
        }
    }

    /// Signs a token, and says how many seconds it is good for.
    ///
    /// # Errors
    /// When the claims cannot be encoded.
    pub fn sign(&self, subject: &str, role: Role) -> Result<(String, i64), Error> {
        let exp = Timestamp::now().as_second() + LIFETIME_SECONDS;
        let claims = Claims { sub: subject.to_owned(), exp, role };
        let token = encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)?;
        Ok((token, LIFETIME_SECONDS))
    }

    /// Checks a token.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        let claims = decode::<Claims>(token, &self.decoding, &self.validation)
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => TokenError::Expired,
                _ => TokenError::Invalid,
            })?
            .claims;
        // A buyer without a name, or with one no database takes, is nobody.
        if claims.sub.is_empty() || claims.sub.len() > 256 || claims.sub.contains('\0') {
            return Err(TokenError::Invalid);
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn signed(claims: &serde_json::Value, secret: &str) -> String {
        let key = EncodingKey::from_secret(secret.as_bytes());
        encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
    }

    #[test]
    fn accepts_what_it_signed() {
        let tokens = Tokens::new(SECRET);
        let (token, _) = tokens.sign("ann", Role::Admin).unwrap();
        let claims = tokens.verify(&token).unwrap();
        assert_eq!((claims.sub.as_str(), claims.role), ("ann", Role::Admin));
    }

    #[test]
    fn takes_a_token_without_a_role_for_a_buyers() {
        let token = signed(
            &serde_json::json!({"sub": "ann", "exp": 4_000_000_000_i64, "aud": "shop"}),
            SECRET,
        );
        assert_eq!(Tokens::new(SECRET).verify(&token).unwrap().role, Role::Buyer);
    }

    #[test]
    fn refuses_everything_else() {
        let tokens = Tokens::new(SECRET);
        let far = 4_000_000_000_i64;
        let ann = serde_json::json!({"sub": "ann", "exp": far});
        let expired = signed(&serde_json::json!({"sub": "ann", "exp": 1}), SECRET);
        assert_eq!(tokens.verify(&expired), Err(TokenError::Expired));
        let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4iLCJleHAiOjQwMDAwMDAwMDB9.";
        for bad in [
            String::new(),
            "a.b.c".to_owned(),
            unsigned.to_owned(),
            signed(&ann, "another key of more than thirty-two bytes"),
            signed(&serde_json::json!({"sub": "ann"}), SECRET),
            signed(&serde_json::json!({"exp": far}), SECRET),
            signed(&serde_json::json!({"sub": "", "exp": far}), SECRET),
            signed(&serde_json::json!({"sub": "a\0", "exp": far}), SECRET),
            signed(&serde_json::json!({"sub": "ann", "exp": far, "role": "root"}), SECRET),
        ] {
            assert_eq!(tokens.verify(&bad), Err(TokenError::Invalid), "{bad}");
        }
    }
}
