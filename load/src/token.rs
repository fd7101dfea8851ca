//! Signs the users' tokens: the API accepts the subject of every validly signed token as a buyer.

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;

use crate::error::ConfigError;

const LIFETIME_SECONDS: i64 = 3600;

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    exp: i64,
}

/// A token for one user.
pub fn sign(secret: &str, subject: &str) -> Result<String, ConfigError> {
    let claims = Claims { sub: subject, exp: Timestamp::now().as_second() + LIFETIME_SECONDS };
    let key = EncodingKey::from_secret(secret.as_bytes());
    encode(&Header::new(Algorithm::HS256), &claims, &key)
        .map_err(|error| ConfigError::new("JWT_SECRET", format!("cannot sign a token: {error}")))
}
