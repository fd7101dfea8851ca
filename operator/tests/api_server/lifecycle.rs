//! What happens to a sale whose parts can't start, whose data are lost, and whose spec is corrected.

use flashsale_operator::crd::{FlashSale, Phase, ProductStatus};
use flashsale_operator::flash_sale::app_client::DatabaseReport;
use flashsale_operator::flash_sale::database::ACCEPT_LOSS;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::{
    NAME, app_is_rolled_out, condition, everything_runs, reconcile_once, report, sale,
    seed_completes,
};
use crate::support::{Operator, apply, minimal, namespace};

fn message<'a>(sale: &'a FlashSale, type_: &str) -> &'a str {
    let conditions = sale.status.as_ref().map(|status| status.conditions.as_slice());
    let found = conditions.unwrap_or_default().iter().find(|it| it.type_ == type_);
    found.map_or("", |it| it.message.as_str())
}

fn phase(sale: &FlashSale) -> Phase {
    sale.status.as_ref().unwrap().phase
}

/// The one seed Job.
async fn seed(client: &Client, namespace: &str) -> Job {
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    let mut jobs = jobs.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(jobs.len(), 1);
    jobs.remove(0)
}

fn image(job: &Job) -> Option<&str> {
    let pod = job.spec.as_ref()?.template.spec.as_ref()?;
    pod.containers[0].image.as_deref()
}

/// A pod as its controller and the kubelet would leave it.
pub async fn pod(client: &Client, namespace: &str, component: &str, env: &Value, status: Value) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let name = format!("{NAME}-{component}-x");
    let pod = serde_json::from_value(json!({
        "metadata": { "name": name, "labels": {
            "app.kubernetes.io/instance": NAME,
            "app.kubernetes.io/component": component,
            "app.kubernetes.io/managed-by": "flashsale-operator",
        } },
        "spec": { "nodeName": "n1", "containers": [
            { "name": "app", "image": "app:1", "env": env },
        ] },
    }))
    .unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    report(&pods, &name, status).await;
}

#[tokio::test]
async fn a_seed_with_a_wrong_image_is_made_again_when_the_image_is_corrected() {
    let (client, namespace) = namespace("seed-image").await;
    let operator = Operator::idle().await;
    let mut declared = minimal(NAME);
    declared["spec"]["app"] = json!({ "image": "app:typo" });
    apply(&client, &namespace, &declared).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let wrong = seed(&client, &namespace).await;
    let waiting = json!({ "waiting": { "reason": "ErrImagePull", "message": "not found" } });
    let status = json!({ "phase": "Pending", "containerStatuses": [{
        "name": "app", "image": "app:typo", "imageID": "", "ready": false, "restartCount": 0,
        "state": waiting,
    }] });
    pod(&client, &namespace, "seed", &json!([]), status).await;
    reconcile_once(&operator, &client, &namespace).await;
    let said = sale(&client, &namespace).await;
    assert_eq!(condition(&said, "StockSeeded"), ("False", "ImagePullBackOff"));
    assert!(message(&said, "StockSeeded").contains("image app:typo can't be pulled: not found"));

    declared["spec"]["app"] = json!({ "image": "app:right" });
    apply(&client, &namespace, &declared).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let right = seed(&client, &namespace).await;
    assert_ne!(wrong.uid(), right.uid());
    assert_eq!((image(&wrong), image(&right)), (Some("app:typo"), Some("app:right")));
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(seed(&client, &namespace).await.uid(), right.uid(), "once");
}

