//! Sales without pods.

use flashsale_operator::crd::{FlashSale, Phase, ProductStatus};
use flashsale_operator::flash_sale::app_client::Unfinished;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::{NAME, condition, everything_runs, reconcile_once, report, sale};
use crate::support::{Operator, apply, minimal, namespace};

/// A Secret that a sale names.
const STRIPE: &str = "shop-stripe";

fn phase(sale: &FlashSale) -> Phase {
    sale.status.as_ref().unwrap().phase
}

/// Declared replicas of the app, the Redis nodes and the database.
async fn replicas(client: &Client, namespace: &str) -> [i32; 3] {
    let apps: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let set = async |name| sets.get(name).await.unwrap().spec.unwrap().replicas.unwrap();
    [
        apps.get(NAME).await.unwrap().spec.unwrap().replicas.unwrap(),
        set("black-friday-redis").await,
        set("black-friday-db").await,
    ]
}

/// What the controllers report once all pods are gone.
async fn pods_are_gone(client: &Client, namespace: &str) {
    let apps: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let generation = apps.get(NAME).await.unwrap().metadata.generation;
    let none = json!({
        "observedGeneration": generation, "replicas": null, "updatedReplicas": null,
        "readyReplicas": null, "availableReplicas": null,
    });
    report(&apps, NAME, none).await;
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    for name in ["black-friday-redis", "black-friday-db"] {
        let generation = sets.get(name).await.unwrap().metadata.generation;
        let none = json!({
            "observedGeneration": generation, "replicas": 0, "updatedReplicas": null,
            "readyReplicas": null, "availableReplicas": null,
        });
        report(&sets, name, none).await;
    }
}

/// A replica of the app that still runs.
async fn pod(client: &Client, namespace: &str) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pod = serde_json::from_value(json!({
        "metadata": { "name": "last", "labels": {
            "app.kubernetes.io/instance": NAME, "app.kubernetes.io/component": "app",
            "app.kubernetes.io/managed-by": "flashsale-operator",
        } },
        "spec": { "containers": [{ "name": "app", "image": "app:1" }] },
    }))
    .unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
}

async fn seeds(client: &Client, namespace: &str) -> Vec<String> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    jobs.list(&ListParams::default()).await.unwrap().iter().map(ResourceExt::name_any).collect()
}

fn with_mode(mode: &str) -> Value {
    let mut sale = minimal(NAME);
    sale["spec"]["hibernation"] = json!({ "mode": mode });
    sale["spec"]["app"] = json!({
        "autoscaling": { "maxReplicas": 6 }, "resources": { "requests": { "cpu": "1" } },
    });
    sale
}

/// An open sale with 40 of 100 sold.
async fn open_sale(operator: &Operator, client: &Client, namespace: &str) -> ProductStatus {
    apply(client, namespace, &with_mode("Never")).await.unwrap();
    reconcile_once(operator, client, namespace).await;
    everything_runs(client, namespace).await;
    let counts = ProductStatus { id: "1".to_owned(), stock: 100, sold: 40, remaining: 60 };
    *operator.app.0.lock().unwrap() = Some(vec![counts.clone()]);
    reconcile_once(operator, client, namespace).await;
    assert_eq!(phase(&sale(client, namespace).await), Phase::Open);
    counts
}

