//! Sales that are paused by an annotation.

use flashsale_operator::crd::{FlashSale, Phase, condition::RECONCILIATION_PAUSED};
use flashsale_operator::flash_sale::pause::PAUSE;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cluster::{NAME, in_phase, reconcile_once};
use crate::support::{Operator, apply, eventually, minimal, namespace, wait_for};

async fn annotate(client: &Client, namespace: &str, value: Value) {
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), namespace);
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { PAUSE: value } } }));
    sales.patch(NAME, &PatchParams::default(), &patch).await.unwrap();
}

fn paused(sale: Option<&FlashSale>) -> bool {
    let status = sale.and_then(|sale| sale.status.as_ref());
    status.is_some_and(|status| status.is_true(RECONCILIATION_PAUSED))
}

#[tokio::test]
async fn a_paused_sale_is_neither_changed_nor_repaired() {
    let (client, namespace) = namespace("paused").await;
    let operator = Operator::idle().await;
    let mut sale = minimal(NAME);
    apply(&client, &namespace, &sale).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    let apps: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    let services: Api<Service> = Api::namespaced(client.clone(), &namespace);
    let before = apps.get(NAME).await.unwrap();

    annotate(&client, &namespace, "true".into()).await;
    services.delete(NAME, &DeleteParams::default()).await.unwrap();
    sale["spec"]["app"] = json!({ "replicas": 7 });
    apply(&client, &namespace, &sale).await.unwrap();
    for _ in 0..2 {
        reconcile_once(&operator, &client, &namespace).await;
    }
    assert!(services.get_opt(NAME).await.unwrap().is_none(), "a part was repaired");
    let after = apps.get(NAME).await.unwrap();
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version);
    let found = sales.get(NAME).await.unwrap();
    assert!(paused(Some(&found)));
    let generations = (found.metadata.generation, found.status.unwrap().observed_generation);
    assert_eq!(generations, (Some(2), 1), "the change is not observed");

    annotate(&client, &namespace, Value::Null).await;
    reconcile_once(&operator, &client, &namespace).await;
    assert!(services.get_opt(NAME).await.unwrap().is_some());
    assert_eq!(apps.get(NAME).await.unwrap().spec.unwrap().replicas, Some(7));
    let found = sales.get(NAME).await.unwrap();
    assert!(!paused(Some(&found)));
    assert_eq!(found.status.unwrap().observed_generation, 2);
}

#[tokio::test]
async fn a_pause_begins_and_ends_with_its_annotation() {
    let (client, namespace) = namespace("pause").await;
    let _operator = Operator::start(&namespace).await;
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    wait_for(&sales, NAME, in_phase(Phase::Provisioning)).await;

    annotate(&client, &namespace, "true".into()).await;
    wait_for(&sales, NAME, paused).await;
    // The last annotation of the sale goes.
    annotate(&client, &namespace, Value::Null).await;
    wait_for(&sales, NAME, |sale: Option<&FlashSale>| sale.is_some() && !paused(sale)).await;

    let events: Api<Event> = Api::namespaced(client, &namespace);
    eventually("an event of the pause and one of its end", async || {
        let events = events.list(&ListParams::default()).await.unwrap();
        let has = |reason: &str| events.iter().any(|it| it.reason.as_deref() == Some(reason));
        (has("ReconciliationPaused") && has("ReconciliationResumed")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_new_sale_may_be_paused() {
    let (client, namespace) = namespace("paused-new").await;
    let operator = Operator::idle().await;
    let mut sale = minimal(NAME);
    sale["metadata"]["annotations"] = json!({ PAUSE: "true" });
    apply(&client, &namespace, &sale).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    let found = sales.get(NAME).await.unwrap();
    assert!(paused(Some(&found)));
    assert_eq!(found.status.unwrap().observed_generation, -1, "nothing was observed");
    let apps: Api<Deployment> = Api::namespaced(client, &namespace);
    assert!(apps.get_opt(NAME).await.unwrap().is_none());
}
