//! TLS of the Redis nodes and of the database on a real API server: the operator's certificates, and what is refused.

use flashsale_operator::crd::{FlashSale, Phase};
use flashsale_operator::flash_sale::certificates::EXPIRES;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::{NAME, condition, owned, reconcile_once, report};
use crate::support::{Operator, apply, minimal, namespace};

const SECRET: &str = "black-friday-stores-tls";

fn sale(tls: &Value) -> Value {
    let mut sale = minimal(NAME);
    sale["spec"]["stores"] = json!({ "tls": tls });
    sale
}

/// Moves a time in an annotation of the Secret.
async fn annotate(secrets: &Api<Secret>, annotation: &str, from_now: SignedDuration) {
    let time = Timestamp::now().checked_add(from_now).unwrap().to_string();
    let patch = json!({ "metadata": { "annotations": { annotation: time } } });
    secrets.patch(SECRET, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

#[tokio::test]
async fn the_operator_makes_certificates_and_renews_them_in_two_steps() {
    let (client, namespace) = namespace("stores-tls").await;
    let operator = Operator::idle().await;
    apply(&client, &namespace, &sale(&json!({ "mode": "Managed" }))).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &namespace);
    let first = secrets.get(SECRET).await.unwrap();
    assert_eq!(first.owner_references()[0].name, NAME);
    let keys = |secret: &Secret| secret.data.as_ref().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&first), ["ca.crt", "tls.crt", "tls.key"]);
    let template = sets.get("black-friday-redis").await.unwrap().metadata.generation;
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    let status = sales.get(NAME).await.unwrap().status.unwrap();
    assert_eq!(status.secrets.get(SECRET), first.metadata.resource_version.as_ref());
    let end: Timestamp = first.annotations()[EXPIRES].parse().unwrap();
    let known = status.stores_certificate_not_after.map(|end| end.0.as_second());
    assert_eq!(known, Some(end.as_second()));

    // Nothing is due, and nothing is written.
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(secrets.get(SECRET).await.unwrap(), first);

    // 29 days before the end, the next certificate is published, and an hour later it is used.
    annotate(&secrets, EXPIRES, SignedDuration::from_hours(29 * 24)).await;
    reconcile_once(&operator, &client, &namespace).await;
    let published = secrets.get(SECRET).await.unwrap();
    assert_eq!(keys(&published)[1..3], ["next-tls.crt", "next-tls.key"]);
    let of = |secret: &Secret, key: &str| secret.data.as_ref().unwrap()[key].clone();
    assert_eq!(of(&published, "tls.crt"), of(&first, "tls.crt"));
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(secrets.get(SECRET).await.unwrap(), published, "not before the hour is over");
    let due = "flashsale.dev/certificate-promote-at";
    annotate(&secrets, due, SignedDuration::from_secs(-1)).await;
    reconcile_once(&operator, &client, &namespace).await;
    let promoted = secrets.get(SECRET).await.unwrap();
    assert_eq!(keys(&promoted), ["ca.crt", "tls.crt", "tls.key"]);
    assert_eq!(of(&promoted, "tls.crt"), of(&published, "next-tls.crt"));
    assert_eq!(of(&promoted, "ca.crt"), of(&published, "ca.crt"));
    let after = sets.get("black-friday-redis").await.unwrap().metadata.generation;
    assert_eq!(after, template, "no pod restarts");

    // A deleted Secret is made again.
    secrets.delete(SECRET, &DeleteParams::default()).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert_ne!(of(&secrets.get(SECRET).await.unwrap(), "tls.crt"), of(&promoted, "tls.crt"));
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_left_alone() {
    let (client, namespace) = namespace("stores-tls-taken").await;
    let operator = Operator::idle().await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let foreign: Secret =
        serde_json::from_value(json!({ "metadata": { "name": SECRET } })).unwrap();
    let foreign = secrets.create(&PostParams::default(), &foreign).await.unwrap();
    apply(&client, &namespace, &sale(&json!({ "mode": "Managed" }))).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    let sale = sales.get(NAME).await.unwrap();
    assert_eq!(condition(&sale, "Ready"), ("False", "NameTaken"));
    assert_eq!(secrets.get(SECRET).await.unwrap(), foreign);
    assert!(owned(&client, &namespace).await.is_empty(), "nothing is half there");
}

