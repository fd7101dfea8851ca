//! Data that outlive their sale.

use flashsale_operator::crd::{FlashSale, Phase};
use flashsale_operator::flash_sale::app_client::DatabaseReport;
use flashsale_operator::flash_sale::database::ACCEPT_LOSS;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource as _, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::{NAME, condition, everything_runs, in_phase, pods_are_ready, reconcile_once};
use crate::support::{Operator, apply, eventually, minimal, namespace, wait_for};

const DATABASE: &str = "black-friday-db";
pub const RETAINED: &str = "flashsale.dev/retained";

/// What the controller of `StatefulSets` makes for the first pod of a set that retains its claims.
pub async fn claim(client: &Client, namespace: &str, set: &str) {
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let set = wait_for(&sets, set, |set: Option<&StatefulSet>| set.is_some()).await;
    let spec = set.spec.clone().unwrap();
    let mut claim = spec.volume_claim_templates.unwrap().remove(0);
    claim.metadata.name = Some(format!("data-{}-0", set.name_any()));
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    claims.create(&PostParams::default(), &claim).await.unwrap();
}

/// What the garbage collector does once the sale is gone.
async fn collect(client: &Client, namespace: &str) {
    async fn owned<K>(client: &Client, namespace: &str)
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(client.clone(), namespace);
        for object in api.list_metadata(&ListParams::default()).await.unwrap() {
            if !object.owner_references().is_empty() {
                api.delete(&object.name_any(), &DeleteParams::background()).await.unwrap();
            }
        }
    }
    owned::<Secret>(client, namespace).await;
    owned::<ConfigMap>(client, namespace).await;
    owned::<Service>(client, namespace).await;
    owned::<StatefulSet>(client, namespace).await;
    owned::<Job>(client, namespace).await;
    owned::<Deployment>(client, namespace).await;
    owned::<PodDisruptionBudget>(client, namespace).await;
    owned::<NetworkPolicy>(client, namespace).await;
}

pub async fn delete(client: &Client, namespace: &str, sale: &str) {
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), namespace);
    sales.delete(sale, &DeleteParams::default()).await.unwrap();
    Box::pin(collect(client, namespace)).await;
}

/// What `kubectl get pvc,secret -l flashsale.dev/retained=...` lists.
pub async fn listed(client: &Client, namespace: &str, selector: &str) -> Vec<String> {
    let labels = ListParams::default().labels(selector);
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let claims = claims.list_metadata(&labels).await.unwrap().items;
    let secrets = secrets.list_metadata(&labels).await.unwrap().items;
    let secrets = secrets.iter().map(ResourceExt::name_any);
    claims.iter().map(ResourceExt::name_any).chain(secrets).collect()
}

/// Waits until the condition `Ready` of a sale has this reason, and returns its message.
async fn reason(client: &Client, namespace: &str, sale: &str, reason: &str) -> String {
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), namespace);
    let with = |sale: Option<&FlashSale>| sale.is_some_and(|it| condition(it, "Ready").1 == reason);
    let sale = wait_for(&sales, sale, with).await;
    let conditions = sale.status.unwrap().conditions;
    conditions.into_iter().find(|it| it.type_ == "Ready").unwrap().message
}

fn adopting(name: &str, adopted: &str) -> Value {
    let mut sale = minimal(name);
    sale["spec"]["database"] = json!({ "adopt": adopted });
    sale
}

/// A sale that is deleted after its database had a volume.
async fn deleted_sale(client: &Client, namespace: &str) {
    apply(client, namespace, &minimal(NAME)).await.unwrap();
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), namespace);
    Box::pin(wait_for(&sales, NAME, in_phase(Phase::Provisioning))).await;
    Box::pin(claim(client, namespace, DATABASE)).await;
    delete(client, namespace, NAME).await;
}

fn seed_env(job: &Job, name: &str) -> Option<String> {
    let pod = job.spec.as_ref()?.template.spec.as_ref()?;
    let found = pod.containers[0].env.as_ref()?.iter().find(|variable| variable.name == name)?;
    found.value.clone()
}

