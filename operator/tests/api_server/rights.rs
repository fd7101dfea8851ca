//! The permissions that the chart gives the operator: those that it uses, and no others.

use std::collections::BTreeSet;
use std::sync::Arc;

use flashsale_operator::controller::Scope;
use flashsale_operator::crd::{FlashSale, Phase, ProductStatus};
use flashsale_operator::flash_sale::reconcile;
use flashsale_operator::leader::{Leadership, LeaseName};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cluster::{NAME, everything_runs, in_phase, owned, seed_completes};
use crate::network::http_route_definition;
use crate::retained;
use crate::support::{
    CHART, DEADLINE, Operator, SYSTEM, Server, apply, create_namespace, eventually, helm,
    install_crd, minimal, wait_for,
};

const SHOP: &str = "shop";
const CLUSTER_ROLE: &str = "flashsale-system-flashsale-operator";

/// `group resource verb` of each permission.
fn permissions(rules: Vec<PolicyRule>) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for rule in rules {
        for group in rule.api_groups.unwrap_or_default() {
            for resource in rule.resources.clone().unwrap_or_default() {
                all.extend(rule.verbs.iter().map(|verb| format!("{group} {resource} {verb}")));
            }
        }
    }
    all
}

/// The permissions that these requests needed. Server-side apply of an absent object needs `create` as well.
fn used(requests: &[Value]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for request in requests {
        let object = &request["objectRef"];
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let mut resource = text("resource").to_owned();
        if object["subresource"].is_string() {
            resource = format!("{resource}/{}", text("subresource"));
        }
        let verb = request["verb"].as_str().unwrap();
        all.insert(format!("{} {resource} {verb}", text("apiGroup")));
        if verb == "patch" && request["responseStatus"]["code"] == 201 {
            all.insert(format!("{} {resource} create", text("apiGroup")));
        }
    }
    all
}

fn sale(storage_class: &str, app: Value, stock: u32) -> Value {
    let mut sale = minimal(NAME);
    sale["spec"]["products"][0]["stock"] = json!(stock);
    sale["spec"]["redis"] = json!({ "storage": { "className": storage_class } });
    sale["spec"]["app"] = app;
    sale
}

/// Completes the deletion of the Redis nodes, as the garbage collector does.
async fn redis_is_collected(client: &Client) {
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), SHOP);
    let redis = "black-friday-redis";
    let deleted = |set: Option<&StatefulSet>| {
        set.is_some_and(|set| set.metadata.deletion_timestamp.is_some())
    };
    wait_for(&sets, redis, deleted).await;
    let done = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    sets.patch(redis, &PatchParams::default(), &done).await.unwrap();
}

/// A sale with everything that the operator does in the life of one. A permission that this test reports as
/// unused needs a step here, or has to leave the chart.
async fn a_life(client: &Client, operator: &Operator) {
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), SHOP);
    let autoscaled = json!({
        "autoscaling": { "maxReplicas": 6 }, "resources": { "requests": { "cpu": "1" } },
        "ingress": { "hosts": ["sale.example"] },
        "httpRoute": { "parentRefs": [{ "name": "public" }] },
    });
    let mut all = sale("typo", autoscaled, 100);
    all["spec"]["database"] = json!({ "backup": { "schedule": "@daily" } });
    apply(client, SHOP, &all).await.unwrap();
    wait_for(&sales, NAME, in_phase(Phase::Provisioning)).await;

    // Another storage class, and neither backups, autoscaler nor ways from outside: all are deleted.
    let mut plain = sale("fast", json!({}), 100);
    plain["spec"]["networkPolicy"] = json!({ "enabled": false });
    apply(client, SHOP, &plain).await.unwrap();
    redis_is_collected(client).await;
    let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), SHOP);
    eventually("no autoscaler", async || {
        autoscalers.get_opt(NAME).await.unwrap().is_none().then_some(())
    })
    .await;
    let counts = ProductStatus { id: "1".to_owned(), stock: 100, sold: 0, remaining: 100 };
    *operator.app.0.lock().unwrap() = Some(vec![counts]);
    everything_runs(client, SHOP).await;
    wait_for(&sales, NAME, in_phase(Phase::Open)).await;

    // More stock: another seed Job, and the first one is deleted.
    let parts = owned(client, SHOP).await;
    let first = parts.keys().find_map(|part| part.strip_prefix("Job ")).unwrap();
    apply(client, SHOP, &sale("fast", json!({}), 200)).await.unwrap();
    seed_completes(client, SHOP, first).await;
    eventually("one seed Job", async || {
        let parts = owned(client, SHOP).await;
        (!parts.contains_key(&format!("Job {first}"))).then_some(())
    })
    .await;
}

