//! Secrets that the operator makes, and those it is given.

use std::time::Duration;

use flashsale_operator::controller::Scope;
use flashsale_operator::crd::{FlashSale, Phase};
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use serde_json::json;

use crate::cluster::{NAME, condition, everything_runs, in_phase, owned, reconcile_once};
use crate::retained;
use crate::support::{
    Operator, Server, apply, create_namespace, eventually, minimal, namespace, wait_for,
};

#[tokio::test]
async fn secrets_are_generated_once() {
    let (client, namespace) = namespace("secrets").await;
    let operator = Operator::idle().await;
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let names = ["black-friday-auth", "black-friday-redis", "black-friday-db"];
    let mut before = Vec::new();
    for name in names {
        before.push(secrets.get(name).await.unwrap());
    }
    assert!(before[0].data.as_ref().unwrap()["jwt-secret"].0.len() >= 32);
    assert_eq!(before[0].data.as_ref().unwrap()["admin-id"].0, b"admin");
    reconcile_once(&operator, &client, &namespace).await;
    for (name, before) in names.iter().zip(before) {
        assert_eq!(secrets.get(name).await.unwrap(), before);
    }

    // The database keeps the password it was created with: a new one would lock the app out.
    secrets.delete("black-friday-db", &DeleteParams::default()).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    let sale = sales.get(NAME).await.unwrap();
    assert_eq!(condition(&sale, "Ready"), ("False", "SecretMissing"));
    assert!(secrets.get_opt("black-friday-db").await.unwrap().is_none());
}

/// The resync is later than the deadline: only the watch is in time.
#[tokio::test]
async fn a_changed_secret_reaches_the_sale_at_once_and_the_status_names_its_version() {
    let (client, namespace) = namespace("watched-secret").await;
    let _operator = Operator::start(&namespace).await;
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let version =
        |sale: &FlashSale| sale.status.as_ref()?.secrets.get("black-friday-redis").cloned();
    everything_runs(&client, &namespace).await;
    // A sale that is not ready would be reconciled every few seconds.
    wait_for(&sales, NAME, in_phase(Phase::Open)).await;

    let second = json!({ "stringData": { "password-accepted": "another" } });
    let patch = Patch::Merge(second);
    let changed =
        secrets.patch("black-friday-redis", &PatchParams::default(), &patch).await.unwrap();
    let wanted = changed.metadata.resource_version;
    wait_for(&sales, NAME, |sale: Option<&FlashSale>| sale.and_then(version) == wanted).await;
}

/// A release with `watchSecrets=false`.
#[tokio::test]
async fn without_the_right_to_watch_secrets_a_sale_opens_and_reads_them_once_a_minute() {
    const SHOP: &str = "shop";
    let server = Server::bare().await.with_rights(&["watchSecrets=false"]).await;
    let client = server.admin();
    create_namespace(&client, SHOP).await;
    let unseen: Api<Secret> = Api::namespaced(server.operator(), SHOP);
    let refused = unseen.list_metadata(&ListParams::default()).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused}");

    let operator = Operator::run(server.operator(), Scope::of([SHOP]));
    apply(&client, SHOP, &minimal(NAME)).await.unwrap();
    everything_runs(&client, SHOP).await;
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), SHOP);
    wait_for(&sales, NAME, in_phase(Phase::Open)).await;

    // No watch covers the Secrets, so the next reconcile comes within a minute, also of a sale at rest.
    for _ in 0..3 {
        let action = reconcile_once(&operator, &client, SHOP).await;
        assert_eq!(action, Action::requeue(Duration::from_mins(1)));
    }
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SHOP);
    let second = Patch::Merge(json!({ "stringData": { "password-accepted": "another" } }));
    let changed =
        secrets.patch("black-friday-redis", &PatchParams::default(), &second).await.unwrap();
    reconcile_once(&operator, &client, SHOP).await;
    let seen = sales.get(NAME).await.unwrap().status.unwrap().secrets.remove("black-friday-redis");
    assert_eq!(seen, changed.metadata.resource_version);

    // What a deleted sale left is found by name.
    Box::pin(retained::claim(&client, SHOP, "black-friday-db")).await;
    retained::delete(&client, SHOP, NAME).await;
    let selector = format!("{}={NAME}", retained::RETAINED);
    eventually("both are labelled", async || {
        (retained::listed(&client, SHOP, &selector).await.len() == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_external_database_is_waited_for_and_its_rotation_honoured() {
    let (client, namespace) = namespace("external").await;
    let operator = Operator::idle().await;
    let mut sale = minimal(NAME);
    sale["spec"]["database"] = json!({ "secretRef": { "name": "shop-db" } });
    apply(&client, &namespace, &sale).await.unwrap();
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);

    let action = reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(action, Action::requeue(Duration::from_secs(5)));
    let sale = sales.get(NAME).await.unwrap();
    assert_eq!(sale.status.as_ref().unwrap().phase, Phase::Pending);
    assert_eq!(condition(&sale, "Ready"), ("False", "SecretMissing"));
    assert!(owned(&client, &namespace).await.is_empty(), "nothing is half there");

    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let mut secret: Secret = serde_json::from_value(json!({
        "metadata": { "name": "shop-db" }, "stringData": { "uri": "postgres://a:b@db/shop" },
    }))
    .unwrap();
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let parts = owned(&client, &namespace).await;
    assert!(!parts.contains_key("StatefulSet black-friday-db"));

    let apps: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    let template = async || {
        let app = apps.get(NAME).await.unwrap();
        app.spec.unwrap().template.metadata.unwrap().annotations.unwrap()
    };
    let before = template().await;
    secret = secrets.get("shop-db").await.unwrap();
    let uri = ByteString(b"postgres://a:rotated@db/shop".to_vec());
    secret.data.as_mut().unwrap().insert("uri".to_owned(), uri);
    secrets.replace("shop-db", &PostParams::default(), &secret).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let after = template().await;
    assert_ne!(
        before["flashsale.dev/database-checksum"], after["flashsale.dev/database-checksum"],
        "the app restarts with the new password"
    );
    assert_eq!(before["flashsale.dev/auth-checksum"], after["flashsale.dev/auth-checksum"]);
}
