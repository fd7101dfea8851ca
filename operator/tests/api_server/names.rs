//! Names that other objects have: those are left as they are, whatever becomes of the sale.

use std::time::Duration;

use flashsale_operator::crd::{FlashSale, Phase};
use flashsale_operator::flash_sale::applied_versions::AppliedVersions;
use flashsale_operator::flash_sale::apply::{self, Existing};
use flashsale_operator::flash_sale::build::credentials::Passwords;
use flashsale_operator::flash_sale::build::{KubernetesResources, Prepared, build};
use flashsale_operator::flash_sale::dereference::dereference;
use flashsale_operator::flash_sale::ownership::ExistingParts;
use flashsale_operator::flash_sale::validate::validate;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::controller::Action;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::{NAME, condition, in_phase, owned, reconcile_once};
use crate::support::{Operator, apply, eventually, minimal, namespace, wait_for};

/// An object of another owner, and the API to read it.
async fn create(client: &Client, namespace: &str, object: Value) -> (Api<DynamicObject>, String) {
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let types = object.types.clone().unwrap();
    let kind = ApiResource::from_gvk(&GroupVersionKind::try_from(&types).unwrap());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
    api.create(&PostParams::default(), &object).await.unwrap();
    (api, object.name_any())
}

fn pod_template() -> Value {
    json!({
        "metadata": { "labels": { "app": "other" } },
        "spec": { "restartPolicy": "Always", "containers": [{ "name": "a", "image": "a" }] },
    })
}

/// One object of each kind that a sale has, by the names of its parts.
fn of_others() -> Vec<Value> {
    let selector = json!({ "matchLabels": { "app": "other" } });
    let service = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
            "spec": { "selector": { "app": "other" }, "ports": [{ "port": 80 }] },
        })
    };
    let budget = |name: &str| {
        json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": { "name": name },
            "spec": { "maxUnavailable": 3, "selector": selector },
        })
    };
    let policy = |name: &str| {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": { "name": name }, "spec": { "podSelector": selector },
        })
    };
    let stateful_set = |name: &str| {
        json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": name },
            "spec": { "selector": selector, "serviceName": "other", "template": pod_template() },
        })
    };
    let mut of_job = pod_template();
    of_job["spec"]["restartPolicy"] = json!("Never");
    let claim = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": name },
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": { "requests": { "storage": "1Gi" } },
            },
        })
    };
    vec![
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "black-friday-catalog" }, "data": { "other": "text" },
        }),
        service("black-friday"),
        service("black-friday-pods"),
        service("black-friday-redis"),
        service("black-friday-db"),
        stateful_set("black-friday-redis"),
        stateful_set("black-friday-db"),
        claim("data-black-friday-redis-4"),
        claim("data-black-friday-db-0"),
        claim("black-friday-backups"),
        json!({
            "apiVersion": "batch/v1", "kind": "CronJob",
            "metadata": { "name": "black-friday-backup" },
            "spec": { "schedule": "@daily", "jobTemplate": { "spec": { "template": of_job } } },
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "black-friday" },
            "spec": { "selector": selector, "template": pod_template() },
        }),
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": { "name": "black-friday" },
            "spec": {
                "maxReplicas": 9,
                "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "other" },
            },
        }),
        budget("black-friday"),
        budget("black-friday-redis"),
        policy("black-friday"),
        policy("black-friday-redis"),
        policy("black-friday-db"),
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": { "name": "black-friday" },
            "spec": { "defaultBackend": { "service": { "name": "other", "port": { "number": 80 } } } },
        }),
    ]
}

#[tokio::test]
async fn a_name_that_another_object_has_is_not_taken_over() {
    for (i, object) in of_others().into_iter().enumerate() {
        let (client, namespace) = namespace(&format!("taken-{i}")).await;
        let what = format!("{} {}", object["kind"].as_str().unwrap(), object["metadata"]["name"]);
        let (api, name) = create(&client, &namespace, object).await;
        let before = api.get(&name).await.unwrap();

        let operator = Operator::idle().await;
        let mut sale = minimal(NAME);
        sale["spec"]["app"] = json!({
            "autoscaling": { "maxReplicas": 6 },
            "resources": { "requests": { "cpu": "1" } },
            "ingress": { "hosts": ["sale.example"] },
        });
        sale["spec"]["database"] = json!({ "backup": { "schedule": "@daily" } });
        apply(&client, &namespace, &sale).await.unwrap();
        let action = reconcile_once(&operator, &client, &namespace).await;
        assert_eq!(action, Action::requeue(Duration::from_secs(10)), "{what}");
        let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
        let sale = sales.get(NAME).await.unwrap();
        assert_eq!(condition(&sale, "Ready"), ("False", "NameTaken"), "{what}");
        let message = &sale.status.as_ref().unwrap().conditions[0].message;
        assert!(message.contains(&what.replace('"', "")), "{what}: {message}");
        assert_eq!(api.get(&name).await.unwrap(), before, "{what} is as it was");
        assert_eq!(owned(&client, &namespace).await.len(), 0, "{what}: nothing else is made");
    }
}

