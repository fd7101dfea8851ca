//! The number of Redis nodes changes on an open sale.

use flashsale_operator::crd::{FlashSale, Phase, ProductStatus};
use flashsale_operator::flash_sale::nodes::LockNodes;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cluster::{
    NAME, app_is_rolled_out, condition, pods_are_ready, reconcile_once, seed_completes,
};
use crate::support::{Operator, apply, minimal, namespace};

const REDIS: &str = "black-friday-redis";

fn with_nodes(nodes: i32) -> Value {
    let mut sale = minimal(NAME);
    sale["spec"]["redis"] = json!({ "nodes": nodes });
    sale
}

fn addresses(namespace: &str, nodes: i32) -> Vec<String> {
    let node = |i| format!("{REDIS}-{i}.{REDIS}.{namespace}.svc:6379");
    (0..nodes).map(node).collect()
}

/// One test's sale, and what the operator made of it.
struct Sale<'a> {
    client: &'a Client,
    namespace: &'a str,
}

impl Sale<'_> {
    async fn get(&self) -> FlashSale {
        let sales: Api<FlashSale> = Api::namespaced(self.client.clone(), self.namespace);
        sales.get(NAME).await.unwrap()
    }

    /// Pods of Redis, what happens to volumes of removed ones, and the nodes with which a replica starts.
    async fn applied(&self) -> (i32, String, Vec<String>) {
        let sets: Api<StatefulSet> = Api::namespaced(self.client.clone(), self.namespace);
        let set = sets.get(REDIS).await.unwrap().spec.unwrap();
        let policy = set.persistent_volume_claim_retention_policy.unwrap();
        let apps: Api<Deployment> = Api::namespaced(self.client.clone(), self.namespace);
        let app = apps.get(NAME).await.unwrap().spec.unwrap().template.spec.unwrap();
        let mut environment = app.containers[0].env.iter().flatten();
        let nodes = environment.find(|variable| variable.name == "REDIS_NODES").unwrap();
        let nodes = nodes.value.as_ref().unwrap().split(',').map(str::to_owned).collect();
        (set.replicas.unwrap(), policy.when_scaled.unwrap(), nodes)
    }

    async fn reconciled_by(&self, operator: &Operator) -> FlashSale {
        reconcile_once(operator, self.client, self.namespace).await;
        self.get().await
    }

    async fn declares(&self, nodes: i32) {
        apply(self.client, self.namespace, &with_nodes(nodes)).await.unwrap();
    }

    fn lock(&self, nodes: i32, joining: i32, done: bool) -> LockNodes {
        let [nodes, joining] = [nodes, joining].map(|nodes| addresses(self.namespace, nodes));
        LockNodes { nodes, joining, done, error: None }
    }

    /// What the controllers and the seed do until everything is as applied.
    async fn runs(&self, nodes: i32, former_seed: &str) -> String {
        pods_are_ready(self.client, self.namespace, REDIS, nodes).await;
        pods_are_ready(self.client, self.namespace, "black-friday-db", 1).await;
        app_is_rolled_out(self.client, self.namespace).await;
        seed_completes(self.client, self.namespace, former_seed).await
    }
}

/// An operator whose app has this lock.
async fn operator(lock: Option<LockNodes>) -> Operator {
    let operator = Operator::idle().await;
    let counts = ProductStatus { id: "1".to_owned(), stock: 100, sold: 40, remaining: 60 };
    *operator.app.0.lock().unwrap() = Some(vec![counts]);
    operator.app.3.lock().unwrap().nodes = lock;
    operator
}

fn set_lock(operator: &Operator, lock: LockNodes) {
    operator.app.3.lock().unwrap().nodes = Some(lock);
}

fn asked(operator: &Operator) -> Vec<Vec<String>> {
    std::mem::take(&mut operator.app.3.lock().unwrap().asked)
}

fn state(sale: &FlashSale) -> (Phase, &str, Option<i32>) {
    let status = sale.status.as_ref().unwrap();
    (status.phase, condition(sale, "RedisReady").1, status.redis.as_ref().unwrap().members)
}

