//! A second sale on a database.

use flashsale_operator::crd::{FlashSale, Phase};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::cluster::{NAME, condition, reconcile_once, report};
use crate::support::{Operator, apply, minimal, namespace};

/// The text of the app (`app/tests/databases.rs`), as the kubelet reports it.
const LOG: &str = "flashsale-app: the database belongs to the sale \"shop/last-year\", and this is the \
                   sale \"claimed/black-friday\": give this sale a database of its own; or, when ...";

#[tokio::test]
async fn a_second_sale_on_a_database_is_refused_with_the_name_of_the_first() {
    let (client, namespace) = namespace("claimed").await;
    let operator = Operator::idle().await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let secret = serde_json::from_value(json!({
        "metadata": { "name": "shop-db" }, "stringData": { "uri": "postgres://a:b@db/shop" },
    }))
    .unwrap();
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    let mut sale = minimal(NAME);
    sale["spec"]["database"] = json!({ "secretRef": { "name": "shop-db" } });
    apply(&client, &namespace, &sale).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    crate::cluster::pods_are_ready(&client, &namespace, "black-friday-redis", 5).await;

    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let pod = serde_json::from_value(json!({
        "metadata": { "name": "seed", "labels": {
            "app.kubernetes.io/instance": NAME, "app.kubernetes.io/component": "seed",
            "app.kubernetes.io/managed-by": "flashsale-operator",
        } },
        "spec": { "containers": [{ "name": "seed", "image": "app:1" }] },
    }))
    .unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let terminated = json!({ "terminated": { "exitCode": 1, "reason": "Error", "message": LOG } });
    let status = json!({ "phase": "Failed", "containerStatuses": [{
        "name": "seed", "image": "app:1", "imageID": "", "ready": false, "restartCount": 0,
        "state": terminated,
    }] });
    report(&pods, "seed", status).await;
    reconcile_once(&operator, &client, &namespace).await;

    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    let said = sales.get(NAME).await.unwrap();
    assert_eq!(condition(&said, "DatabaseReady"), ("False", "DatabaseClaimed"));
    assert_eq!(condition(&said, "Ready"), ("False", "DatabaseClaimed"));
    let status = said.status.unwrap();
    let message = &status.conditions.iter().find(|it| it.type_ == "Ready").unwrap().message;
    assert!(message.contains("belongs to the sale shop/last-year: give this sale"), "{message}");
    assert!(message.contains("release-database shop/last-year"), "{message}");
    assert_eq!(status.phase, Phase::Failed, "it does not become ready by itself");
}
