//! Signed tokens of buyers.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

/// The claim that stands for a person, in a sale that limits persons.
pub(super) const PERSON: &str = "person";

const LIFETIME: Duration = Duration::from_hours(24);

/// A token of a buyer. `is_person`: with the claim, in which each buyer is a person.
pub(super) fn sign(secret: &str, buyer: &str, is_person: bool) -> Result<String> {
    let exp = (SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)? + LIFETIME).as_secs();
    let mut claims = json!({"sub": buyer, "exp": exp});
    if is_person {
        claims[PERSON] = format!("of-{buyer}").into();
    }
    let key = EncodingKey::from_secret(secret.as_bytes());
    encode(&Header::default(), &claims, &key).context("cannot sign a token")
}

/// 32 random bytes as text.
pub(super) fn secret() -> Result<String> {
    let mut text = String::new();
    for byte in rand::random::<[u8; 32]>() {
        write!(text, "{byte:02x}")?;
    }
    Ok(text)
}
