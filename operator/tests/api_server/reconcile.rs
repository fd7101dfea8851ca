//! What the operator does with sales.

use std::sync::Arc;
use std::time::Duration;

use flashsale_operator::crd::{FlashSale, Phase, ProductStatus};
use flashsale_operator::flash_sale::reconcile;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Api, Client, Resource as _, ResourceExt};
use serde_json::json;

use crate::cluster::{
    NAME, condition, everything_runs, in_phase, owned, pods_are_ready, reconcile_once, report,
    seed_completes,
};
use crate::support::{Operator, PARTS, SEED, apply, eventually, minimal, namespace, wait_for};

#[tokio::test]
async fn an_autoscaler_comes_and_goes_and_its_replicas_are_kept() {
    let (client, namespace) = namespace("autoscaler").await;
    let operator = Operator::idle().await;
    let mut sale = minimal(NAME);
    sale["spec"]["app"] = json!({ "replicas": 2, "autoscaling": { "maxReplicas": 6 } });
    apply(&client, &namespace, &sale).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), &namespace);
    let spec = autoscalers.get(NAME).await.unwrap().spec.unwrap();
    assert_eq!((spec.min_replicas, spec.max_replicas), (Some(2), 6));

    // What the autoscaler decides stays.
    let apps: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    let five = Patch::Merge(json!({ "spec": { "replicas": 5 } }));
    apps.patch_scale(NAME, &PatchParams::default(), &five).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(apps.get(NAME).await.unwrap().spec.unwrap().replicas, Some(5));

    sale["spec"]["app"] = json!({ "replicas": 2 });
    apply(&client, &namespace, &sale).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert!(autoscalers.get_opt(NAME).await.unwrap().is_none());
    assert_eq!(apps.get(NAME).await.unwrap().spec.unwrap().replicas, Some(2));
}

#[tokio::test]
async fn a_sale_gets_all_its_parts_and_becomes_open_then_sold_out() {
    let (client, namespace) = namespace("open").await;
    let operator = Operator::start(&namespace).await;
    let created = apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);

    let sale = wait_for(&sales, NAME, in_phase(Phase::Provisioning)).await;
    assert_eq!(condition(&sale, "RedisReady"), ("False", "NodesAway"));
    assert_eq!(condition(&sale, "DatabaseReady"), ("False", "DatabaseAway"));
    assert_eq!(condition(&sale, "StockSeeded"), ("False", "Seeding"));
    assert_eq!(condition(&sale, "AppAvailable"), ("False", "ReplicasAway"));
    assert_eq!(condition(&sale, "Ready").0, "False");
    let status = sale.status.unwrap();
    assert_eq!(status.observed_generation, created.metadata.generation.unwrap());
    assert_eq!(status.redis.unwrap().summary, "0/5");

    let parts = owned(&client, &namespace).await;
    let seed = parts.keys().find(|part| part.starts_with("Job black-friday-seed-")).unwrap();
    let expected = PARTS.map(|part| if part == SEED { seed.as_str() } else { part });
    assert_eq!(parts.keys().map(String::as_str).collect::<Vec<_>>(), expected);

    let counts = ProductStatus { id: "1".to_owned(), stock: 100, sold: 40, remaining: 60 };
    *operator.app.0.lock().unwrap() = Some(vec![counts.clone()]);
    everything_runs(&client, &namespace).await;
    let sale = wait_for(&sales, NAME, in_phase(Phase::Open)).await;
    assert_eq!(condition(&sale, "Ready"), ("True", "AllReady"));
    let status = sale.status.unwrap();
    assert_eq!(status.redis.unwrap().summary, "5/5");
    assert_eq!(status.app.unwrap().summary, "3/3");
    assert_eq!(status.products, [counts]);
    assert_eq!(status.totals.unwrap().sold, 40);
    assert_eq!(status.url.unwrap(), "http://black-friday.open.svc:8080");

    let all = ProductStatus { id: "1".to_owned(), stock: 100, sold: 100, remaining: 0 };
    *operator.app.0.lock().unwrap() = Some(vec![all]);
    wait_for(&sales, NAME, in_phase(Phase::SoldOut)).await;

    pods_are_ready(&client, &namespace, "black-friday-redis", 2).await;
    let sale = wait_for(&sales, NAME, in_phase(Phase::Degraded)).await;
    assert!(!sale.status.as_ref().unwrap().redis.as_ref().unwrap().quorum);
    assert_eq!(condition(&sale, "Ready"), ("False", "NodesAway"));

    let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
    for reason in ["Provisioning", "Open", "SoldOut", "Degraded"] {
        eventually(reason, async || {
            let events = events.list(&ListParams::default()).await.unwrap().items;
            events.into_iter().find(|event| event.reason.as_deref() == Some(reason))
        })
        .await;
    }
}