#[tokio::test]
async fn what_a_deleted_sale_leaves_is_listed_and_continued_only_by_name() {
    let (client, namespace) = namespace("retain").await;
    let _operator = Operator::start(&namespace).await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    deleted_sale(&client, &namespace).await;
    let password = secrets.get(DATABASE).await.unwrap().data;
    let left = ["data-black-friday-db-0", DATABASE];
    let selector = format!("{RETAINED}=black-friday");
    eventually("both are labelled", async || {
        (listed(&client, &namespace, &selector).await == left).then_some(())
    })
    .await;

    let again = apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    let message = reason(&client, &namespace, NAME, "DataRetained").await;
    for part in [
        "pvc/data-black-friday-db-0 secret/black-friday-db",
        "set spec.database.adopt: black-friday",
        "kubectl delete -n retain pvc/data-black-friday-db-0 secret/black-friday-db",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &namespace);
    assert!(sets.list(&ListParams::default()).await.unwrap().items.is_empty(), "nothing is made");

    apply(&client, &namespace, &adopting(NAME, NAME)).await.unwrap();
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    wait_for(&sales, NAME, in_phase(Phase::Provisioning)).await;
    let secret = secrets.get(DATABASE).await.unwrap();
    assert_eq!(secret.data, password, "the volume can be opened");
    assert_eq!(secret.annotations().get("flashsale.dev/sale-uid"), again.uid().as_ref());
    assert!(secret.owner_references().is_empty());
    assert!(sets.get(DATABASE).await.is_ok());
    assert!(listed(&client, &namespace, RETAINED).await.is_empty(), "in use, so not retained");

    // The same database under another name is another one.
    let refused = apply(&client, &namespace, &adopting(NAME, "spring")).await.unwrap_err();
    assert!(refused.to_string().contains("database.adopt can't be changed"), "{refused}");
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
}

#[tokio::test]
async fn a_sale_with_another_name_continues_and_nobody_else_can() {
    let (client, namespace) = namespace("retain-rename").await;
    let _operator = Operator::start(&namespace).await;
    deleted_sale(&client, &namespace).await;
    let winter = apply(&client, &namespace, &adopting("winter", NAME)).await.unwrap();
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    wait_for(&sales, "winter", in_phase(Phase::Provisioning)).await;
    // Its claim and the host in the Secret's uri have the first sale's name, and so has the database.
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &namespace);
    let set = sets.get(DATABASE).await.unwrap();
    assert_eq!(set.owner_references()[0].uid, winter.uid().unwrap());
    let services: Api<Service> = Api::namespaced(client.clone(), &namespace);
    assert!(services.get(DATABASE).await.is_ok());
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    assert!(secrets.get_opt("winter-db").await.unwrap().is_none());
    let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
    let job = jobs.list(&ListParams::default()).await.unwrap().items.remove(0);
    assert_eq!(seed_env(&job, "TAKE_OVER_DATABASE").as_deref(), Some("true"));

    for other in [adopting("spring", NAME), minimal(NAME)] {
        apply(&client, &namespace, &other).await.unwrap();
        let name = other["metadata"]["name"].as_str().unwrap();
        let message = reason(&client, &namespace, name, "NameTaken").await;
        let owner = "StatefulSet black-friday-db (owner: FlashSale winter)";
        assert!(message.contains(owner), "{message}");
    }
    sales.delete("spring", &DeleteParams::default()).await.unwrap();
    sales.delete(NAME, &DeleteParams::default()).await.unwrap();

    // And on: the name is that of the data.
    delete(&client, &namespace, "winter").await;
    let selector = format!("{RETAINED}=black-friday");
    eventually("the claim and the Secret", async || {
        (listed(&client, &namespace, &selector).await.len() == 2).then_some(())
    })
    .await;
    apply(&client, &namespace, &adopting("spring", NAME)).await.unwrap();
    wait_for(&sales, "spring", in_phase(Phase::Provisioning)).await;
}