#[tokio::test]
async fn the_mode_names_its_secret_and_changes_only_without_pods() {
    let (client, namespace) = namespace("stores-tls-mode").await;
    let operator = Operator::idle().await;
    for (tls, expected) in [
        (json!({ "mode": "Secret" }), "stores.tls.secretRef is required"),
        (json!({ "mode": "Managed", "secretRef": { "name": "a" } }), "must be absent"),
        (json!({ "mode": "On" }), "Unsupported value"),
        (json!({}), "Required value"),
    ] {
        let refused = apply(&client, &namespace, &sale(&tls)).await.unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
    // Before the parts are created, everything can be changed.
    apply(&client, &namespace, &sale(&json!({ "mode": "Managed" }))).await.unwrap();
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let refused = apply(&client, &namespace, &sale(&json!({ "mode": "Managed" }))).await;
    let refused = refused.unwrap_err().to_string();
    let expected =
        "stores.tls.mode can't be changed while the sale has pods: first set hibernation.mode";
    assert!(refused.contains(expected), "{refused}");
    // The default by its name is no change.
    apply(&client, &namespace, &sale(&json!({ "mode": "Disabled" }))).await.unwrap();

    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    report(&sales, NAME, json!({ "phase": Phase::Hibernated })).await;
    apply(&client, &namespace, &sale(&json!({ "mode": "Managed" }))).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &namespace);
    let redis = sets.get("black-friday-redis").await.unwrap();
    let arguments = redis.spec.unwrap().template.spec.unwrap().containers.remove(0).args.unwrap();
    assert_eq!(arguments[..3], ["--port", "0", "--tls-port"]);
    // And off again: no volume of it is left.
    report(&sales, NAME, json!({ "phase": Phase::Hibernated })).await;
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let redis = sets.get("black-friday-redis").await.unwrap();
    assert_eq!(redis.spec.unwrap().template.spec.unwrap().volumes, None);
}

#[tokio::test]
async fn a_named_secret_is_waited_for_and_its_renewal_restarts_nothing() {
    let (client, namespace) = namespace("stores-tls-named").await;
    let operator = Operator::idle().await;
    let tls = json!({ "mode": "Secret", "secretRef": { "name": "shop-stores" } });
    apply(&client, &namespace, &sale(&tls)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    assert_eq!(condition(&sales.get(NAME).await.unwrap(), "Ready"), ("False", "SecretMissing"));
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let certificate = "-----BEGIN CERTIFICATE-----";
    let secret: Secret = serde_json::from_value(json!({
        "metadata": { "name": "shop-stores" },
        "type": "kubernetes.io/tls",
        "stringData": {
            "tls.crt": certificate, "tls.key": "-----BEGIN PRIVATE KEY-----", "ca.crt": certificate,
        },
    }))
    .unwrap();
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &namespace);
    let generations = async || {
        let of = async |name| sets.get(name).await.unwrap().metadata.generation;
        (of("black-friday-redis").await, of("black-friday-db").await)
    };
    let before = generations().await;
    let renewed = json!({ "stringData": { "tls.crt": format!("{certificate}\nrenewed") } });
    let patch = Patch::Merge(renewed);
    secrets.patch("shop-stores", &PatchParams::default(), &patch).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(generations().await, before);
    assert!(secrets.get_opt(SECRET).await.unwrap().is_none());
    let kept = secrets.get("shop-stores").await.unwrap();
    assert!(kept.owner_references().is_empty());
}
