//! Validation of the values in a sale's Secrets. The app validates them too, but only at its start, and names
//! environment variables instead of Secret keys.

use std::time::Duration;

use serde_json::Value;

use super::dereference::SecretData;
use super::names::{CA_CERTIFICATE, TLS_CERTIFICATE, TLS_KEY};
use super::not_ready::NotReady;
use crate::crd::SignUp;

/// Key of the token that the app requires of the operator.
pub const OPERATOR_TOKEN: &str = "token";
/// Key of the random value that goes into the checksums of Secrets.
pub const CHECKSUM_KEY: &str = "checksum-key";
/// An invalid Secret is polled as well as watched: the operator may lack the right to watch.
const RETRY: Duration = Duration::from_secs(5);
/// First line of a certificate in PEM.
const CERTIFICATE_MARK: &str = "-----BEGIN CERTIFICATE-----";
/// Minimum length of a signing key, as RFC 7518 requires for HS256.
const KEY_BYTES: usize = 32;

/// Checks signing keys, administrator and identity provider.
///
/// # Errors
/// The first key with an invalid value.
pub fn check_auth(secret: &str, data: &SecretData) -> Result<(), NotReady> {
    let invalid = |key: &str, rule: &str| Err(invalid(secret, key, rule));
    for key in ["jwt-secret", "jwt-secret-accepted"] {
        if value(data, key).is_some_and(|value| value.len() < KEY_BYTES) {
            return invalid(
                key,
                "must have at least 32 bytes; generate one with: openssl rand -hex 32",
            );
        }
    }
    if let Some(keys) = value(data, "jwks.json") {
        let keys: Option<Value> = serde_json::from_slice(keys).ok();
        if !keys.is_some_and(|keys| keys["keys"].is_array()) {
            return invalid("jwks.json", "must be a JSON Web Key Set: {\"keys\": [...]}");
        }
    } else if let Some(key) =
        ["jwks-issuer", "jwks-audience"].into_iter().find(|key| value(data, key).is_some())
    {
        return invalid(key, "requires jwks.json, the provider's public keys");
    }
    let (id, password) = (value(data, "admin-id"), value(data, "admin-password"));
    match (id.map(String::from_utf8_lossy), password.map(String::from_utf8_lossy)) {
        (Some(_), None) => invalid("admin-password", "is required with admin-id"),
        (None, Some(_)) => invalid("admin-id", "is required with admin-password"),
        (Some(id), Some(_)) if !is_account_id(&id) => {
            invalid("admin-id", "must be 1 to 64 letters, digits, '.', '_', '-' or '@'")
        }
        (Some(_), Some(password)) if !(8..=128).contains(&password.chars().count()) => {
            invalid("admin-password", "must have 8 to 128 characters")
        }
        (None, None) | (Some(_), Some(_)) => Ok(()),
    }
}

/// Checks the codes of `app.signUp: Invited`, as the app does.
///
/// # Errors
/// When there is none, or one is too short or too long.
pub fn check_invite_codes(
    secret: &str,
    data: Option<&SecretData>,
    sign_up: Option<SignUp>,
) -> Result<(), NotReady> {
    let codes = data.and_then(|data| value(data, INVITE_CODES)).map(String::from_utf8_lossy);
    if codes.is_none() && sign_up == Some(SignUp::Invited) {
        return Err(invalid(secret, INVITE_CODES, "is required with app.signUp: Invited"));
    }
    let codes = codes.unwrap_or_default();
    if codes.split_whitespace().any(|code| !(8..=128).contains(&code.chars().count())) {
        let rule = "must have codes of 8 to 128 characters, separated by blanks or line ends";
        return Err(invalid(secret, INVITE_CODES, rule));
    }
    Ok(())
}

const INVITE_CODES: &str = "invite-codes";

/// Checks the token that the app requires of the operator.
///
/// # Errors
/// When it is too short for the app.
pub fn check_operator(secret: &str, data: &SecretData) -> Result<(), NotReady> {
    if value(data, OPERATOR_TOKEN).is_some_and(|value| value.len() < KEY_BYTES) {
        let rule = "must have at least 32 bytes; delete the Secret, and the operator generates it";
        return Err(invalid(secret, OPERATOR_TOKEN, rule));
    }
    Ok(())
}

/// Checks the connection URI of a database.
///
/// # Errors
/// When the URI is not that of a `PostgreSQL`.
pub fn check_uri(secret: &str, key: &str, data: &SecretData) -> Result<(), NotReady> {
    let uri = value(data, key).unwrap_or_default();
    if uri.starts_with(b"postgres://") || uri.starts_with(b"postgresql://") {
        return Ok(());
    }
    Err(invalid(secret, key, "must be postgres://user:password@host:port/database"))
}

/// The token that the app requires of the operator, as the app reads it.
#[must_use]
pub fn operator_token(data: &SecretData) -> Option<String> {
    let token = std::str::from_utf8(&data.get(OPERATOR_TOKEN)?.0).ok()?;
    Some(token.trim_end_matches(['\r', '\n']).to_owned())
}

/// Checks that certificate and key are PEM. The app checks that they belong together.
///
/// # Errors
/// When one of them is something else, or the key is encrypted.
pub fn check_tls(secret: &str, data: &SecretData) -> Result<(), NotReady> {
    let has = |key: &str, mark: &str| contains(data, key, mark);
    if !has(TLS_CERTIFICATE, CERTIFICATE_MARK) {
        let rule = "must be a certificate in PEM, followed by its intermediates";
        return Err(invalid(secret, TLS_CERTIFICATE, rule));
    }
    if !has(TLS_KEY, "PRIVATE KEY-----") || has(TLS_KEY, "ENCRYPTED") {
        return Err(invalid(secret, TLS_KEY, "must be an unencrypted private key in PEM"));
    }
    Ok(())
}

/// Checks that the authorities' certificates are PEM.
///
/// # Errors
/// When they are something else.
pub fn check_ca(secret: &str, data: &SecretData) -> Result<(), NotReady> {
    if contains(data, CA_CERTIFICATE, CERTIFICATE_MARK) {
        return Ok(());
    }
    let rule = "must be the certificates of authorities in PEM";
    Err(invalid(secret, CA_CERTIFICATE, rule))
}

pub(super) fn contains(data: &SecretData, key: &str, mark: &str) -> bool {
    String::from_utf8_lossy(value(data, key).unwrap_or_default()).contains(mark)
}

/// The value without trailing whitespace, such as the line end of an editor; an empty value counts as absent.
pub(super) fn value<'a>(data: &'a SecretData, key: &str) -> Option<&'a [u8]> {
    let value = data.get(key)?.0.trim_ascii_end();
    (!value.is_empty()).then_some(value)
}

fn is_account_id(id: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_@".contains(c);
    (1..=64).contains(&id.len()) && id.chars().all(allowed)
}

pub(super) fn invalid(secret: &str, key: &str, rule: &str) -> NotReady {
    NotReady {
        reason: "SecretInvalid",
        message: format!("Secret {secret}: {key} {rule}"),
        requeue_after: Some(RETRY),
    }
}