#[tokio::test]
async fn a_sale_hibernates_and_wakes_by_one_field() {
    let (client, namespace) = namespace("hibernate").await;
    let operator = Operator::idle().await;
    let counts = open_sale(&operator, &client, &namespace).await;
    let seeded = seeds(&client, &namespace).await;

    apply(&client, &namespace, &with_mode("Now")).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(replicas(&client, &namespace).await, [0, 0, 0]);
    let said = sale(&client, &namespace).await;
    assert_eq!(condition(&said, "Ready"), ("False", "Hibernating"), "pods may still run");
    *operator.app.0.lock().unwrap() = None;
    pods_are_gone(&client, &namespace).await;
    // Kubernetes does not count pods that are terminating.
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    pod(&client, &namespace).await;
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(condition(&sale(&client, &namespace).await, "Ready"), ("False", "Hibernating"));
    pods.delete("last", &DeleteParams::default().grace_period(0)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;

    // Ready: what is declared is reached, so that Flux and `kubectl wait` go on.
    let said = sale(&client, &namespace).await;
    assert_eq!(phase(&said), Phase::Hibernated);
    assert_eq!(condition(&said, "Ready"), ("True", "Hibernated"));
    assert_eq!(condition(&said, "RedisReady"), ("False", "Hibernated"));
    assert_eq!(condition(&said, "AppAvailable"), ("False", "Hibernated"));
    assert_eq!(condition(&said, "StockSeeded"), ("True", "Seeded"));
    assert_eq!(said.status.as_ref().unwrap().products, [counts], "the counts are kept");
    assert_eq!(seeds(&client, &namespace).await, seeded);
    let scalers: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), &namespace);
    assert!(scalers.get(NAME).await.is_ok(), "it rests while there are no replicas");

    apply(&client, &namespace, &with_mode("Never")).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(replicas(&client, &namespace).await, [3, 5, 1]);
    assert_eq!(seeds(&client, &namespace).await, seeded, "the stock is not seeded again");
    let said = sale(&client, &namespace).await;
    assert_eq!(phase(&said), Phase::Provisioning);
    everything_runs(&client, &namespace).await;
    reconcile_once(&operator, &client, &namespace).await;
    let said = sale(&client, &namespace).await;
    assert_eq!((phase(&said), condition(&said, "Ready").0), (Phase::Open, "True"));
}

#[tokio::test]
async fn a_hibernating_sale_is_not_seeded_and_keeps_its_volumes() {
    let (client, namespace) = namespace("hibernate-raise").await;
    let operator = Operator::idle().await;
    open_sale(&operator, &client, &namespace).await;
    let seeded = seeds(&client, &namespace).await;
    let mut asleep = with_mode("Now");
    apply(&client, &namespace, &asleep).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    pods_are_gone(&client, &namespace).await;
    reconcile_once(&operator, &client, &namespace).await;

    asleep["spec"]["products"][0]["stock"] = json!(150);
    apply(&client, &namespace, &asleep).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(seeds(&client, &namespace).await, seeded, "no Job could succeed");
    assert_eq!(condition(&sale(&client, &namespace).await, "Ready"), ("True", "Hibernated"));
    for part in ["redis", "database"] {
        let mut other = asleep.clone();
        other["spec"][part] = json!({ "storage": { "className": "other" } });
        let refused = apply(&client, &namespace, &other).await.unwrap_err().to_string();
        assert!(refused.contains(&format!("{part}.storage can no longer be changed")), "{refused}");
    }

    asleep["spec"]["hibernation"]["mode"] = json!("Never");
    apply(&client, &namespace, &asleep).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert_ne!(seeds(&client, &namespace).await, seeded, "the raised stock is seeded now");
}

#[tokio::test]
async fn a_seed_that_runs_ends_with_the_other_pods() {
    let (client, namespace) = namespace("hibernate-seed").await;
    let operator = Operator::idle().await;
    apply(&client, &namespace, &with_mode("Never")).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(seeds(&client, &namespace).await.len(), 1);
    apply(&client, &namespace, &with_mode("Now")).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert!(seeds(&client, &namespace).await.is_empty());
}

async fn create_stripe(client: &Client, namespace: &str) {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = serde_json::from_value(json!({
        "metadata": { "name": STRIPE }, "stringData": { "webhook-secret": "whsec_of_the_tests" },
    }))
    .unwrap();
    secrets.create(&PostParams::default(), &secret).await.unwrap();
}

/// A hibernating sale names the Secret, which is missing at first and in the end.
async fn secret_comes_and_goes(operator: &Operator, client: &Client, namespace: &str) {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let missing = async || {
        reconcile_once(operator, client, namespace).await;
        let said = sale(client, namespace).await;
        assert_eq!(condition(&said, "Ready"), ("False", "SecretMissing"));
        assert_eq!(phase(&said), Phase::Hibernated);
        assert_eq!(replicas(client, namespace).await, [0, 0, 0]);
    };
    missing().await;
    create_stripe(client, namespace).await;
    reconcile_once(operator, client, namespace).await;
    assert_eq!(phase(&sale(client, namespace).await), Phase::Hibernated);
    assert_eq!(replicas(client, namespace).await, [0, 0, 0]);
    secrets.delete(STRIPE, &DeleteParams::default()).await.unwrap();
    missing().await;
}