#[tokio::test]
async fn data_that_are_not_there_cannot_be_adopted() {
    let (client, namespace) = namespace("retain-missing").await;
    let _operator = Operator::start(&namespace).await;
    deleted_sale(&client, &namespace).await;
    apply(&client, &namespace, &adopting("winter", "blak-friday")).await.unwrap();
    let message = reason(&client, &namespace, "winter", "RetainedDataMissing").await;
    let claim = "names blak-friday, but PersistentVolumeClaim data-blak-friday-db-0 does not exist";
    assert!(message.contains(claim), "{message}");

    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    secrets.delete(DATABASE, &DeleteParams::default()).await.unwrap();
    // The name can be corrected until the sale has a database.
    apply(&client, &namespace, &adopting("winter", NAME)).await.unwrap();
    eventually("the Secret is missed", async || {
        let message = reason(&client, &namespace, "winter", "RetainedDataMissing").await;
        message.contains("Secret black-friday-db with the database's password").then_some(())
    })
    .await;
}

#[tokio::test]
async fn only_data_without_a_sale_are_labelled() {
    let (client, namespace) = namespace("retain-label").await;
    {
        let _operator = Operator::start(&namespace).await;
        deleted_sale(&client, &namespace).await;
        apply(&client, &namespace, &minimal("spring")).await.unwrap();
        let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
        wait_for(&sales, "spring", in_phase(Phase::Provisioning)).await;
        claim(&client, &namespace, "spring-db").await;
        claim(&client, &namespace, "spring-redis").await;
    }
    // Another operator starts, and finds what happened before.
    let unlabelled = Patch::Merge(json!({ "metadata": { "labels": { RETAINED: null } } }));
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    let params = PatchParams::default();
    claims.patch("data-black-friday-db-0", &params, &unlabelled).await.unwrap();
    let _operator = Operator::start(&namespace).await;
    let left = ["data-black-friday-db-0", DATABASE];
    eventually("the leftovers are labelled", async || {
        (listed(&client, &namespace, &format!("{RETAINED}=black-friday")).await == left)
            .then_some(())
    })
    .await;
    assert_eq!(listed(&client, &namespace, RETAINED).await, left, "and nothing else");
}

#[tokio::test]
async fn the_policy_of_a_running_sale_can_be_changed_without_a_restart() {
    let (client, namespace) = namespace("retain-policy").await;
    let operator = Operator::idle().await;
    let sale = apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &namespace);
    let state = async || {
        let secret = secrets.get(DATABASE).await.unwrap();
        let spec = sets.get(DATABASE).await.unwrap().spec.unwrap();
        let policy = spec.persistent_volume_claim_retention_policy.unwrap().when_deleted.unwrap();
        (secret.owner_references().len(), policy)
    };
    assert_eq!(state().await, (0, "Retain".to_owned()));
    let template = sets.get(DATABASE).await.unwrap().spec.unwrap().template;

    let mut declared = minimal(NAME);
    declared["spec"]["database"] = json!({ "deletionPolicy": "Delete" });
    apply(&client, &namespace, &declared).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(state().await, (1, "Delete".to_owned()));

    // A sale from before there was a policy: the Secret is the sale's, and says nothing.
    let legacy = Patch::Merge(json!({ "metadata": {
        "annotations": null, "ownerReferences": [sale.controller_owner_ref(&()).unwrap()],
    } }));
    secrets.patch(DATABASE, &PatchParams::default(), &legacy).await.unwrap();
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(state().await, (0, "Retain".to_owned()));
    let after = sets.get(DATABASE).await.unwrap().spec.unwrap();
    assert_eq!(after.template, template, "no pod restarts");
}

