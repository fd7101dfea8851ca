//! Signs and verifies tokens with the sale's key: the API accepts the subject of every validly signed token as a buyer.

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use crate::error::ConfigError;

/// Longer than any scenario: a buyer of the last second must still be accepted.
const LIFETIME_SECONDS: i64 = 24 * 3600;

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    exp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<String>,
}

/// A token for one user.
pub fn sign(secret: &str, subject: &str) -> Result<String, ConfigError> {
    sign_as(secret, subject, None)
}

/// A token for an administrator.
pub fn sign_admin(secret: &str, subject: &str) -> Result<String, ConfigError> {
    sign_as(secret, subject, Some("admin".to_owned()))
}

fn sign_as(secret: &str, subject: &str, role: Option<String>) -> Result<String, ConfigError> {
    let exp = Timestamp::now().as_second() + LIFETIME_SECONDS;
    let claims = Claims { sub: subject.to_owned(), exp, role };
    let key = EncodingKey::from_secret(secret.as_bytes());
    encode(&Header::new(Algorithm::HS256), &claims, &key)
        .map_err(|error| ConfigError::new("JWT_SECRET", format!("cannot sign a token: {error}")))
}

/// The subject of a token that was signed with this key.
pub fn subject(secret: &str, token: &str) -> Option<String> {
    let key = DecodingKey::from_secret(secret.as_bytes());
    let claims = decode::<Claims>(token, &key, &Validation::new(Algorithm::HS256)).ok()?;
    Some(claims.claims.sub)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tokens_of_this_key_have_a_subject() {
        let token = sign("0123456789abcdef0123456789abcdef", "pod-1").unwrap();
        let read = |secret| subject(secret, &token);
        assert_eq!(read("0123456789abcdef0123456789abcdef").as_deref(), Some("pod-1"));
        assert_eq!(read("another key, of the same length.."), None);
        assert_eq!(subject("0123456789abcdef0123456789abcdef", "x.y.z"), None);
    }
}