/// Deletes an object and waits for another of the same name.
async fn comes_back<K>(client: &Client, namespace: &str, name: &str)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let before = api.get_metadata(name).await.unwrap().uid();
    api.delete(name, &DeleteParams::background()).await.unwrap();
    eventually(name, async || {
        api.get_metadata_opt(name).await.unwrap().filter(|it| it.uid() != before)
    })
    .await;
}

#[tokio::test]
async fn a_child_that_is_deleted_comes_back() {
    let (client, namespace) = namespace("restore").await;
    let _operator = Operator::start(&namespace).await;
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    everything_runs(&client, &namespace).await;

    comes_back::<Service>(&client, &namespace, "black-friday").await;
    comes_back::<ConfigMap>(&client, &namespace, "black-friday-catalog").await;
    comes_back::<Deployment>(&client, &namespace, "black-friday").await;
    comes_back::<StatefulSet>(&client, &namespace, "black-friday-redis").await;
    comes_back::<PodDisruptionBudget>(&client, &namespace, "black-friday-redis").await;
    comes_back::<NetworkPolicy>(&client, &namespace, "black-friday-redis").await;
}

#[tokio::test]
async fn an_idle_sale_is_left_alone() {
    let (client, namespace) = namespace("idle").await;
    let operator = Operator::start(&namespace).await;
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    everything_runs(&client, &namespace).await;
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    wait_for(&sales, NAME, in_phase(Phase::Open)).await;

    // Passes by hand find nothing to change, on any object.
    let by_hand = Operator::idle().await;
    reconcile_once(&by_hand, &client, &namespace).await;
    let before = owned(&client, &namespace).await;
    let sale = sales.get(NAME).await.unwrap().resource_version();
    for _ in 0..3 {
        reconcile_once(&by_hand, &client, &namespace).await;
    }
    assert_eq!(owned(&client, &namespace).await, before);
    assert_eq!(sales.get(NAME).await.unwrap().resource_version(), sale);

    comes_to_rest(&operator).await;
}

/// Waits until the running operator reconciles nothing for three seconds: some of its events may still be on their way.
async fn comes_to_rest(operator: &Operator) {
    let rests = async {
        let mut tick = tokio::time::interval(Duration::from_secs(3));
        tick.tick().await;
        loop {
            let passes = operator.metrics.reconciliations("applied");
            tick.tick().await;
            if operator.metrics.reconciliations("applied") == passes {
                break;
            }
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), rests).await.is_ok(), "hot loop");
}

/// The metrics of an autoscaler change all the time, and no other part does.
#[tokio::test]
async fn changing_metrics_of_an_autoscaler_are_no_reason_to_reconcile() {
    let (client, namespace) = namespace("idle-autoscaler").await;
    let operator = Operator::start(&namespace).await;
    let mut sale = minimal(NAME);
    sale["spec"]["app"] = json!({ "replicas": 3, "autoscaling": { "maxReplicas": 6 } });
    apply(&client, &namespace, &sale).await.unwrap();
    everything_runs(&client, &namespace).await;
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    wait_for(&sales, NAME, in_phase(Phase::Open)).await;

    let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), &namespace);
    let measures = async {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        for utilization in 1.. {
            tick.tick().await;
            let current = json!({ "averageUtilization": utilization, "averageValue": "100m" });
            let cpu =
                json!({ "type": "Resource", "resource": { "name": "cpu", "current": current } });
            let status =
                json!({ "currentReplicas": 3, "desiredReplicas": 3, "currentMetrics": [cpu] });
            report(&autoscalers, NAME, status).await;
        }
    };
    tokio::select! {
        () = comes_to_rest(&operator) => {}
        () = measures => {}
    }

    // Any other change is one: the operator restores what it declared.
    let more = Patch::Merge(json!({ "spec": { "maxReplicas": 9 } }));
    autoscalers.patch(NAME, &PatchParams::default(), &more).await.unwrap();
    let restored = |it: Option<&HorizontalPodAutoscaler>| {
        it.and_then(|it| it.spec.as_ref()).is_some_and(|spec| spec.max_replicas == 6)
    };
    wait_for(&autoscalers, NAME, restored).await;
    comes_back::<HorizontalPodAutoscaler>(&client, &namespace, NAME).await;
}

#[tokio::test]
async fn an_event_in_any_script_is_recorded() {
    let (client, namespace) = namespace("event-note").await;
    let operator = Operator::idle().await;
    let sale = apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    let (reference, note) = (sale.object_ref(&()), "한".repeat(1000));
    operator.context.publish("Stalled", EventType::Warning, note, &reference).await.unwrap();
    let events: Api<Event> = Api::namespaced(client, &namespace);
    let events = events.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(events[0].note, Some("한".repeat(341)), "1023 of 1024 bytes");
}

