//! Storage that was declared wrongly, and corrected.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::{NAME, condition, pods_are_ready, reconcile_once, report};
use crate::support::{Operator, apply, minimal, namespace};

const REDIS: &str = "black-friday-redis";

fn with_class(class: &str) -> Value {
    let mut sale = minimal(NAME);
    sale["spec"]["redis"] = json!({ "storage": { "className": class } });
    sale["spec"]["database"] = json!({ "storage": { "className": class } });
    sale
}

/// What the controller of `StatefulSets` does for the first pod.
async fn claim(client: &Client, namespace: &str, set: &str, volume: Option<&str>) {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let claim = json!({
        "metadata": { "name": format!("data-{set}-0") },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "fsat",
            "resources": { "requests": { "storage": "1Gi" } },
            "volumeName": volume,
        },
    });
    let claim = serde_json::from_value(claim).unwrap();
    claims.create(&PostParams::default(), &claim).await.unwrap();
}

/// What the garbage collector does once the pods and claims are gone.
async fn collect(sets: &Api<StatefulSet>, name: &str) {
    let set = sets.get(name).await.unwrap();
    assert!(set.metadata.deletion_timestamp.is_some(), "{name} is not being deleted");
    let done = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    sets.patch(name, &PatchParams::default(), &done).await.unwrap();
}

fn class(set: &StatefulSet) -> Option<String> {
    let claims = set.spec.as_ref()?.volume_claim_templates.as_ref()?;
    claims.first()?.spec.as_ref()?.storage_class_name.clone()
}

fn size(set: &StatefulSet) -> Option<&str> {
    let claims = set.spec.as_ref()?.volume_claim_templates.as_ref()?;
    let resources = claims.first()?.spec.as_ref()?.resources.as_ref()?;
    Some(resources.requests.as_ref()?.get("storage")?.0.as_str())
}

#[tokio::test]
async fn a_size_in_another_form_recreates_nothing() {
    let (client, namespace) = namespace("storage-form").await;
    let operator = Operator::idle().await;
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &namespace);
    let mut sale = minimal(NAME);
    sale["spec"]["redis"] = json!({ "storage": { "size": "1.5Gi" } });
    sale["spec"]["database"] = json!({ "storage": { "size": "1024Mi" } });
    apply(&client, &namespace, &sale).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let parts = [(REDIS, "1536Mi"), ("black-friday-db", "1Gi")];
    let mut created = Vec::new();
    for (name, canonical) in parts {
        let set = sets.get(name).await.unwrap();
        assert_eq!(size(&set), Some(canonical), "{name}");
        created.push(set.uid());
    }

    reconcile_once(&operator, &client, &namespace).await;
    let mut kept = Vec::new();
    for (name, _) in parts {
        let set = sets.get(name).await.unwrap();
        assert!(set.metadata.deletion_timestamp.is_none(), "{name}");
        kept.push(set.uid());
    }
    assert_eq!(kept, created);

    // Another size is a change.
    sale["spec"]["redis"] = json!({ "storage": { "size": "1.6Gi" } });
    apply(&client, &namespace, &sale).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert!(sets.get(REDIS).await.unwrap().metadata.deletion_timestamp.is_some());
    let database = sets.get("black-friday-db").await.unwrap();
    assert!(database.metadata.deletion_timestamp.is_none());
}

#[tokio::test]
async fn a_storage_class_can_be_corrected_while_no_volume_exists() {
    let (client, namespace) = namespace("storage-pending").await;
    let operator = Operator::idle().await;
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &namespace);
    apply(&client, &namespace, &with_class("fsat")).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    claim(&client, &namespace, REDIS, None).await;

    apply(&client, &namespace, &with_class("fast")).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let sales = Api::namespaced(client.clone(), &namespace);
    assert_eq!(condition(&sales.get(NAME).await.unwrap(), "Ready"), ("False", "ReplacingVolumes"));
    // Still leaving.
    reconcile_once(&operator, &client, &namespace).await;
    collect(&sets, REDIS).await;
    collect(&sets, "black-friday-db").await;
    reconcile_once(&operator, &client, &namespace).await;
    for set in sets.list(&kube::api::ListParams::default()).await.unwrap() {
        assert_eq!(class(&set).as_deref(), Some("fast"), "{}", set.name_any());
    }
}

#[tokio::test]
async fn a_volume_that_exists_is_kept_whatever_is_declared() {
    let (client, namespace) = namespace("storage-bound").await;
    let operator = Operator::idle().await;
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &namespace);
    apply(&client, &namespace, &with_class("fsat")).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    claim(&client, &namespace, REDIS, Some("pv-1")).await;
    claim(&client, &namespace, "black-friday-db", Some("pv-2")).await;

    apply(&client, &namespace, &with_class("fast")).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let sales = Api::namespaced(client.clone(), &namespace);
    assert_eq!(condition(&sales.get(NAME).await.unwrap(), "Ready"), ("False", "ChangeRefused"));
    for set in sets.list(&kube::api::ListParams::default()).await.unwrap() {
        assert_eq!(class(&set).as_deref(), Some("fsat"), "{}", set.name_any());
        assert!(set.metadata.deletion_timestamp.is_none(), "{}", set.name_any());
    }

    // The pods become ready with the former storage. The refused change can be taken back, but not made again.
    report(&sets, REDIS, json!({ "replicas": 5, "readyReplicas": 1 })).await;
    pods_are_ready(&client, &namespace, "black-friday-db", 1).await;
    reconcile_once(&operator, &client, &namespace).await;
    let sale = sales.get(NAME).await.unwrap();
    assert_eq!(condition(&sale, "Ready"), ("False", "ChangeRefused"));
    assert_eq!(condition(&sale, "DatabaseReady").0, "True");
    apply(&client, &namespace, &with_class("fsat")).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert_ne!(condition(&sales.get(NAME).await.unwrap(), "Ready").1, "ChangeRefused");
    assert!(apply(&client, &namespace, &with_class("fast")).await.is_err());
}

#[tokio::test]
async fn storage_that_is_in_use_can_t_be_declared_anew() {
    let (client, namespace) = namespace("storage-used").await;
    let operator = Operator::idle().await;
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &namespace);
    apply(&client, &namespace, &with_class("fast")).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    report(&sets, REDIS, json!({ "replicas": 5, "readyReplicas": 1 })).await;
    pods_are_ready(&client, &namespace, "black-friday-db", 1).await;
    reconcile_once(&operator, &client, &namespace).await;

    let refused = apply(&client, &namespace, &with_class("other")).await.unwrap_err().to_string();
    for rule in [
        "spec.redis.storage: Invalid value",
        "redis.storage can no longer be changed: nodes use the volumes",
        "spec.database.storage: Invalid value",
        "database.storage can no longer be changed: the database uses the volume",
    ] {
        assert!(refused.contains(rule), "{refused}");
    }
}
