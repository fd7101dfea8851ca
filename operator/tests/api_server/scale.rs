//! The number of replicas: by `kubectl scale`, by autoscalers of the sale, and by the clock.

use flashsale_operator::crd::FlashSale;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cluster::{NAME, reconcile_once, report};
use crate::support::{Operator, apply, minimal, namespace};

async fn replicas(client: &Client, namespace: &str) -> Option<i32> {
    let apps: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    apps.get(NAME).await.unwrap().spec.unwrap().replicas
}

async fn scale(client: &Client, namespace: &str, replicas: i32) -> kube::Result<()> {
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), namespace);
    let scale = json!({ "spec": { "replicas": replicas } });
    sales.patch_scale(NAME, &PatchParams::default(), &Patch::Merge(scale)).await.map(|_| ())
}

#[tokio::test]
async fn the_sale_is_scaled_and_nothing_resets_it() {
    let (client, namespace) = namespace("scale").await;
    let operator = Operator::idle().await;
    // What an administrator applies names no number, so the field belongs to the one that scales.
    let mut sale = minimal(NAME);
    apply(&client, &namespace, &sale).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(replicas(&client, &namespace).await, Some(3));
    scale(&client, &namespace, 7).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(replicas(&client, &namespace).await, Some(7));
    sale["spec"]["products"][0]["stock"] = json!(101);
    apply(&client, &namespace, &sale).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(replicas(&client, &namespace).await, Some(7), "applied again");

    // What an autoscaler reads.
    let apps: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    report(&apps, NAME, json!({ "replicas": 6, "readyReplicas": 5 })).await;
    reconcile_once(&operator, &client, &namespace).await;
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    let seen = sales.get_scale(NAME).await.unwrap();
    assert_eq!(seen.spec.unwrap().replicas, Some(7));
    let status = seen.status.unwrap();
    assert_eq!(status.replicas, 6);
    let selector = status.selector.unwrap();
    let labels = apps.get(NAME).await.unwrap().spec.unwrap().template.metadata.unwrap().labels;
    let labels = labels.unwrap();
    let pairs: Vec<_> = selector.split(',').map(|pair| pair.split_once('=').unwrap()).collect();
    assert!(pairs.iter().all(|(key, value)| labels[*key] == *value), "{selector} of {labels:?}");
    assert!(pairs.contains(&("app.kubernetes.io/instance", NAME)), "{selector}");

    for (wrong, message) in [(0, "greater than or equal to 1"), (41, "less than or equal to 40")] {
        let error = scale(&client, &namespace, wrong).await.unwrap_err().to_string();
        assert!(error.contains("spec.app.replicas") && error.contains(message), "{error}");
    }
}

#[tokio::test]
async fn an_autoscaler_may_have_the_sale_as_its_target() {
    let (client, namespace) = namespace("scale-hpa").await;
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), &namespace);
    let target =
        json!({ "apiVersion": "flashsale.dev/v1beta1", "kind": "FlashSale", "name": NAME });
    let autoscaler = serde_json::from_value(json!({
        "metadata": { "name": "shop" },
        "spec": { "scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 20 },
    }))
    .unwrap();
    autoscalers.create(&PostParams::default(), &autoscaler).await.unwrap();
}

#[tokio::test]
async fn with_the_operator_s_own_autoscaler_scale_sets_the_minimum() {
    let (client, namespace) = namespace("scale-own").await;
    let operator = Operator::idle().await;
    let mut sale = minimal(NAME);
    sale["spec"]["app"] = json!({ "autoscaling": { "maxReplicas": 8 } });
    apply(&client, &namespace, &sale).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    scale(&client, &namespace, 5).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), &namespace);
    assert_eq!(autoscalers.get(NAME).await.unwrap().spec.unwrap().min_replicas, Some(5));
    assert_eq!(replicas(&client, &namespace).await, Some(5));
    let error = scale(&client, &namespace, 9).await.unwrap_err().to_string();
    assert!(error.contains("app.autoscaling.maxReplicas must be at least app.replicas"), "{error}");
}

#[tokio::test]
async fn replicas_are_ready_before_the_start() {
    let (client, namespace) = namespace("prewarm").await;
    let operator = Operator::idle().await;
    let starting_in = |minutes: i64| -> Value {
        let start = Timestamp::now() + SignedDuration::from_mins(minutes);
        let mut sale = minimal(NAME);
        sale["spec"]["startsAt"] = json!(start.to_string());
        sale["spec"]["app"] = json!({
            "prewarm": { "replicas": 10, "before": "10m" }, "autoscaling": { "maxReplicas": 12 },
        });
        sale
    };
    let minimum = async || {
        let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), &namespace);
        autoscalers.get(NAME).await.unwrap().spec.unwrap().min_replicas
    };
    apply(&client, &namespace, &starting_in(20)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!((replicas(&client, &namespace).await, minimum().await), (Some(3), Some(3)));
    apply(&client, &namespace, &starting_in(9)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!((replicas(&client, &namespace).await, minimum().await), (Some(10), Some(10)));
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    let sale = sales.get(NAME).await.unwrap();
    let status = sale.status.unwrap();
    assert_eq!(status.app.unwrap().summary, "0/10");
    let available = status.conditions.iter().find(|it| it.type_ == "AppAvailable").unwrap();
    assert_eq!(available.message, "0 of 10 replicas available");
    apply(&client, &namespace, &starting_in(-11)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(minimum().await, Some(3));
}