/// A sale that this version of the operator cannot read, as after a downgrade.
async fn an_unreadable_sale(client: &Client, operator: &Operator) {
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), SHOP);
    let metadata = sales.get(NAME).await.unwrap().metadata;
    let invalid = InvalidObject { error: "spec.future: unknown".to_owned(), metadata };
    let sale = Arc::new(DeserializeGuard(Err(invalid)));
    reconcile(sale, operator.context.clone()).await.unwrap();
}

/// A deleted sale: its claim and its Secret get a label.
async fn a_deletion(client: &Client) {
    retained::claim(client, SHOP, "black-friday-db").await;
    retained::delete(client, SHOP, NAME).await;
    let selector = format!("{}={NAME}", retained::RETAINED);
    eventually("both are labelled", async || {
        (retained::listed(client, SHOP, &selector).await.len() == 2).then_some(())
    })
    .await;
}

async fn a_leadership(client: Client) {
    let lease =
        LeaseName { namespace: SYSTEM.to_owned(), name: "flashsale-operator-leader".to_owned() };
    let mut leadership = Leadership::start(client, lease, "a".to_owned()).await.unwrap();
    tokio::time::timeout(DEADLINE, leadership.wait_until(true)).await.unwrap().unwrap();
    leadership.release().await.unwrap();
}

/// What administrators of a namespace get by the chart, so that they can give it to an operator.
fn given_away() -> BTreeSet<String> {
    let template = ["template", "flashsale-operator", CHART, "--namespace", SYSTEM];
    let roles = ["--show-only", "templates/aggregate.yaml"];
    let rendered = helm(&[template.as_slice(), &roles].concat());
    let roles = serde_norway::Deserializer::from_slice(&rendered);
    let mut roles = roles.map(|role| ClusterRole::deserialize(role).unwrap());
    let admin = roles.find(|role| role.name_any() == format!("{CLUSTER_ROLE}-admin")).unwrap();
    permissions(admin.rules.unwrap())
}

/// The `ClusterRole` for sales, and the Role for the Lease.
async fn granted(client: &Client) -> BTreeSet<String> {
    let cluster_roles: Api<ClusterRole> = Api::all(client.clone());
    let roles: Api<Role> = Api::namespaced(client.clone(), SYSTEM);
    let mut all = permissions(cluster_roles.get(CLUSTER_ROLE).await.unwrap().rules.unwrap());
    for role in roles.list(&ListParams::default()).await.unwrap() {
        all.extend(permissions(role.rules.unwrap_or_default()));
    }
    all
}

#[tokio::test]
async fn each_permission_is_used_and_no_other_is_needed() {
    let server = Server::audited().await;
    let client = server.admin();
    create_namespace(&client, SHOP).await;
    install_crd(&client, http_route_definition()).await;
    {
        let operator = Operator::run(server.operator(), Scope::all());
        Box::pin(a_life(&client, &operator)).await;
        an_unreadable_sale(&client, &operator).await;
        Box::pin(a_deletion(&client)).await;
    }
    a_leadership(server.operator()).await;

    let requests = server.audit_log();
    let refused: Vec<_> =
        requests.iter().filter(|it| it["responseStatus"]["code"] == 403).collect();
    assert!(refused.is_empty(), "the chart lacks a permission: {refused:#?}");
    let (granted, used) = (granted(&client).await, used(&requests));
    let unused: Vec<_> = granted.difference(&used).collect();
    assert!(unused.is_empty(), "the chart grants what the operator does not use: {unused:#?}");
    let given_away = given_away();
    let unused: Vec<_> = given_away.difference(&granted).collect();
    assert!(unused.is_empty(), "administrators get what no operator has: {unused:#?}");
}