#[tokio::test]
async fn only_a_sale_that_is_over_hibernates_by_the_clock() {
    let (client, namespace) = namespace("hibernate-end").await;
    let operator = Operator::idle().await;
    let mut declared = with_mode("AfterEnd");
    let refused = apply(&client, &namespace, &declared).await.unwrap_err().to_string();
    assert!(refused.contains("hibernation.mode AfterEnd needs endsAt"), "{refused}");
    declared["spec"]["hibernation"] = json!({ "mode": "Now", "delay": "1h" });
    let refused = apply(&client, &namespace, &declared).await.unwrap_err().to_string();
    assert!(refused.contains("hibernation.delay needs hibernation.mode: AfterEnd"), "{refused}");

    open_sale(&operator, &client, &namespace).await;
    declared["spec"]["hibernation"] = json!({ "mode": "AfterEnd", "delay": "0s" });
    declared["spec"]["endsAt"] = json!("2999-01-01T00:00:00Z");
    apply(&client, &namespace, &declared).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(replicas(&client, &namespace).await, [3, 5, 1], "it is open");
    pod(&client, &namespace).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    report(&pods, "last", json!({ "phase": "Running" })).await;

    declared["spec"]["endsAt"] = json!("2026-11-01T00:00:00Z");
    apply(&client, &namespace, &declared).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(replicas(&client, &namespace).await, [3, 5, 1], "a replica sells by former times");
    pods.delete("last", &DeleteParams::default().grace_period(0)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(phase(&sale(&client, &namespace).await), Phase::Ended);
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(replicas(&client, &namespace).await, [0, 0, 0]);
    // It stays so.
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(phase(&sale(&client, &namespace).await), Phase::Hibernated);
    assert_eq!(replicas(&client, &namespace).await, [0, 0, 0]);

    // Even if a Secret that the sale names does not exist for some time.
    declared["spec"]["payments"] = json!({ "stripe": { "secretRef": { "name": STRIPE } } });
    apply(&client, &namespace, &declared).await.unwrap();
    secret_comes_and_goes(&operator, &client, &namespace).await;

    // It still wakes on demand, once the Secret is back.
    declared["spec"]["hibernation"] = json!({ "mode": "Never" });
    apply(&client, &namespace, &declared).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(replicas(&client, &namespace).await, [0, 0, 0], "the Secret is missing");
    create_stripe(&client, &namespace).await;
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(replicas(&client, &namespace).await, [3, 5, 1]);
    assert_ne!(phase(&sale(&client, &namespace).await), Phase::Hibernated);
}

#[tokio::test]
async fn a_sale_that_is_over_keeps_its_pods_while_holds_are_open() {
    let (client, namespace) = namespace("hibernate-unfinished").await;
    let operator = Operator::idle().await;
    open_sale(&operator, &client, &namespace).await;
    let unfinished = |holds| Some(Unfinished { holds, ..Unfinished::default() });
    *operator.app.4.lock().unwrap() = unfinished(2);
    // Without an answer, the pods would wait for another half an hour.
    let ended = Timestamp::now().as_second() - 90 * 60;
    let mut declared = with_mode("AfterEnd");
    declared["spec"]["endsAt"] = json!(Timestamp::from_second(ended).unwrap().to_string());
    apply(&client, &namespace, &declared).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(phase(&sale(&client, &namespace).await), Phase::Ended);
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(replicas(&client, &namespace).await, [3, 5, 1]);
    let said = sale(&client, &namespace).await;
    assert_eq!(phase(&said), Phase::Ended);
    assert_eq!(condition(&said, "HibernationDelayed"), ("True", "Unfinished"));
    let mut conditions = said.status.as_ref().unwrap().conditions.iter();
    let delayed = conditions.find(|it| it.type_ == "HibernationDelayed").unwrap();
    assert_eq!(delayed.message, "hibernation waits for holds: 2");

    *operator.app.4.lock().unwrap() = unfinished(0);
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(replicas(&client, &namespace).await, [0, 0, 0]);
    let said = sale(&client, &namespace).await;
    assert_eq!(phase(&said), Phase::Hibernated);
    assert_eq!(condition(&said, "HibernationDelayed"), ("", ""));

    // The status may not have been written, and nobody can be asked any more.
    *operator.app.0.lock().unwrap() = None;
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    report(&sales, NAME, json!({ "phase": "Ended" })).await;
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(replicas(&client, &namespace).await, [0, 0, 0]);
}
