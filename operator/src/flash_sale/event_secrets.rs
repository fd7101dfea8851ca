//! Validation of the Secrets of events of orders.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;

use super::credentials::{Credentials, SECRET_RETRY};
use super::dereference::{EventSecrets, SecretData};
use super::names::CA_CERTIFICATE;
use super::not_ready::NotReady;
use super::secrets::{check_ca, contains, invalid, value};
use crate::crd::{EventNats, EventWebhook, FlashSaleSpec, SecretName};

/// Keys of the Secret of NATS, and the settings of the app that have their values.
pub(super) const NATS_KEYS: [(&str, &str); 5] = [
    ("username", "EVENTS_NATS_USERNAME"),
    ("password", "EVENTS_NATS_PASSWORD"),
    ("token", "EVENTS_NATS_TOKEN"),
    ("nkey", "EVENTS_NATS_NKEY"),
    ("creds", "EVENTS_NATS_CREDENTIALS"),
];

/// Checks the Secrets of events, and returns the values that the app uses.
pub(super) fn check(
    spec: &FlashSaleSpec,
    found: EventSecrets,
) -> Result<Vec<ByteString>, NotReady> {
    let Some(events) = &spec.events else { return Ok(Vec::new()) };
    let mut values = Vec::new();
    if let Some(webhook) = &events.webhook {
        values.extend(check_webhook(webhook, found.webhook_key)?);
        values.extend(check_authorities(webhook.authorities_ref.as_ref(), found.webhook_ca)?);
    }
    if let Some(nats) = &events.nats {
        values.extend(check_nats(nats, found.nats)?);
        values.extend(check_authorities(nats.authorities_ref.as_ref(), found.nats_ca)?);
    }
    Ok(values)
}

fn check_webhook(
    webhook: &EventWebhook,
    found: Option<SecretData>,
) -> Result<Option<ByteString>, NotReady> {
    let declared = &webhook.secret_ref;
    let secret = Credentials { secret: declared.name.clone(), data: found };
    secret.check(true, &[&declared.key])?;
    let Some(data) = &secret.data else { return Ok(None) };
    check_webhook_key(&secret.secret, &declared.key, data)?;
    Ok(data.get(&declared.key).cloned())
}

fn check_authorities(
    declared: Option<&SecretName>,
    found: Option<SecretData>,
) -> Result<Option<ByteString>, NotReady> {
    let Some(declared) = declared else { return Ok(None) };
    let secret = Credentials { secret: declared.name.clone(), data: found };
    secret.check(true, &[CA_CERTIFICATE])?;
    let Some(data) = &secret.data else { return Ok(None) };
    check_ca(&secret.secret, data)?;
    Ok(data.get(CA_CERTIFICATE).cloned())
}

/// The keys of the log-in and their values.
fn check_nats(nats: &EventNats, found: Option<SecretData>) -> Result<Vec<ByteString>, NotReady> {
    let Some(declared) = &nats.secret_ref else { return Ok(Vec::new()) };
    let secret = &declared.name;
    let data = found.ok_or_else(|| NotReady {
        reason: "SecretMissing",
        message: format!(
            "Secret {secret} does not exist; create it with username and password, or token, nkey or creds"
        ),
        requeue_after: Some(SECRET_RETRY),
    })?;
    check_nats_login(secret, &data)?;
    let used = NATS_KEYS.iter().filter_map(|(key, _)| Some((*key, data.get(*key)?.clone())));
    Ok(used.flat_map(|(key, value)| [ByteString(key.as_bytes().to_vec()), value]).collect())
}

fn check_nats_login(secret: &str, data: &SecretData) -> Result<(), NotReady> {
    let has = |key: &str| value(data, key).is_some();
    let logins = ["username", "token", "nkey", "creds"].into_iter().filter(|key| has(key));
    match logins.collect::<Vec<_>>()[..] {
        _ if has("password") && !has("username") => {
            Err(invalid(secret, "username", "is required with password"))
        }
        ["username"] if !has("password") => {
            Err(invalid(secret, "password", "is required with username"))
        }
        ["nkey"] if !is_seed(data) => {
            Err(invalid(secret, "nkey", "must be the seed of a user's key: SU..."))
        }
        ["creds"] if !is_credentials_file(data) => Err(invalid(
            secret,
            "creds",
            "must be a credentials file of NATS: a user's JWT and the seed of its key",
        )),
        [_] => Ok(()),
        [] => {
            Err(invalid(secret, "username", "is required with password, or token, nkey or creds"))
        }
        [_, second, ..] => {
            Err(invalid(secret, second, "can't be with another log-in: use one of them"))
        }
    }
}

fn is_seed(data: &SecretData) -> bool {
    let seed = value(data, "nkey").unwrap_or_default();
    let is_base32 = |byte: &u8| matches!(byte, b'A'..=b'Z' | b'2'..=b'7');
    seed.len() == 58 && seed.starts_with(b"SU") && seed.iter().all(is_base32)
}

fn is_credentials_file(data: &SecretData) -> bool {
    contains(data, "creds", "-----BEGIN NATS USER JWT-----")
        && contains(data, "creds", "-----BEGIN USER NKEY SEED-----")
}

/// Checks the key of the webhooks of events, as the app does.
fn check_webhook_key(secret: &str, key: &str, data: &SecretData) -> Result<(), NotReady> {
    let text = String::from_utf8_lossy(value(data, key).unwrap_or_default());
    let is_key = |key: &str| {
        let decoded = key.strip_prefix("whsec_").and_then(|key| STANDARD.decode(key).ok());
        decoded.is_some_and(|key| WEBHOOK_KEY_BYTES.contains(&key.len()))
    };
    let mut keys = text.split_whitespace();
    if (1..=2).contains(&keys.clone().count()) && keys.all(is_key) {
        return Ok(());
    }
    let rule = "must be whsec_ and 24 to 64 bytes in base64, or two such keys separated by a blank";
    Err(invalid(secret, key, rule))
}

/// Bytes of the key of webhooks.
const WEBHOOK_KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
