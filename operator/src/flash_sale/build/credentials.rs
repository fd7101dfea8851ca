//! Secrets that the operator generates once, and the checksums that restart pods after a change.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rand::RngExt;
use rand::distr::Alphanumeric;
use reqwest::Url;

use super::checksum::{hash, hash_secret};
use super::metadata::metadata;
use crate::flash_sale::credentials::Credentials;
use crate::flash_sale::dereference::SecretData;
use crate::flash_sale::names::{self, Component, SALE_UID};
use crate::flash_sale::retained;
use crate::flash_sale::secrets::{CHECKSUM_KEY, OPERATOR_TOKEN};
use crate::flash_sale::validate::ValidatedSale;

/// Optional settings in the Secret of `auth`: the app's environment variable and the key in the Secret.
pub(super) const AUTH_SETTINGS: [(&str, &str); 4] = [
    ("JWT_ACCEPTED_SECRET", "jwt-secret-accepted"),
    ("JWKS_ISSUER", "jwks-issuer"),
    ("JWKS_AUDIENCE", "jwks-audience"),
    ("INVITE_CODES", "invite-codes"),
];
/// Key of the identity provider's public keys in the same Secret. The app reloads them by itself.
pub(super) const JWKS: &str = "jwks.json";

/// Key of the password with which the app connects to the Redis nodes.
pub(super) const REDIS_PASSWORD: &str = "password";
/// Key of a second password that the nodes accept while the first one is being changed.
pub(super) const REDIS_ACCEPTED: &str = "password-accepted";

/// Passwords for Secrets that do not exist yet. They are generated outside of `build`, which stays pure.
#[derive(Clone, Debug)]
pub struct Passwords {
    jwt: String,
    admin: String,
    redis: String,
    database: String,
    checksums: String,
    operator: String,
}

impl Passwords {
    /// Random passwords of letters and digits, which need no escaping in a URI.
    #[must_use]
    pub fn generate() -> Self {
        let random = |length| rand::rng().sample_iter(Alphanumeric).take(length).map(char::from);
        Self {
            jwt: random(48).collect(),
            admin: random(20).collect(),
            redis: random(32).collect(),
            database: random(32).collect(),
            checksums: random(48).collect(),
            operator: random(48).collect(),
        }
    }

    /// Constant passwords, for tests that compare outputs.
    #[must_use]
    pub fn fixed() -> Self {
        let fixed = |what: &str| format!("{what}-of-a-test-that-is-long-enough-for-a-key");
        Self {
            jwt: fixed("jwt"),
            admin: fixed("admin"),
            redis: fixed("redis"),
            database: fixed("database"),
            checksums: fixed("checksums"),
            operator: fixed("operator"),
        }
    }
}

/// The Secrets of a sale after this reconcile.
pub(super) struct Secrets {
    /// Secrets to create; existing ones are never changed.
    pub missing: Vec<Secret>,
    /// Checksum of the signing key.
    pub auth_checksum: String,
    /// Checksum of the Redis password that the app uses.
    pub redis_checksum: String,
    /// Checksum of all passwords that the Redis nodes accept, whatever their order.
    pub accepted_checksum: String,
    /// Checksum of the connection URI, including user and password.
    pub database_checksum: String,
    /// Checksum of the token that the app requires of the operator.
    pub operator_checksum: String,
    /// Checksum of what the app uses of the Secrets of events; absent: it sends none.
    pub events_checksum: Option<String>,
    /// Checksum of the administrator's id and password.
    pub admin_checksum: String,
    /// Checksum of the database's address: another user or password is still the same database.
    pub database_address: String,
}