#[tokio::test]
async fn a_taken_name_is_reported_once_and_the_sale_goes_on_when_it_is_free() {
    let (client, namespace) = namespace("taken-then-free").await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": NAME },
        "spec": { "selector": { "app": "other" }, "ports": [{ "port": 80 }] },
    });
    let (services, _) = create(&client, &namespace, service).await;
    let operator = Operator::idle().await;
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    reconcile_once(&operator, &client, &namespace).await;
    let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
    // The API server has events of its own, about Services.
    let is_of_the_sale = |event: &Event| {
        event.regarding.as_ref().is_some_and(|it| it.kind.as_deref() == Some("FlashSale"))
    };
    let event = eventually("an event", async || {
        let all = events.list(&ListParams::default()).await.unwrap();
        all.items.into_iter().find(is_of_the_sale)
    })
    .await;
    assert_eq!(event.reason.as_deref(), Some("NameTaken"));
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    assert!(event.series.is_none(), "reported once");

    services.delete(NAME, &DeleteParams::default()).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    wait_for(&sales, NAME, in_phase(Phase::Provisioning)).await;
}

/// A new sale, everything built for it, and what it believes is there: nothing.
async fn prepared(client: &Client, namespace: &str) -> (FlashSale, KubernetesResources<Prepared>) {
    let operator = Operator::idle().await;
    let sale = apply(client, namespace, &minimal(NAME)).await.unwrap();
    let references = Box::pin(dereference(client, &sale)).await.unwrap();
    let valid = validate(&sale, references, &operator.context.images).unwrap();
    (sale, build(&valid, &Passwords::fixed()).unwrap())
}

/// The error of an apply that goes by what was found before.
async fn stopped(
    client: &Client,
    namespace: &str,
    resources: KubernetesResources<Prepared>,
    found: &Existing<'_>,
) -> apply::Error {
    let applied = Box::pin(apply::apply(client, namespace, resources, found)).await;
    applied.expect_err("an object of another is in the way")
}

#[tokio::test]
async fn an_object_that_appears_after_the_look_is_not_taken_over() {
    let (client, namespace) = namespace("appears").await;
    let (sale, resources) = Box::pin(prepared(&client, &namespace)).await;
    let catalog = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "black-friday-catalog" }, "data": { "other": "text" },
    });
    let (catalogs, name) = create(&client, &namespace, catalog).await;
    let before = catalogs.get(&name).await.unwrap();
    let nothing = Existing {
        sale: &sale,
        parts: ExistingParts::default(),
        autoscaler: None,
        undeclared: ExistingParts::default(),
        applied: AppliedVersions::default(),
    };
    let error = stopped(&client, &namespace, resources, &nothing).await;
    assert!(matches!(error, apply::Error::Api { .. }), "{error:?}");
    assert_eq!(catalogs.get(&name).await.unwrap(), before);
}

#[tokio::test]
async fn an_object_that_took_the_place_of_a_part_is_not_taken_over() {
    let (client, namespace) = namespace("replaced").await;
    let operator = Operator::idle().await;
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    let sale = sales.get(NAME).await.unwrap();
    let references = Box::pin(dereference(&client, &sale)).await.unwrap();
    let existing = Existing {
        sale: &sale,
        parts: references.parts.clone(),
        autoscaler: None,
        undeclared: ExistingParts::default(),
        applied: AppliedVersions::default(),
    };
    let valid = validate(&sale, references, &operator.context.images).unwrap();
    let resources = build(&valid, &Passwords::fixed()).unwrap();

    let services: Api<Service> = Api::namespaced(client.clone(), &namespace);
    services.delete(NAME, &DeleteParams::default()).await.unwrap();
    let other = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": NAME },
        "spec": { "selector": { "app": "other" }, "ports": [{ "port": 80 }] },
    });
    create(&client, &namespace, other).await;
    let before = services.get(NAME).await.unwrap();
    let error = stopped(&client, &namespace, resources, &existing).await;
    assert!(matches!(error, apply::Error::Api { .. }), "{error:?}");
    assert_eq!(services.get(NAME).await.unwrap(), before);
}

