//! `bounds.yaml` is the one table of bounds: each field that the app or the seed reads has its cases there.

use std::collections::BTreeSet;

use flashsale_operator::crd::{custom_resource_definition, reserved};
use serde::Deserialize;

#[derive(Deserialize)]
struct Bound {
    field: String,
    setting: Option<String>,
}

fn bounds() -> Vec<Bound> {
    serde_norway::from_str(include_str!("../../../bounds.yaml")).unwrap()
}

/// Settings of the app that no field declares: values of Secrets, which `secrets.rs` and `event_secrets.rs` check, and what the
/// operator itself computes.
const NOT_DECLARED: [&str; 31] = [
    "DATABASE_CA_FILE",
    "DATABASE_URL",
    "EVENTS_NATS_CA_FILE",
    "EVENTS_NATS_CREDENTIALS",
    "EVENTS_NATS_NKEY",
    "EVENTS_NATS_PASSWORD",
    "EVENTS_NATS_TOKEN",
    "EVENTS_NATS_USERNAME",
    "EVENTS_WEBHOOK_CA_FILE",
    "EVENTS_WEBHOOK_SECRET",
    "INVITE_CODES",
    "JWKS_AUDIENCE",
    "JWKS_FILE",
    "JWKS_ISSUER",
    "JWT_ACCEPTED_SECRET",
    "JWT_SECRET",
    "LISTEN",
    "LOCK_LONGEST_LEASE_SECONDS",
    "LOG_FORMAT",
    "METRICS_LISTEN",
    "OPERATOR_TOKEN",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_TRACES_SAMPLER",
    "REDIS_CA_FILE",
    "REDIS_NODES",
    "REDIS_PASSWORD",
    "SALE_NAME",
    "STRIPE_WEBHOOK_FILE",
    "TLS_CERT_FILE",
    "TLS_KEY_FILE",
    "USE_REDLOCK",
];

#[test]
fn each_setting_that_a_field_declares_has_its_bounds_in_the_table() {
    let bounds = bounds();
    let bounded: BTreeSet<&str> = bounds.iter().filter_map(|it| it.setting.as_deref()).collect();
    let left_to_users = [reserved::APP, reserved::SEED]
        .into_iter()
        .flat_map(|part| part.settings)
        .map(|it| it.name);
    let set: BTreeSet<&str> = reserved::APP.env().into_iter().chain(left_to_users).collect();
    let unbounded: Vec<&str> = set.difference(&bounded).copied().collect();
    assert_eq!(unbounded, NOT_DECLARED, "all others need cases in bounds.yaml");
    let unknown: Vec<&&str> = bounded.difference(&set).collect();
    assert!(unknown.is_empty(), "no setting of the operator: {unknown:?}");
}

#[test]
fn each_setting_that_a_pod_template_may_give_has_its_bounds_in_the_table() {
    let bounds = bounds();
    for (part, reserved) in [("app", reserved::APP), ("seed", reserved::SEED)] {
        let field = format!("spec.{part}.podTemplate.env[0]");
        assert!(!reserved.settings.is_empty(), "{part}");
        for name in reserved.settings.iter().map(|it| it.name) {
            let is_bounded = |it: &Bound| it.field == field && it.setting.as_deref() == Some(name);
            assert!(bounds.iter().any(is_bounded), "{part}: {name} needs cases in bounds.yaml");
            assert!(!reserved.env().contains(&name), "{part}: {name} is the operator's");
        }
    }
}

#[test]
fn each_field_of_a_product_has_its_bounds_in_the_table() {
    let definition = serde_json::to_value(custom_resource_definition().unwrap()).unwrap();
    let products = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/products";
    let product = definition.pointer(&format!("{products}/items/properties")).unwrap();
    let bounds = bounds();
    for field in product.as_object().unwrap().keys() {
        let field = format!("spec.products[0].{field}");
        let below = format!("{field}.");
        let is_bounded = |it: &Bound| it.field == field || it.field.starts_with(&below);
        assert!(bounds.iter().any(is_bounded), "{field} needs cases in bounds.yaml");
    }
}
