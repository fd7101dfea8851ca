//! Scheduled backups of a sale's own database.

use flashsale_operator::flash_sale::app_client::DatabaseReport;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::{NAME, condition, everything_runs, reconcile_once, sale};
use crate::support::{Operator, apply, minimal, namespace};

const CRON_JOB: &str = "black-friday-backup";
const CLAIM: &str = "black-friday-backups";

/// Declares this database and this mode of hibernation, and reconciles once.
async fn change(
    operator: &Operator,
    client: &Client,
    namespace: &str,
    database: Value,
    mode: &str,
) {
    let mut sale = minimal(NAME);
    sale["spec"]["database"] = database;
    sale["spec"]["hibernation"] = json!({ "mode": mode });
    apply(client, namespace, &sale).await.unwrap();
    reconcile_once(operator, client, namespace).await;
}

#[tokio::test]
async fn backups_follow_the_life_of_the_sale_and_leave_their_volume() {
    let (client, namespace) = namespace("backup").await;
    let operator = Operator::idle().await;
    let cron_jobs: Api<CronJob> = Api::namespaced(client.clone(), &namespace);
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    let suspended = async || cron_jobs.get(CRON_JOB).await.unwrap().spec.unwrap().suspend.unwrap();
    let backup = json!({ "backup": { "schedule": "0 3 * * *" } });
    change(&operator, &client, &namespace, backup.clone(), "Never").await;
    assert!(suspended().await, "nothing is seeded yet");
    let claim = claims.get(CLAIM).await.unwrap();

    everything_runs(&client, &namespace).await;
    *operator.app.0.lock().unwrap() = Some(Vec::new());
    let id = Some("2026-11-21T00:00:00.000000Z".to_owned());
    *operator.app.1.lock().unwrap() = Some(DatabaseReport { id, version: None });
    reconcile_once(&operator, &client, &namespace).await;
    reconcile_once(&operator, &client, &namespace).await;
    assert!(!suspended().await);

    change(&operator, &client, &namespace, backup.clone(), "Now").await;
    assert!(suspended().await, "a hibernating sale has no pods");
    change(&operator, &client, &namespace, json!({}), "Never").await;
    assert!(cron_jobs.get_opt(CRON_JOB).await.unwrap().is_none());
    change(&operator, &client, &namespace, backup, "Never").await;
    assert!(!suspended().await);
    assert_eq!(claims.get(CLAIM).await.unwrap().uid(), claim.uid(), "the same volume again");
}

#[tokio::test]
async fn the_volume_of_backups_belongs_to_the_sale_by_the_policy_and_is_never_replaced() {
    let (client, namespace) = namespace("backup-volume").await;
    let operator = Operator::idle().await;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    let backup = |class: &str, schedule: &str, policy: &str| {
        json!({
            "deletionPolicy": policy,
            "backup": { "schedule": schedule, "storage": { "className": class } },
        })
    };
    change(&operator, &client, &namespace, backup("slow", "@daily", "Retain"), "Never").await;
    let first = claims.get(CLAIM).await.unwrap();
    assert!(first.owner_references().is_empty());
    for (policy, owners) in [("Delete", 1), ("Delete", 1), ("Retain", 0)] {
        change(&operator, &client, &namespace, backup("slow", "@daily", policy), "Never").await;
        assert_eq!(claims.get(CLAIM).await.unwrap().owner_references().len(), owners, "{policy}");
        assert_ne!(condition(&sale(&client, &namespace).await, "Ready").1, "EarlierSaleLeaving");
    }

    for wrong in [backup("fast", "@daily", "Retain"), backup("slow", "0 25 * * *", "Retain")] {
        change(&operator, &client, &namespace, wrong.clone(), "Never").await;
        let said = condition(&sale(&client, &namespace).await, "Ready").1.to_owned();
        assert_eq!(said, "ChangeRefused", "{wrong}");
        let claim = claims.get(CLAIM).await.unwrap();
        assert_eq!((claim.uid(), claim.spec), (first.uid(), first.spec.clone()), "{wrong}");
    }
}

#[tokio::test]
async fn a_deleted_volume_of_backups_stops_no_sale_and_is_made_again() {
    let (client, namespace) = namespace("backup-deleted").await;
    let operator = Operator::idle().await;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    let cron_jobs: Api<CronJob> = Api::namespaced(client.clone(), &namespace);
    let backup = |schedule: &str| json!({ "backup": { "schedule": schedule } });
    change(&operator, &client, &namespace, backup("@daily"), "Never").await;
    // Its finalizer stays while a pod uses it.
    claims.delete(CLAIM, &DeleteParams::default()).await.unwrap();
    let leaving = claims.get(CLAIM).await.unwrap();
    assert!(leaving.metadata.deletion_timestamp.is_some());
    change(&operator, &client, &namespace, backup("@weekly"), "Never").await;
    assert_eq!(cron_jobs.get(CRON_JOB).await.unwrap().spec.unwrap().schedule, "@weekly");

    let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    claims.patch(CLAIM, &PatchParams::default(), &free).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert_ne!(claims.get(CLAIM).await.unwrap().uid(), leaving.uid());
}
