//! Secrets of the user that are deleted while the sale is ready: the sale names them, and no part of it changes.

use std::time::Duration;

use flashsale_operator::crd::{FlashSale, Phase};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::controller::Action;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cluster::{
    NAME, app_is_rolled_out, condition, owned, pods_are_ready, reconcile_once, seed_completes,
};
use crate::support::{Operator, apply, minimal, namespace, wait_for};

/// All that the sale names, each with what it needs.
fn secrets() -> [Value; 5] {
    let secret =
        |name: &str, values: Value| json!({ "metadata": { "name": name }, "stringData": values });
    let certificate = json!({
        "tls.crt": "-----BEGIN CERTIFICATE-----", "tls.key": "-----BEGIN PRIVATE KEY-----",
    });
    [
        secret("shop-auth", json!({ "jwt-secret": "0123456789abcdef0123456789abcdef" })),
        secret("shop-db", json!({ "uri": "postgres://a:b@db/shop" })),
        secret("shop-tls", certificate),
        secret("shop-events", json!({ "webhook-key": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" })),
        secret("shop-stripe", json!({ "webhook-secret": "whsec_of_the_tests" })),
    ]
}

fn sale() -> Value {
    let named = |name: &str| json!({ "secretRef": { "name": name } });
    let mut sale = minimal(NAME);
    let spec = &mut sale["spec"];
    spec["auth"] = named("shop-auth");
    spec["database"] = named("shop-db");
    spec["app"] = json!({ "tls": named("shop-tls") });
    spec["events"] = json!({ "webhook": {
        "url": "https://shop.example/events", "secretRef": { "name": "shop-events" },
    } });
    spec["payments"] = json!({ "stripe": named("shop-stripe") });
    sale
}

async fn create(api: &Api<Secret>, secret: &Value) {
    let secret: Secret = serde_json::from_value(secret.clone()).unwrap();
    api.create(&PostParams::default(), &secret).await.unwrap();
}

/// The sale and its Secrets.
async fn declare(client: &Client, namespace: &str) {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    for secret in &secrets() {
        create(&api, secret).await;
    }
    apply(client, namespace, &sale()).await.unwrap();
}

/// What the controllers report; the database is not the sale's own.
async fn parts_run(client: &Client, namespace: &str) {
    pods_are_ready(client, namespace, "black-friday-redis", 5).await;
    app_is_rolled_out(client, namespace).await;
    seed_completes(client, namespace, "").await;
}

#[tokio::test]
async fn a_deleted_secret_is_named_and_no_part_changes() {
    let (client, namespace) = namespace("secrets-deleted").await;
    let operator = Operator::idle().await;
    declare(&client, &namespace).await;
    reconcile_once(&operator, &client, &namespace).await;
    parts_run(&client, &namespace).await;
    reconcile_once(&operator, &client, &namespace).await;
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    assert_eq!(condition(&sales.get(NAME).await.unwrap(), "Ready"), ("True", "AllReady"));
    let before = owned(&client, &namespace).await;
    for part in ["Deployment black-friday", "StatefulSet black-friday-redis"] {
        assert!(before.contains_key(part), "{before:?}");
    }

    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    for secret in &secrets() {
        let name = secret["metadata"]["name"].as_str().unwrap();
        api.delete(name, &DeleteParams::default()).await.unwrap();
        let action = reconcile_once(&operator, &client, &namespace).await;
        assert_eq!(action, Action::requeue(Duration::from_secs(5)), "{name}");
        let sale = sales.get(NAME).await.unwrap();
        assert_eq!(condition(&sale, "Ready"), ("False", "SecretMissing"), "{name}");
        assert_eq!(condition(&sale, "Reconciling"), ("True", "SecretMissing"), "{name}");
        assert_eq!(condition(&sale, "Degraded"), ("True", "SecretMissing"), "{name}");
        assert_eq!(condition(&sale, "RedisReady").0, "True", "{name}: the parts run on");
        let status = sale.status.unwrap();
        assert_eq!(status.phase, Phase::Degraded, "{name}");
        let ready = status.conditions.iter().find(|it| it.type_ == "Ready").unwrap();
        let missing = format!("Secret {name} does not exist; create it with ");
        assert!(ready.message.starts_with(&missing), "{ready:?}");
        assert_eq!(owned(&client, &namespace).await, before, "{name} is away");

        create(&api, secret).await;
        reconcile_once(&operator, &client, &namespace).await;
        let sale = sales.get(NAME).await.unwrap();
        assert_eq!(condition(&sale, "Ready"), ("True", "AllReady"), "{name}");
        assert_eq!(condition(&sale, "Degraded"), ("", ""), "{name}");
        assert_eq!(sale.status.unwrap().phase, Phase::Open, "{name}");
        assert_eq!(owned(&client, &namespace).await, before, "{name} is back");
    }
}

fn ready(status: &'static str, reason: &'static str) -> impl Fn(Option<&FlashSale>) -> bool {
    move |sale| sale.is_some_and(|sale| condition(sale, "Ready") == (status, reason))
}

/// The resync is later than the deadline: only the watch is in time.
#[tokio::test]
async fn a_deleted_secret_reaches_the_sale_at_once() {
    let (client, namespace) = namespace("secrets-deleted-watch").await;
    let _operator = Operator::start(&namespace).await;
    declare(&client, &namespace).await;
    parts_run(&client, &namespace).await;
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    wait_for(&sales, NAME, ready("True", "AllReady")).await;
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    for secret in &secrets() {
        let name = secret["metadata"]["name"].as_str().unwrap();
        api.delete(name, &DeleteParams::default()).await.unwrap();
        wait_for(&sales, NAME, ready("False", "SecretMissing")).await;
        create(&api, secret).await;
        wait_for(&sales, NAME, ready("True", "AllReady")).await;
    }
}