#[tokio::test]
async fn raised_stock_is_seeded_by_another_job() {
    let (client, namespace) = namespace("raise").await;
    let _operator = Operator::start(&namespace).await;
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    everything_runs(&client, &namespace).await;
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    wait_for(&sales, NAME, in_phase(Phase::Open)).await;
    let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
    let first = jobs.list(&ListParams::default()).await.unwrap().items[0].name_any();

    let mut raised = minimal(NAME);
    raised["spec"]["products"][0]["stock"] = json!(150);
    apply(&client, &namespace, &raised).await.unwrap();
    let seeding = |sale: Option<&FlashSale>| {
        sale.is_some_and(|sale| condition(sale, "StockSeeded") == ("False", "Seeding"))
    };
    let sale = wait_for(&sales, NAME, seeding).await;
    assert_eq!(sale.status.unwrap().phase, Phase::Open, "the sale goes on meanwhile");
    let second = seed_completes(&client, &namespace, &first).await;
    assert_ne!(first, second);
    let seeded = |sale: Option<&FlashSale>| {
        sale.is_some_and(|sale| condition(sale, "StockSeeded") == ("True", "Seeded"))
    };
    wait_for(&sales, NAME, seeded).await;
    eventually("the first job is gone", async || {
        jobs.get_opt(&first).await.unwrap().is_none().then_some(())
    })
    .await;
    let catalogs: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let catalog = catalogs.get("black-friday-catalog").await.unwrap().data.unwrap();
    assert!(catalog["catalog.json"].contains(r#""stock":150"#));
}

#[tokio::test]
async fn a_refused_change_becomes_a_condition_and_no_hot_loop() {
    let (client, namespace) = namespace("refused").await;
    let operator = Operator::idle().await;
    let sale = apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    // One of the sale's own, with a selector that can't be changed.
    let unchangeable: StatefulSet = serde_json::from_value(json!({
        "metadata": {
            "name": "black-friday-redis",
            "ownerReferences": [sale.controller_owner_ref(&()).unwrap()],
        },
        "spec": {
            "selector": { "matchLabels": { "app": "other" } },
            "serviceName": "other",
            "template": {
                "metadata": { "labels": { "app": "other" } },
                "spec": { "containers": [{ "name": "other", "image": "other" }] },
            },
        },
    }))
    .unwrap();
    let stateful_sets: Api<StatefulSet> = Api::namespaced(client.clone(), &namespace);
    stateful_sets.create(&PostParams::default(), &unchangeable).await.unwrap();

    let action = reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(action, Action::requeue(Duration::from_mins(1)));
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    let sale = sales.get(NAME).await.unwrap();
    // Everything else goes on.
    assert_eq!(sale.status.as_ref().unwrap().phase, Phase::Provisioning);
    assert_eq!(condition(&sale, "Ready"), ("False", "ChangeRefused"));
    let conditions = &sale.status.as_ref().unwrap().conditions;
    let message = &conditions.iter().find(|it| it.type_ == "Ready").unwrap().message;
    assert!(message.contains("StatefulSet black-friday-redis was refused"), "{message}");
    // Another owner's StatefulSet, with other storage than the sale's and without volumes.
    let foreign = stateful_sets.get("black-friday-redis").await.unwrap();
    assert!(foreign.metadata.deletion_timestamp.is_none());

    reconcile_once(&operator, &client, &namespace).await;
    let again = sales.get(NAME).await.unwrap();
    assert_eq!(sale.resource_version(), again.resource_version());
    assert_eq!(operator.metrics.reconciliations("refused"), 2);
}

#[tokio::test]
async fn parts_of_an_earlier_sale_are_waited_out() {
    let (client, namespace) = namespace("earlier").await;
    let operator = Operator::idle().await;
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    // No garbage collector runs here: the parts stay.
    sales.delete(NAME, &DeleteParams::default()).await.unwrap();
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    let before = owned(&client, &namespace).await;
    reconcile_once(&operator, &client, &namespace).await;
    let sale = sales.get(NAME).await.unwrap();
    assert_eq!(condition(&sale, "Ready"), ("False", "EarlierSaleLeaving"));
    assert_eq!(owned(&client, &namespace).await, before);
}

#[tokio::test]
async fn a_sale_that_can_t_be_read_is_skipped() {
    let operator = Operator::idle().await;
    let mut sale = minimal(NAME);
    sale["spec"]["products"] = json!("none");
    let sale: DeserializeGuard<FlashSale> = serde_json::from_value(sale).unwrap();
    let action = reconcile(Arc::new(sale), operator.context.clone()).await.unwrap();
    assert_eq!(action, Action::await_change());
}
