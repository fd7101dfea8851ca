//! The steps that take no client and no clock, fed with plain YAML.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod argocd;
mod backup;
mod bounds;
mod build;
mod cause;
mod cel;
mod certificates;
mod claimed;
mod configuration;
mod containers;
mod counts;
mod defaults;
mod events;
mod exposure;
mod hibernation;
mod images;
mod kstatus;
mod network;
mod nodes;
mod pause;
mod payments;
mod phase;
mod placement;
mod pods;
mod prewarm;
mod probes;
mod redis;
mod restarts;
mod seed;
mod sign_up;
mod status;
mod stores_tls;
mod stores_tls_servers;
mod tls;
mod tracing;
mod validate;

use std::collections::BTreeMap;

use flashsale_operator::config::DefaultImages;
use flashsale_operator::crd::FlashSale;
use flashsale_operator::flash_sale::dereference::{References, SecretData};
use k8s_openapi::ByteString;

/// The sale of the fixture, changed by YAML that is merged into its spec.
fn sale(changes: &str) -> FlashSale {
    let mut sale: serde_json::Value =
        serde_norway::from_str(include_str!("../fixtures/sale.yaml")).unwrap();
    let changes: serde_json::Value = serde_norway::from_str(changes).unwrap();
    merge(&mut sale["spec"], changes);
    serde_json::from_value(sale).unwrap()
}

fn merge(into: &mut serde_json::Value, changes: serde_json::Value) {
    match changes {
        serde_json::Value::Object(changes) => {
            for (key, value) in changes {
                merge(&mut into[key], value);
            }
        }
        serde_json::Value::Null => {}
        other => *into = other,
    }
}

fn images() -> DefaultImages {
    DefaultImages {
        app: Some("flashsale-app:1".to_owned()),
        redis: Some("redis:1".to_owned()),
        postgres: Some("postgres:1".to_owned()),
    }
}

fn data(entries: &[(&str, &str)]) -> SecretData {
    let entry = |&(key, value): &(&str, &str)| (key.to_owned(), ByteString(value.into()));
    entries.iter().map(entry).collect::<BTreeMap<_, _>>()
}

/// References on the second reconcile: the Secrets exist.
fn references() -> References {
    let auth = [
        ("jwt-secret", "a key of the tests, thirty-two bytes or more"),
        ("admin-id", "admin"),
        ("admin-password", "open sesame"),
    ];
    References {
        auth: Some(data(&auth)),
        redis: Some(data(&[("password", "r")])),
        operator: Some(data(&[
            ("token", "the operator's token, thirty-two bytes or more"),
            ("checksum-key", "a random key"),
        ])),
        database: Some(data(&[
            ("uri", "postgres://u:p@h/d"),
            ("username", "u"),
            ("password", "p"),
            ("database", "d"),
        ])),
        tls: Some(data(&[
            ("tls.crt", "-----BEGIN CERTIFICATE-----\n"),
            ("tls.key", "-----BEGIN PRIVATE KEY-----\n"),
        ])),
        stripe: Some(data(&[("webhook-secret", "whsec_of_the_tests")])),
        database_exists: true,
        ..References::default()
    }
}