#[tokio::test]
async fn a_job_of_another_is_neither_the_seed_nor_deleted() {
    let (client, namespace) = namespace("taken-job").await;
    let operator = Operator::idle().await;
    let sale = apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    // The Secrets that its name depends on are created by the first reconcile.
    reconcile_once(&operator, &client, &namespace).await;
    let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
    let own = jobs.list(&ListParams::default()).await.unwrap().items.remove(0);
    let seed = own.name_any();
    jobs.delete(&seed, &DeleteParams::background()).await.unwrap();
    // With all the labels of a seed Job, and one of them with its name.
    for name in [seed.as_str(), "another"] {
        let job = json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": { "name": name, "labels": own.metadata.labels },
            "spec": { "template": {
                "spec": { "restartPolicy": "Never", "containers": [{ "name": "a", "image": "a" }] },
            } },
        });
        create(&client, &namespace, job).await;
    }
    reconcile_once(&operator, &client, &namespace).await;
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    let after = sales.get(NAME).await.unwrap();
    assert_eq!(condition(&after, "Ready"), ("False", "NameTaken"));
    let conditions = &after.status.as_ref().unwrap().conditions;
    let message = &conditions.iter().find(|it| it.type_ == "Ready").unwrap().message;
    assert!(message.contains(&format!("Job {seed} (owner: none)")), "{message}");

    jobs.delete(&seed, &DeleteParams::background()).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(sale.uid(), sales.get(NAME).await.unwrap().uid());
    let owner = jobs.get(&seed).await.unwrap().owner_references()[0].uid.clone();
    assert_eq!(Some(owner), sale.uid());
    assert!(jobs.get_opt("another").await.unwrap().is_some());
}

#[tokio::test]
async fn an_autoscaler_of_another_is_no_concern_where_none_is_declared() {
    let (client, namespace) = namespace("foreign-autoscaler").await;
    let autoscaler = of_others().into_iter().find(|it| it["kind"] == "HorizontalPodAutoscaler");
    create(&client, &namespace, autoscaler.unwrap()).await;
    let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), &namespace);
    let before = autoscalers.get(NAME).await.unwrap();
    let operator = Operator::idle().await;
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(autoscalers.get(NAME).await.unwrap(), before);
    assert!(!owned(&client, &namespace).await.is_empty(), "the sale has its parts");
}

/// External Secrets and Sealed Secrets own the Secrets that they write.
#[tokio::test]
async fn a_secret_that_another_controller_owns_may_be_referred_to() {
    let (client, namespace) = namespace("external-secret").await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": "shop-db", "ownerReferences": [{
            "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "name": "shop-db",
            "uid": "6a1c0f5e-0000-4000-8000-000000000000", "controller": true,
        }] },
        "stringData": { "uri": "postgres://a:b@db/shop" },
    });
    create(&client, &namespace, secret).await;
    let operator = Operator::idle().await;
    let mut sale = minimal(NAME);
    sale["spec"]["database"] = json!({ "secretRef": { "name": "shop-db" } });
    apply(&client, &namespace, &sale).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    let sale = sales.get(NAME).await.unwrap();
    assert_eq!(sale.status.as_ref().unwrap().phase, Phase::Provisioning);
}

/// What is removed from a part's declaration is removed from the part, as the operator is the only
/// owner of its fields.
#[tokio::test]
async fn what_a_sale_no_longer_declares_leaves_its_part() {
    let (client, namespace) = namespace("undeclared").await;
    let operator = Operator::idle().await;
    let mut sale = minimal(NAME);
    sale["spec"]["redis"] = json!({ "resources": { "limits": { "memory": "1Gi" } } });
    apply(&client, &namespace, &sale).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &namespace);
    let limits = async || {
        let set = sets.get("black-friday-redis").await.unwrap();
        let pod = set.spec.unwrap().template.spec.unwrap();
        pod.containers[0].resources.clone().and_then(|resources| resources.limits)
    };
    assert!(limits().await.is_some());
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(limits().await, None);
}
