//! Events of orders.

use flashsale_operator::flash_sale::dereference::References;
use flashsale_operator::flash_sale::validate::validate;
use k8s_openapi::api::core::v1::EnvVar;

use crate::build::{built, container, value};
use crate::{data, images, references, sale};

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEXT: &str = "whsec_bmV4dCBrZXkgb2YgdGhlIHRlc3RzLCAzMiBieXRlcy4=";
const WEBHOOK: &str =
    "events: {webhook: {url: 'https://shop.example/events?a=b', secretRef: {name: events}}}";
const ALL: &str = "events: {webhook: {url: 'https://shop.example', secretRef: {name: events, key: k}, \
                   states: [paid, buyer_erased], authoritiesRef: {name: ca}}}";

fn with(key: &str, value: &str) -> References {
    let authorities = data(&[("ca.crt", "-----BEGIN CERTIFICATE-----")]);
    References {
        events_key: Some(data(&[(key, value)])),
        events_ca: Some(authorities),
        ..references()
    }
}

fn events(env: &[EnvVar]) -> Vec<&str> {
    env.iter().map(|it| it.name.as_str()).filter(|name| name.starts_with("EVENTS_")).collect()
}

#[test]
fn the_app_is_told_where_to_send_events() {
    let env = container(&built(WEBHOOK, with("webhook-key", KEY))).env.unwrap();
    assert_eq!(events(&env), ["EVENTS_WEBHOOK_URL", "EVENTS_WEBHOOK_SECRET"]);
    assert_eq!(value(&env, "EVENTS_WEBHOOK_URL"), "https://shop.example/events?a=b");
    let key = env.iter().find(|variable| variable.name == "EVENTS_WEBHOOK_SECRET").unwrap();
    let source = key.value_from.as_ref().unwrap().secret_key_ref.as_ref().unwrap();
    assert_eq!((source.name.as_str(), source.key.as_str()), ("events", "webhook-key"));

    let container = container(&built(ALL, with("k", KEY)));
    let env = container.env.unwrap();
    assert_eq!(value(&env, "EVENTS_WEBHOOK_STATES"), "paid,buyer_erased");
    assert_eq!(value(&env, "EVENTS_WEBHOOK_CA_FILE"), "/etc/flashsale-events/ca.crt");
    let mounts = container.volume_mounts.unwrap();
    assert!(mounts.iter().any(|mount| mount.mount_path == "/etc/flashsale-events"));
}

#[test]
fn without_the_field_the_pods_know_nothing_of_events() {
    assert!(events(&container(&built("", references())).env.unwrap()).is_empty());
}

#[test]
fn a_changed_key_restarts_the_replicas() {
    let template = |references: References| {
        let deployment = built(ALL, references).app;
        deployment.spec.unwrap().template.metadata.unwrap().annotations.unwrap()
    };
    let before = template(with("k", KEY));
    assert_eq!(before, template(with("k", KEY)));
    assert_ne!(before, template(with("k", &format!("{KEY} {NEXT}"))));
    let mut renewed = with("k", KEY);
    renewed.events_ca = Some(data(&[("ca.crt", "-----BEGIN CERTIFICATE-----\nx")]));
    assert_ne!(before, template(renewed));
}

#[test]
fn a_key_that_the_app_would_refuse_is_named() {
    let message = |references: References| {
        validate(&sale(ALL), references, &images()).err().map(|refusal| refusal.message)
    };
    assert_eq!(message(with("k", &format!("{KEY}\n{NEXT}\n"))), None);
    let three = [KEY; 3].join(" ");
    for wrong in ["hunter2", "whsec_aHVudGVyMg==", "whsec_***", three.as_str()] {
        let refused = message(with("k", wrong)).unwrap();
        assert!(refused.starts_with("Secret events: k must be "), "{refused}");
    }
    let missing = message(References { events_key: None, ..with("k", KEY) }).unwrap();
    assert!(missing.contains("Secret events does not exist"), "{missing}");
    let missing = message(References { events_ca: None, ..with("k", KEY) }).unwrap();
    assert!(missing.contains("Secret ca does not exist"), "{missing}");
    let wrong = References { events_ca: Some(data(&[("ca.crt", "x")])), ..with("k", KEY) };
    assert!(message(wrong).unwrap().contains("ca.crt must be"));
}
