//! What the controllers of a cluster would do, and a look at what the operator did.

use std::collections::BTreeMap;
use std::sync::Arc;

use flashsale_operator::crd::{FlashSale, Phase};
use flashsale_operator::flash_sale::reconcile;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::Action;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::support::{Operator, eventually, wait_for};

/// The sale of most tests.
pub const NAME: &str = "black-friday";

/// That sale as the API server has it.
pub async fn sale(client: &Client, namespace: &str) -> FlashSale {
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), namespace);
    sales.get(NAME).await.unwrap()
}

pub fn condition<'a>(sale: &'a FlashSale, type_: &str) -> (&'a str, &'a str) {
    let conditions = sale.status.as_ref().map(|status| status.conditions.as_slice());
    let found = conditions.unwrap_or_default().iter().find(|it| it.type_ == type_);
    found.map_or(("", ""), |it| (it.status.as_str(), it.reason.as_str()))
}

pub fn in_phase(phase: Phase) -> impl Fn(Option<&FlashSale>) -> bool {
    move |sale| sale.and_then(|sale| sale.status.as_ref()).is_some_and(|it| it.phase == phase)
}

/// Everything a sale owns in a namespace, as `Kind name` and resource version.
pub async fn owned(client: &Client, namespace: &str) -> BTreeMap<String, String> {
    async fn list<K>(client: &Client, namespace: &str) -> Vec<(String, String)>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(client.clone(), namespace);
        let items = api.list_metadata(&ListParams::default()).await.unwrap().items;
        let owned = items.into_iter().filter(|item| !item.owner_references().is_empty());
        let version = |it: &PartialObjectMeta<K>| it.resource_version().unwrap();
        owned.map(|it| (format!("{} {}", K::kind(&()), it.name_any()), version(&it))).collect()
    }
    let mut all = BTreeMap::new();
    all.extend(list::<Secret>(client, namespace).await);
    all.extend(list::<ConfigMap>(client, namespace).await);
    all.extend(list::<Service>(client, namespace).await);
    all.extend(list::<StatefulSet>(client, namespace).await);
    all.extend(list::<Job>(client, namespace).await);
    all.extend(list::<Deployment>(client, namespace).await);
    all.extend(list::<PodDisruptionBudget>(client, namespace).await);
    all.extend(list::<NetworkPolicy>(client, namespace).await);
    all.extend(list::<Ingress>(client, namespace).await);
    all
}

/// What the controllers of a cluster would report once everything runs.
pub async fn everything_runs(client: &Client, namespace: &str) {
    pods_are_ready(client, namespace, "black-friday-redis", 5).await;
    pods_are_ready(client, namespace, "black-friday-db", 1).await;
    app_is_rolled_out(client, namespace).await;
    seed_completes(client, namespace, "").await;
}

/// All three replicas are as they are declared now.
pub async fn app_is_rolled_out(client: &Client, namespace: &str) {
    let app: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let found = wait_for(&app, NAME, |app: Option<&Deployment>| app.is_some()).await;
    let status = json!({
        "observedGeneration": found.metadata.generation,
        "replicas": 3,
        "updatedReplicas": 3,
        "readyReplicas": 3,
        "availableReplicas": 3,
    });
    report(&app, NAME, status).await;
}

pub async fn pods_are_ready(client: &Client, namespace: &str, name: &str, pods: i32) {
    let api: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let found = wait_for(&api, name, |it: Option<&StatefulSet>| it.is_some()).await;
    let status = json!({
        "observedGeneration": found.metadata.generation,
        "replicas": pods,
        "updatedReplicas": pods,
        "readyReplicas": pods,
    });
    report(&api, name, status).await;
}

/// Completes the seed Job that is not `other`, and returns its name.
pub async fn seed_completes(client: &Client, namespace: &str, other: &str) -> String {
    let api: Api<Job> = Api::namespaced(client.clone(), namespace);
    let name = eventually("a seed job", async || {
        let jobs = api.list_metadata(&ListParams::default()).await.unwrap().items;
        jobs.iter().map(ResourceExt::name_any).find(|name| name != other)
    })
    .await;
    let done = |type_| json!({ "type": type_, "status": "True", "lastTransitionTime": "2026-11-21T00:00:00Z" });
    let status = json!({
        "startTime": "2026-11-21T00:00:00Z",
        "completionTime": "2026-11-21T00:00:01Z",
        "succeeded": 1,
        "uncountedTerminatedPods": {},
        "conditions": [done("SuccessCriteriaMet"), done("Complete")],
    });
    report(&api, &name, status).await;
    name
}

pub async fn report<K>(api: &Api<K>, name: &str, status: Value)
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let patch = Patch::Merge(json!({ "status": status }));
    api.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
}

/// Reconciles the sale once in its current state.
pub async fn reconcile_once(operator: &Operator, client: &Client, namespace: &str) -> Action {
    let api: Api<FlashSale> = Api::namespaced(client.clone(), namespace);
    let sale = api.get(NAME).await.unwrap();
    reconcile(Arc::new(DeserializeGuard(Ok(sale))), operator.context.clone()).await.unwrap()
}