#[tokio::test]
async fn redis_keeps_its_volume_where_it_holds_orders() {
    let (client, namespace) = namespace("retain-atomic").await;
    let _operator = Operator::start(&namespace).await;
    let mut atomic = minimal(NAME);
    atomic["spec"]["strategy"] = json!("Atomic");
    atomic["spec"]["redis"] = json!({ "nodes": 1 });
    apply(&client, &namespace, &atomic).await.unwrap();
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    wait_for(&sales, NAME, in_phase(Phase::Provisioning)).await;
    claim(&client, &namespace, DATABASE).await;
    claim(&client, &namespace, "black-friday-redis").await;
    delete(&client, &namespace, NAME).await;
    eventually("all three are listed", async || {
        (listed(&client, &namespace, RETAINED).await.len() == 3).then_some(())
    })
    .await;

    let mut renamed = atomic.clone();
    renamed["metadata"]["name"] = json!("winter");
    renamed["spec"]["database"] = json!({ "adopt": NAME });
    let refused = apply(&client, &namespace, &renamed).await.unwrap_err().to_string();
    assert!(refused.contains("must be the sale's own name with strategy Atomic"), "{refused}");
    apply(&client, &namespace, &adopting(NAME, NAME)).await.unwrap();
    let message = reason(&client, &namespace, NAME, "DataRetained").await;
    assert!(
        message.contains("data-black-friday-redis-0 of the adopted sale can hold"),
        "{message}"
    );
    sales.delete(NAME, &DeleteParams::default()).await.unwrap();

    atomic["spec"]["database"] = json!({ "adopt": NAME });
    apply(&client, &namespace, &atomic).await.unwrap();
    wait_for(&sales, NAME, in_phase(Phase::Provisioning)).await;
    assert!(listed(&client, &namespace, RETAINED).await.is_empty());
}

#[tokio::test]
async fn an_adopted_database_that_lost_its_orders_is_not_filled() {
    let (client, namespace) = namespace("retain-id").await;
    let operator = Operator::idle().await;
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    everything_runs(&client, &namespace).await;
    *operator.app.0.lock().unwrap() = Some(Vec::new());
    *operator.app.1.lock().unwrap() =
        Some(DatabaseReport { id: Some("first".to_owned()), version: None });
    reconcile_once(&operator, &client, &namespace).await;
    reconcile_once(&operator, &client, &namespace).await;
    claim(&client, &namespace, DATABASE).await;
    delete(&client, &namespace, NAME).await;

    *operator.app.0.lock().unwrap() = None;
    apply(&client, &namespace, &adopting(NAME, NAME)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    reconcile_once(&operator, &client, &namespace).await;
    let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
    let expected = async || {
        let jobs = jobs.list(&ListParams::default()).await.unwrap().items;
        seed_env(&jobs[0], "DATABASE_ID")
    };
    assert_eq!(expected().await.as_deref(), Some("first"));
    let accepted = json!({ "metadata": { "annotations": { ACCEPT_LOSS: "first" } } });
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    sales.patch(NAME, &PatchParams::default(), &Patch::Merge(accepted)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(expected().await, None, "a person said so");
}

/// A lost volume is never an empty sale: neither a running one nor one that adopts.
#[tokio::test]
async fn a_retained_database_without_its_volume_is_waited_for() {
    let (client, namespace) = namespace("retain-lost").await;
    let _operator = Operator::start(&namespace).await;
    deleted_sale(&client, &namespace).await;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    // Without the finalizer that a controller removes.
    let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    claims.patch("data-black-friday-db-0", &PatchParams::default(), &free).await.unwrap();
    claims.delete("data-black-friday-db-0", &DeleteParams::default()).await.unwrap();
    apply(&client, &namespace, &adopting(NAME, NAME)).await.unwrap();
    reason(&client, &namespace, NAME, "RetainedDataMissing").await;
    // Without adoption the old password is in the way.
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    let message = reason(&client, &namespace, NAME, "DataRetained").await;
    assert!(message.contains("kubectl delete -n retain-lost secret/black-friday-db"), "{message}");
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    secrets.delete(DATABASE, &DeleteParams::default()).await.unwrap();
    wait_for(&sales, NAME, in_phase(Phase::Provisioning)).await;
    pods_are_ready(&client, &namespace, DATABASE, 1).await;
}