#[tokio::test]
async fn an_open_sale_goes_from_one_node_to_five_and_back() {
    let (client, namespace) = namespace("nodes").await;
    let sale = Sale { client: &client, namespace: &namespace };
    let one = operator(Some(sale.lock(1, 0, false))).await;
    sale.declares(1).await;
    sale.reconciled_by(&one).await;
    let first_seed = sale.runs(1, "").await;
    let open = sale.reconciled_by(&one).await;
    assert_eq!(state(&open), (Phase::Open, "AllNodesReady", Some(1)));
    assert_eq!(condition(&open, "Ready").0, "True");
    assert!(asked(&one).is_empty());

    // The pods of the new nodes come first, and no replica starts with them.
    sale.declares(5).await;
    let changing = sale.reconciled_by(&one).await;
    let before = addresses(&namespace, 1);
    assert_eq!(sale.applied().await, (5, "Retain".to_owned(), before.clone()));
    assert_eq!(state(&changing), (Phase::Open, "ChangingNodes", Some(1)));
    assert_eq!(condition(&changing, "Ready"), ("False", "ChangingNodes"));
    assert_eq!(condition(&changing, "Reconciling").0, "True");
    assert!(asked(&one).is_empty(), "they did not exist when it looked");

    // Whatever operator comes next, it asks until the app has confirmed the change.
    for lock in [sale.lock(1, 0, false), sale.lock(1, 5, false), sale.lock(5, 0, false)] {
        let another = operator(Some(lock)).await;
        sale.reconciled_by(&another).await;
        assert_eq!(asked(&another), [addresses(&namespace, 5)]);
        assert_eq!(sale.applied().await, (5, "Retain".to_owned(), before.clone()));
    }
    let five = operator(Some(sale.lock(5, 0, true))).await;
    sale.reconciled_by(&five).await;
    let all = addresses(&namespace, 5);
    assert_eq!(sale.applied().await, (5, "Retain".to_owned(), all.clone()));
    let second_seed = sale.runs(5, &first_seed).await;
    let open = sale.reconciled_by(&five).await;
    assert_eq!(state(&open), (Phase::Open, "AllNodesReady", Some(5)));
    assert_eq!(condition(&open, "Ready").0, "True");
    asked(&five);
    sale.reconciled_by(&five).await;
    assert!(asked(&five).is_empty(), "it is as declared");

    // No pod goes before the lock has given its node up.
    sale.declares(1).await;
    for lock in [sale.lock(5, 0, false), sale.lock(5, 1, false), sale.lock(1, 0, false)] {
        set_lock(&five, lock);
        let changing = sale.reconciled_by(&five).await;
        assert_eq!(asked(&five), std::slice::from_ref(&before));
        assert_eq!(sale.applied().await, (5, "Retain".to_owned(), all.clone()));
        assert_eq!((changing.status.unwrap().phase), Phase::Open);
    }
    set_lock(&five, sale.lock(1, 0, true));
    sale.reconciled_by(&five).await;
    assert_eq!(sale.applied().await, (1, "Delete".to_owned(), before.clone()));
    sale.reconciled_by(&five).await;
    assert_eq!(sale.applied().await.1, "Delete", "four pods are terminating");
    sale.runs(1, &second_seed).await;
    sale.reconciled_by(&five).await;
    assert_eq!(sale.applied().await, (1, "Retain".to_owned(), before));
    pods_are_ready(&client, &namespace, REDIS, 1).await;
    let open = sale.reconciled_by(&five).await;
    assert_eq!(state(&open), (Phase::Open, "AllNodesReady", Some(1)));
}

/// Redis takes the whole quota, so no replica starts that could confirm a change.
#[tokio::test]
async fn a_sale_that_was_never_seeded_gets_the_declared_nodes_at_once() {
    let (client, namespace) = namespace("nodes-unseeded").await;
    let sale = Sale { client: &client, namespace: &namespace };
    let operator = operator(None).await;
    sale.declares(5).await;
    sale.reconciled_by(&operator).await;
    pods_are_ready(&client, &namespace, REDIS, 5).await;
    sale.reconciled_by(&operator).await;

    sale.declares(1).await;
    let provisioning = sale.reconciled_by(&operator).await;
    let one = addresses(&namespace, 1);
    assert_eq!(sale.applied().await, (1, "Delete".to_owned(), one.clone()));
    assert_eq!(state(&provisioning).0, Phase::Provisioning);
    pods_are_ready(&client, &namespace, REDIS, 1).await;
    sale.reconciled_by(&operator).await;
    assert_eq!(sale.applied().await, (1, "Retain".to_owned(), one.clone()));

    // From the seed on, no replica starts with other nodes before the app has confirmed them.
    seed_completes(&client, &namespace, "").await;
    sale.declares(5).await;
    sale.reconciled_by(&operator).await;
    assert_eq!(sale.applied().await, (5, "Retain".to_owned(), one));
    assert!(asked(&operator).is_empty(), "no pod of a new node existed");
}

#[tokio::test]
async fn an_app_that_cannot_change_its_nodes_is_named_and_keeps_them() {
    let (client, namespace) = namespace("nodes-old-app").await;
    let sale = Sale { client: &client, namespace: &namespace };
    let operator = operator(None).await;
    sale.declares(5).await;
    sale.reconciled_by(&operator).await;
    sale.runs(5, "").await;
    assert_eq!(state(&sale.reconciled_by(&operator).await), (Phase::Open, "AllNodesReady", None));
    sale.declares(1).await;
    let changing = sale.reconciled_by(&operator).await;
    assert_eq!(sale.applied().await.0, 5);
    assert_eq!(state(&changing).0, Phase::Open);
    let conditions = changing.status.unwrap().conditions;
    let ready = conditions.iter().find(|it| it.type_ == "Ready").unwrap();
    assert!(ready.message.contains("update its image"), "{}", ready.message);
    sale.declares(5).await;
    let open = sale.reconciled_by(&operator).await;
    assert_eq!(condition(&open, "Ready").0, "True", "the change is taken back");
}
