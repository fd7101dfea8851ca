//! The operator's default images change while sales run.

use std::sync::Arc;

use flashsale_operator::config::DefaultImages;
use flashsale_operator::crd::FlashSale;
use flashsale_operator::flash_sale::app_client::DatabaseReport;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::cluster::{NAME, everything_runs, reconcile_once};
use crate::retained::{claim, delete};
use crate::support::{Operator, apply, minimal, namespace};

const SETS: [&str; 2] = ["black-friday-redis", "black-friday-db"];

async fn operator(redis: &str, postgres: &str) -> Operator {
    let mut operator = Operator::idle().await;
    let context = Arc::get_mut(&mut operator.context).unwrap();
    context.images = DefaultImages {
        redis: Some(redis.to_owned()),
        postgres: Some(postgres.to_owned()),
        ..context.images.clone()
    };
    operator
}

/// Image and generation of both `StatefulSets`.
async fn sets(client: &Client, namespace: &str) -> Vec<(String, i64)> {
    let api: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let mut found = Vec::new();
    for name in SETS {
        let set = api.get(name).await.unwrap();
        let pods = set.spec.clone().unwrap().template.spec.unwrap();
        found.push((pods.containers[0].image.clone().unwrap(), set.metadata.generation.unwrap()));
    }
    found
}

/// Status and message of `Ready`, and of `Stalled`.
async fn ready_and_stalled(client: &Client, namespace: &str) -> (String, String) {
    let api: Api<FlashSale> = Api::namespaced(client.clone(), namespace);
    let conditions = api.get(NAME).await.unwrap().status.unwrap().conditions;
    let of = |type_| {
        let found = conditions.iter().find(|it| it.type_ == type_);
        found.map(|it| format!("{} {}: {}", it.status, it.reason, it.message)).unwrap_or_default()
    };
    (of("Ready"), of("Stalled"))
}

#[tokio::test]
async fn a_sale_keeps_its_images_and_its_volume_the_version_that_made_it() {
    let (client, namespace) = namespace("images").await;
    let before = operator("redis:7.2", "postgres:16").await;
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    reconcile_once(&before, &client, &namespace).await;
    everything_runs(&client, &namespace).await;
    *before.app.0.lock().unwrap() = Some(Vec::new());
    let database = DatabaseReport { id: Some("1".to_owned()), version: Some(16) };
    *before.app.1.lock().unwrap() = Some(database);
    reconcile_once(&before, &client, &namespace).await;
    let running = sets(&client, &namespace).await;
    drop(before);

    let later = operator("valkey/valkey:9.1", "postgres:18").await;
    reconcile_once(&later, &client, &namespace).await;
    assert_eq!(sets(&client, &namespace).await, running, "an upgrade of the operator");

    let mut declared = minimal(NAME);
    declared["spec"]["database"] = json!({ "image": "postgres:18" });
    declared["spec"]["redis"] = json!({ "image": "redis:8.0" });
    apply(&client, &namespace, &declared).await.unwrap();
    reconcile_once(&later, &client, &namespace).await;
    let (ready, stalled) = ready_and_stalled(&client, &namespace).await;
    assert!(ready.starts_with("False ChangeRefused: spec.database.image: postgres:18"), "{ready}");
    assert!(stalled.starts_with("True ChangeRefused"), "{stalled}");
    let refused = sets(&client, &namespace).await;
    assert_eq!(refused[0].0, "redis:8.0", "the rest of the change is applied");
    assert_eq!(refused[1], running[1]);

    // The orders outlive the sale with their version.
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let annotations = secrets.get(SETS[1]).await.unwrap().annotations().clone();
    assert_eq!(annotations["flashsale.dev/database-image"], "postgres:16");
    assert_eq!(annotations["flashsale.dev/database-version"], "16");
    claim(&client, &namespace, SETS[1]).await;
    Box::pin(delete(&client, &namespace, NAME)).await;
    let mut adopting = minimal(NAME);
    adopting["spec"]["database"] = json!({ "adopt": NAME });
    apply(&client, &namespace, &adopting).await.unwrap();
    reconcile_once(&later, &client, &namespace).await;
    let adopted: Vec<_> = sets(&client, &namespace).await.into_iter().map(|it| it.0).collect();
    assert_eq!(adopted, ["valkey/valkey:9.1", "postgres:16"]);
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    sales.delete(NAME, &DeleteParams::default()).await.unwrap();
}