pub(super) fn build(sale: &ValidatedSale, passwords: &Passwords) -> Secrets {
    let host = format!("{}.{}.svc", sale.own_database, sale.namespace);
    let password = &passwords.database;
    let uri = format!("postgres://flashsale:{password}@{host}:{}/flashsale", names::DATABASE_PORT);
    let auth = data(&[
        ("jwt-secret", &passwords.jwt),
        ("admin-id", "admin"),
        ("admin-password", &passwords.admin),
    ]);
    let redis = data(&[(REDIS_PASSWORD, &passwords.redis)]);
    let operator =
        data(&[(OPERATOR_TOKEN, &passwords.operator), (CHECKSUM_KEY, &passwords.checksums)]);
    let database = data(&[
        ("uri", &uri),
        ("username", "flashsale"),
        ("password", password),
        ("database", "flashsale"),
    ]);
    let uri_key = sale.spec.database.secret_ref.as_ref().map_or("uri", |external| &external.key);

    let admin_checksum = admin_checksum(sale.auth.data.as_ref().unwrap_or(&auth));
    let current_uri = sale.database.data.as_ref().unwrap_or(&database).get(uri_key);
    let database_address = hash(&current_uri.map(|uri| address(&uri.0)));

    let mut missing = Vec::new();
    let mut create_missing = |component, credentials: &Credentials, fresh: &SecretData| {
        if credentials.data.is_some() {
            return;
        }
        let mut metadata = metadata(sale, credentials.secret.clone(), component);
        if component == Component::Database {
            let policy = sale.spec.database.deletion_policy;
            metadata.owner_references = Some(retained::owners(&[], &sale.owner, policy));
            metadata.annotations = Some([(SALE_UID.to_owned(), sale.owner.uid.clone())].into());
        }
        missing.push(Secret { metadata, data: Some(fresh.clone()), ..Secret::default() });
    };
    create_missing(Component::App, &sale.auth, &auth);
    create_missing(Component::Redis, &sale.redis_auth, &redis);
    create_missing(Component::Database, &sale.database, &database);
    create_missing(Component::App, &sale.operator_auth, &operator);

    let own = sale.operator_auth.data.as_ref().unwrap_or(&operator);
    let checksum_key = own.get(CHECKSUM_KEY).map_or(&[][..], |key| &key.0);
    let checksum = |credentials: &Credentials, fresh: &SecretData, key: &str| {
        hash_secret(checksum_key, &credentials.data.as_ref().unwrap_or(fresh).get(key))
    };
    let mut auth_checksum = checksum(&sale.auth, &auth, "jwt-secret");
    let more: Vec<_> = AUTH_SETTINGS.iter().filter(|(_, key)| sale.auth.has(key)).collect();
    if let Some(found) = sale.auth.data.as_ref().filter(|_| !more.is_empty()) {
        let values: Vec<_> = more.iter().map(|(name, key)| (name, found.get(*key))).collect();
        auth_checksum = hash_secret(checksum_key, &(auth_checksum, values));
    }
    let redis_checksum = checksum(&sale.redis_auth, &redis, REDIS_PASSWORD);
    let mut accepted: Vec<_> = [REDIS_PASSWORD, REDIS_ACCEPTED]
        .iter()
        .filter_map(|key| sale.redis_auth.data.as_ref().unwrap_or(&redis).get(*key))
        .filter(|password| !password.0.is_empty())
        .collect();
    accepted.sort();
    accepted.dedup();
    let accepted_checksum = hash_secret(checksum_key, &accepted);
    let database_checksum = checksum(&sale.database, &database, uri_key);
    let operator_checksum = checksum(&sale.operator_auth, &operator, OPERATOR_TOKEN);
    let events_checksum =
        (!sale.events_values.is_empty()).then(|| hash_secret(checksum_key, &sale.events_values));
    Secrets {
        missing,
        auth_checksum,
        redis_checksum,
        accepted_checksum,
        database_checksum,
        operator_checksum,
        events_checksum,
        admin_checksum,
        database_address,
    }
}

/// Includes the signing key as a salt. The checksum becomes part of a name that more users can read than the Secret,
/// and a weak password could otherwise be found by brute force.
fn admin_checksum(auth: &SecretData) -> String {
    hash(&["jwt-secret", "admin-id", "admin-password"].map(|key| auth.get(key)))
}

/// Host, port, database and parameters of a connection URI, without user and password wherever they stand. Its checksum
/// has no key, so a password in it could be found by brute force.
fn address(uri: &[u8]) -> String {
    let uri = String::from_utf8_lossy(uri);
    let rest = uri.trim().split_once("://").map_or(uri.trim(), |(_, rest)| rest);
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let Some((path, query)) = path.split_once('?') else {
        return format!("{host}{path}");
    };
    let kept: Vec<&str> = query.split('&').filter(|parameter| !is_credential(parameter)).collect();
    if kept.is_empty() {
        return format!("{host}{path}");
    }
    format!("{host}{path}?{}", kept.join("&"))
}

/// Whether the app's driver takes a user or a password from this parameter. Its name may be percent-encoded.
fn is_credential(parameter: &str) -> bool {
    Url::parse(&format!("postgres://host?{parameter}"))
        .is_ok_and(|url| url.query_pairs().any(|(name, _)| matches!(&*name, "user" | "password")))
}

fn data(entries: &[(&str, &str)]) -> BTreeMap<String, ByteString> {
    let entry = |&(key, value): &(&str, &str)| (key.to_owned(), ByteString(value.into()));
    entries.iter().map(entry).collect()
}