#[tokio::test]
async fn another_password_in_the_secret_is_seeded() {
    let (client, namespace) = namespace("seed-admin").await;
    let operator = Operator::idle().await;
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    everything_runs(&client, &namespace).await;
    reconcile_once(&operator, &client, &namespace).await;
    let first = seed(&client, &namespace).await.name_any();
    assert_eq!(condition(&sale(&client, &namespace).await, "Ready"), ("True", "AllReady"));

    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let mut secret = secrets.get("black-friday-auth").await.unwrap();
    let another = ByteString(b"another password".to_vec());
    secret.data.as_mut().unwrap().insert("admin-password".to_owned(), another);
    secrets.replace("black-friday-auth", &PostParams::default(), &secret).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(condition(&sale(&client, &namespace).await, "StockSeeded"), ("False", "Seeding"));
    let second = seed_completes(&client, &namespace, &first).await;

    // Deleted and created again: the password changes, and an event reports it.
    secrets.delete("black-friday-auth", &DeleteParams::default()).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    reconcile_once(&operator, &client, &namespace).await;
    let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
    let names = jobs.list(&ListParams::default()).await.unwrap().items;
    let names: Vec<String> = names.iter().map(ResourceExt::name_any).collect();
    assert!(names.iter().all(|name| *name != first && *name != second), "{names:?}");
    // Another one soon after has an event of its own, with its own name.
    secrets.delete("black-friday-redis", &DeleteParams::default()).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let events = events.list(&ListParams::default()).await.unwrap().items;
    for secret in ["auth", "redis"] {
        let said = format!("Secret black-friday-{secret} was missing");
        let again = events.iter().filter(|it| it.note.as_ref().unwrap().contains(&said));
        let reasons: Vec<_> = again.map(|it| it.reason.as_deref().unwrap()).collect();
        assert_eq!(reasons, ["SecretMadeAgain"], "{secret}");
    }
}

