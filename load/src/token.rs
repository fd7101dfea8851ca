//! Signs and verifies tokens with the sale's key: the API accepts the subject of every validly signed token as a buyer.

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use crate::error::ConfigError;

/// Longer than any scenario: a buyer of the last second must still be accepted.
const LIFETIME_SECONDS: i64 = 24 * 3600;
/// The audience of a pod's token. The sale signs no token with an audience, so no buyer has one.
const LOAD_POD: &str = "flashsale-load-pod";

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    exp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    aud: Option<String>,
}

impl Claims {
    fn new(subject: &str) -> Self {
        let exp = Timestamp::now().as_second() + LIFETIME_SECONDS;
        Self { sub: subject.to_owned(), exp, role: None, aud: None }
    }

    fn sign(&self, secret: &str) -> Result<String, ConfigError> {
        let key = EncodingKey::from_secret(secret.as_bytes());
        encode(&Header::new(Algorithm::HS256), self, &key).map_err(|error| {
            ConfigError::new("JWT_SECRET", format!("cannot sign a token: {error}"))
        })
    }
}

/// A token for one user.
pub fn sign(secret: &str, subject: &str) -> Result<String, ConfigError> {
    Claims::new(subject).sign(secret)
}

/// A token for an administrator.
pub fn sign_admin(secret: &str, subject: &str) -> Result<String, ConfigError> {
    Claims { role: Some("admin".to_owned()), ..Claims::new(subject) }.sign(secret)
}

/// A token for a pod of a run.
pub fn sign_pod(secret: &str, subject: &str) -> Result<String, ConfigError> {
    Claims { aud: Some(LOAD_POD.to_owned()), ..Claims::new(subject) }.sign(secret)
}

/// The subject of a pod's token that was signed with this key.
pub fn pod_subject(secret: &str, token: &str) -> Option<String> {
    let key = DecodingKey::from_secret(secret.as_bytes());
    let mut rules = Validation::new(Algorithm::HS256);
    rules.set_required_spec_claims(&["exp", "aud"]);
    rules.set_audience(&[LOAD_POD]);
    Some(decode::<Claims>(token, &key, &rules).ok()?.claims.sub)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn only_tokens_of_this_key_have_a_subject() {
        let token = sign_pod(SECRET, "pod-1").unwrap();
        let read = |secret| pod_subject(secret, &token);
        assert_eq!(read(SECRET).as_deref(), Some("pod-1"));
        assert_eq!(read("another key, of the same length.."), None);
        assert_eq!(pod_subject(SECRET, "x.y.z"), None);
    }

    #[test]
    fn only_tokens_for_pods_have_a_subject() {
        for token in [sign(SECRET, "pod-1"), sign_admin(SECRET, "pod-1")] {
            assert_eq!(pod_subject(SECRET, &token.unwrap()), None);
        }
        let of_shop = Claims { aud: Some("shop".to_owned()), ..Claims::new("pod-1") };
        assert_eq!(pod_subject(SECRET, &of_shop.sign(SECRET).unwrap()), None);
    }
}
