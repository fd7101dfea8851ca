//! Events of orders.

use flashsale_operator::flash_sale::dereference::{EventSecrets, References};
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
    let events = EventSecrets {
        webhook_key: Some(data(&[(key, value)])),
        webhook_ca: Some(authorities),
        ..EventSecrets::default()
    };
    References { events, ..references() }
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
    renewed.events.webhook_ca = Some(data(&[("ca.crt", "-----BEGIN CERTIFICATE-----\nx")]));
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
    let mut lacking = with("k", KEY);
    lacking.events.webhook_key = None;
    let missing = message(lacking).unwrap();
    assert!(missing.contains("Secret events does not exist"), "{missing}");
    let mut lacking = with("k", KEY);
    lacking.events.webhook_ca = None;
    let missing = message(lacking).unwrap();
    assert!(missing.contains("Secret ca does not exist"), "{missing}");
    let mut wrong = with("k", KEY);
    wrong.events.webhook_ca = Some(data(&[("ca.crt", "x")]));
    assert!(message(wrong).unwrap().contains("ca.crt must be"));
}

const NATS: &str = "events: {nats: {servers: ['nats://a', 'tls://b:4223'], subject: 'shop.{state}', stream: ORDERS, \
                    states: [paid], secretRef: {name: nats}, authoritiesRef: {name: ca}}}";

fn with_nats(entries: &[(&str, &str)]) -> References {
    let events = EventSecrets {
        nats: Some(data(entries)),
        nats_ca: Some(data(&[("ca.crt", "-----BEGIN CERTIFICATE-----")])),
        ..EventSecrets::default()
    };
    References { events, ..references() }
}

#[test]
fn the_app_is_told_of_the_stream_and_gets_the_log_in_of_the_secret() {
    let container = container(&built(NATS, with_nats(&[("token", "t")])));
    let env = container.env.unwrap();
    for (name, expected) in [
        ("EVENTS_NATS_SERVERS", "nats://a,tls://b:4223"),
        ("EVENTS_NATS_SUBJECT", "shop.{state}"),
        ("EVENTS_NATS_STREAM", "ORDERS"),
        ("EVENTS_NATS_STATES", "paid"),
        ("EVENTS_NATS_CA_FILE", "/etc/flashsale-events-nats/ca.crt"),
    ] {
        assert_eq!(value(&env, name), expected);
    }
    for (name, key) in [
        ("EVENTS_NATS_USERNAME", "username"),
        ("EVENTS_NATS_PASSWORD", "password"),
        ("EVENTS_NATS_TOKEN", "token"),
        ("EVENTS_NATS_NKEY", "nkey"),
        ("EVENTS_NATS_CREDENTIALS", "creds"),
    ] {
        let variable = env.iter().find(|variable| variable.name == name).unwrap();
        let source = variable.value_from.as_ref().unwrap().secret_key_ref.as_ref().unwrap();
        assert_eq!(
            (source.name.as_str(), source.key.as_str(), source.optional),
            ("nats", key, Some(true))
        );
    }
    let mounts = container.volume_mounts.unwrap();
    assert!(mounts.iter().any(|mount| mount.mount_path == "/etc/flashsale-events-nats"));

    let least = "events: {nats: {servers: ['nats://a'], subject: a}}";
    let env = crate::build::container(&built(least, references())).env.unwrap();
    assert_eq!(events(&env), ["EVENTS_NATS_SERVERS", "EVENTS_NATS_SUBJECT"]);
}

#[test]
fn a_changed_log_in_restarts_the_replicas() {
    let template = |references: References| {
        let deployment = built(NATS, references).app;
        deployment.spec.unwrap().template.metadata.unwrap().annotations.unwrap()
    };
    let before = template(with_nats(&[("token", "t")]));
    assert_eq!(before, template(with_nats(&[("token", "t"), ("other", "x")])));
    assert_ne!(before, template(with_nats(&[("token", "u")])));
    let mut renewed = with_nats(&[("token", "t")]);
    renewed.events.nats_ca = Some(data(&[("ca.crt", "-----BEGIN CERTIFICATE-----\nx")]));
    assert_ne!(before, template(renewed));
}

#[test]
fn a_log_in_that_the_app_would_refuse_is_named() {
    let message = |references: References| {
        validate(&sale(NATS), references, &images()).err().map(|refusal| refusal.message)
    };
    let seed = "SUAP53KWOVQSKFT5IHP33SRIENTAZZUVMC4OCUZGBDCE6NMWYZLUAWSSYQ";
    let file = "-----BEGIN NATS USER JWT-----\n-----BEGIN USER NKEY SEED-----";
    for right in [
        &[("username", "u"), ("password", "p")][..],
        &[("token", "t")],
        &[("nkey", seed)],
        &[("creds", file)],
    ] {
        assert_eq!(message(with_nats(right)), None, "{right:?}");
    }
    for (wrong, expected) in [
        (&[][..], "Secret nats: username is required with password, or token, nkey or creds"),
        (&[("token", "\n")][..], "Secret nats: username is required with password, or token"),
        (&[("username", "u")][..], "Secret nats: password is required with username"),
        (
            &[("password", "p"), ("token", "t")][..],
            "Secret nats: username is required with password",
        ),
        (&[("token", "t"), ("creds", file)][..], "Secret nats: creds can't be with another log-in"),
        (&[("nkey", "hunter2")][..], "Secret nats: nkey must be the seed"),
        (&[("creds", "hunter2")][..], "Secret nats: creds must be a credentials file"),
    ] {
        let refused = message(with_nats(wrong)).unwrap();
        assert!(refused.starts_with(expected), "{refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
    }
    let mut missing = with_nats(&[]);
    missing.events.nats = None;
    assert!(message(missing).unwrap().starts_with("Secret nats does not exist; create it with"));
    let mut missing = with_nats(&[("token", "t")]);
    missing.events.nats_ca = None;
    assert!(message(missing).unwrap().contains("Secret ca does not exist"));
}