#[tokio::test]
async fn one_refused_object_stops_no_other() {
    let (client, namespace) = namespace("go-on").await;
    let operator = Operator::idle().await;
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    everything_runs(&client, &namespace).await;
    reconcile_once(&operator, &client, &namespace).await;
    let seed_before = seed(&client, &namespace).await.name_any();

    // A set's Service is fixed when it is made: the API server refuses another.
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &namespace);
    let found = sets.get("black-friday-redis").await.unwrap();
    sets.delete("black-friday-redis", &DeleteParams::default()).await.unwrap();
    let mut other = found.clone();
    other.metadata.resource_version = None;
    other.metadata.uid = None;
    other.spec.as_mut().unwrap().service_name = Some("other".to_owned());
    sets.create(&PostParams::default(), &other).await.unwrap();
    crate::cluster::pods_are_ready(&client, &namespace, "black-friday-redis", 5).await;

    let mut raised = minimal(NAME);
    raised["spec"]["products"][0]["stock"] = json!(150);
    raised["spec"]["app"] = json!({ "image": "app:next" });
    apply(&client, &namespace, &raised).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let said = sale(&client, &namespace).await;
    assert_eq!(condition(&said, "Ready"), ("False", "ChangeRefused"));
    assert!(message(&said, "Ready").contains("StatefulSet black-friday-redis was refused"));
    assert_eq!(condition(&said, "Stalled"), ("True", "ChangeRefused"));
    assert_ne!(phase(&said), Phase::Failed);
    let catalogs: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let catalog = catalogs.get("black-friday-catalog").await.unwrap().data.unwrap();
    assert!(catalog["catalog.json"].contains(r#""stock":150"#));
    let apps: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    let app = apps.get(NAME).await.unwrap().spec.unwrap().template.spec.unwrap();
    assert_eq!(app.containers[0].image.as_deref(), Some("app:next"));
    seed_completes(&client, &namespace, &seed_before).await;
    app_is_rolled_out(&client, &namespace).await;
    reconcile_once(&operator, &client, &namespace).await;
    let said = sale(&client, &namespace).await;
    assert_eq!(condition(&said, "StockSeeded"), ("True", "Seeded"));
    assert_eq!(condition(&said, "Ready"), ("False", "ChangeRefused"));
    assert_eq!(phase(&said), Phase::Open, "it sells");
}

#[tokio::test]
async fn a_quota_and_a_bad_secret_are_named_at_once() {
    let (client, namespace) = namespace("causes").await;
    let operator = Operator::idle().await;
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;

    // Sets have no condition for it, only events.
    let exceeded = "pods \"black-friday-redis-3\" is forbidden: exceeded quota: pods=3";
    let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let event = serde_json::from_value(json!({
        "metadata": { "name": "quota" },
        "eventTime": "2026-11-28T00:00:00.000000Z",
        "reportingController": "statefulset-controller", "reportingInstance": "x",
        "action": "Create", "reason": "FailedCreate", "type": "Warning", "note": exceeded,
        "regarding": {
            "kind": "StatefulSet", "name": "black-friday-redis", "namespace": namespace,
            "apiVersion": "apps/v1",
        },
    }))
    .unwrap();
    events.create(&PostParams::default(), &event).await.unwrap();
    let apps: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    let failure = json!({ "conditions": [{
        "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
        "message": "exceeded quota: compute",
    }] });
    report(&apps, NAME, failure).await;
    reconcile_once(&operator, &client, &namespace).await;
    let said = sale(&client, &namespace).await;
    assert_eq!(condition(&said, "RedisReady"), ("False", "FailedCreate"));
    assert!(message(&said, "RedisReady").contains(exceeded), "{}", message(&said, "RedisReady"));
    assert_eq!(condition(&said, "AppAvailable"), ("False", "FailedCreate"));
    assert!(message(&said, "AppAvailable").contains("exceeded quota: compute"));
    assert_eq!(condition(&said, "Ready"), ("False", "FailedCreate"));

    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let mut secret = secrets.get("black-friday-auth").await.unwrap();
    secret.data.as_mut().unwrap().insert("jwks.json".to_owned(), ByteString(b"{".to_vec()));
    secrets.replace("black-friday-auth", &PostParams::default(), &secret).await.unwrap();
    let before = apps.get(NAME).await.unwrap().metadata.generation;
    reconcile_once(&operator, &client, &namespace).await;
    let said = sale(&client, &namespace).await;
    assert_eq!(condition(&said, "Ready"), ("False", "SecretInvalid"));
    assert_eq!(condition(&said, "Stalled"), ("True", "SecretInvalid"));
    assert_eq!(condition(&said, "Reconciling"), ("", ""));
    assert!(message(&said, "Ready").starts_with("Secret black-friday-auth: jwks.json "));
    assert_eq!(apps.get(NAME).await.unwrap().metadata.generation, before, "no replica is lost");
}

#[tokio::test]
async fn a_sale_ends_and_is_ready_when_the_last_old_replica_is_gone() {
    let (client, namespace) = namespace("ends").await;
    let operator = Operator::idle().await;
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    everything_runs(&client, &namespace).await;
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(phase(&sale(&client, &namespace).await), Phase::Open);
    pod(&client, &namespace, "app", &json!([]), json!({ "phase": "Running" })).await;

    let mut ended = minimal(NAME);
    ended["spec"]["endsAt"] = json!("2026-11-01T00:00:00Z");
    apply(&client, &namespace, &ended).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let said = sale(&client, &namespace).await;
    assert_eq!(phase(&said), Phase::Open, "it sells still");
    assert_eq!(condition(&said, "Ready"), ("False", "RollingOut"));

    // Kubernetes counts a replica no more as soon as it ends.
    app_is_rolled_out(&client, &namespace).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    pods.delete("black-friday-app-x", &DeleteParams::default()).await.unwrap();
    let pod = pods.get("black-friday-app-x").await.unwrap();
    assert!(pod.metadata.deletion_timestamp.is_some(), "no kubelet confirms it here");
    reconcile_once(&operator, &client, &namespace).await;
    let said = sale(&client, &namespace).await;
    assert_eq!((phase(&said), condition(&said, "Ready").0), (Phase::Open, "False"));
    assert!(message(&said, "Ready").contains("pod black-friday-app-x on node n1"));

    pods.delete("black-friday-app-x", &DeleteParams::default().grace_period(0)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let said = sale(&client, &namespace).await;
    assert_eq!((phase(&said), condition(&said, "Ready").0), (Phase::Ended, "True"));
}

#[tokio::test]
async fn a_lost_volume_is_said_and_the_sale_starts_again_only_if_a_person_says_so() {
    let (client, namespace) = namespace("lost").await;
    let operator = Operator::idle().await;
    let database = |id: Option<&str>| {
        *operator.app.1.lock().unwrap() =
            Some(DatabaseReport { id: id.map(str::to_owned), version: None });
    };
    let counts = |sold| {
        let id = "1".to_owned();
        vec![ProductStatus { id, stock: 100, sold, remaining: 100 - sold }]
    };
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    everything_runs(&client, &namespace).await;
    *operator.app.0.lock().unwrap() = Some(counts(40));
    database(Some("first"));
    reconcile_once(&operator, &client, &namespace).await;
    let said = sale(&client, &namespace).await;
    assert_eq!(said.status.as_ref().unwrap().database.as_ref().unwrap().id, "first");
    assert_eq!(phase(&said), Phase::Open);
    let first = seed(&client, &namespace).await.name_any();

    *operator.app.0.lock().unwrap() = Some(Vec::new());
    for id in [None, Some("second")] {
        database(id);
        reconcile_once(&operator, &client, &namespace).await;
        let said = sale(&client, &namespace).await;
        assert_eq!(phase(&said), Phase::Degraded);
        assert_eq!(condition(&said, "DatabaseReady"), ("False", "DataLost"));
        assert_eq!(condition(&said, "Stalled"), ("True", "DataLost"));
        assert!(message(&said, "Ready").contains("flashsale.dev/accept-data-loss=first"));
        assert_eq!(said.status.unwrap().products, counts(40), "what was sold is not forgotten");
    }
    assert_eq!(seed(&client, &namespace).await.name_any(), first, "nothing is put in again");

    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    let accept = Patch::Merge(json!({ "metadata": { "annotations": { ACCEPT_LOSS: "first" } } }));
    sales.patch(NAME, &PatchParams::default(), &accept).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    seed_completes(&client, &namespace, &first).await;
    *operator.app.0.lock().unwrap() = Some(counts(0));
    reconcile_once(&operator, &client, &namespace).await;
    let said = sale(&client, &namespace).await;
    assert_eq!((phase(&said), condition(&said, "Ready").0), (Phase::Open, "True"));
    assert_eq!(said.status.unwrap().database.unwrap().id, "second");
    database(Some("third"));
    reconcile_once(&operator, &client, &namespace).await;
    let said = sale(&client, &namespace).await;
    assert_eq!(condition(&said, "DatabaseReady"), ("False", "DataLost"), "accepted once");
}

#[tokio::test]
async fn another_database_behind_the_secret_is_seeded() {
    let (client, namespace) = namespace("moved").await;
    let operator = Operator::idle().await;
    let mut declared = minimal(NAME);
    declared["spec"]["database"] = json!({ "secretRef": { "name": "shop-db" } });
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let uri = async |uri: &str| {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "shop-db" },
            "stringData": { "uri": uri },
        });
        let params = PatchParams::apply("test").force();
        secrets.patch("shop-db", &params, &Patch::Apply(secret)).await.unwrap();
    };
    uri("postgres://a:b@db/shop").await;
    apply(&client, &namespace, &declared).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    crate::cluster::pods_are_ready(&client, &namespace, "black-friday-redis", 5).await;
    app_is_rolled_out(&client, &namespace).await;
    let first = seed_completes(&client, &namespace, "").await;
    uri("postgres://a:rotated@db/shop").await;
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(seed(&client, &namespace).await.name_any(), first, "the same database");
    uri("postgres://a:rotated@another/shop").await;
    reconcile_once(&operator, &client, &namespace).await;
    let second = seed_completes(&client, &namespace, &first).await;
    assert_ne!(first, second);
}
