//! A drain of a cluster's machines evicts pods one after the other; the next Redis node may go when
//! the last one votes again.

use std::process::Command;
use std::time::{Duration, Instant};

use flashsale_operator::config::DefaultImages;
use flashsale_operator::crd::FlashSale;
use flashsale_operator::flash_sale::build::credentials::Passwords;
use flashsale_operator::flash_sale::build::{KubernetesResources, Prepared, build};
use flashsale_operator::flash_sale::dereference::References;
use flashsale_operator::flash_sale::validate::validate;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{EvictParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource as _, ResourceExt};
use redlock::{Config, NodeConfig, Redlock};
use serde_json::json;
use testkit::RedisServer;

use crate::control_plane::Controller;
use crate::support::{Server, create_namespace, eventually, minimal};

const NODES: usize = 5;

/// What a sale consists of.
fn built(namespace: &str) -> KubernetesResources<Prepared> {
    let mut sale = minimal("shop");
    sale["metadata"]["namespace"] = json!(namespace);
    sale["metadata"]["uid"] = json!("6a1c0f5e-0000-4000-8000-000000000000");
    let sale: FlashSale = serde_json::from_value(sale).unwrap();
    let image = Some("a".to_owned());
    let images = DefaultImages { app: image.clone(), redis: image.clone(), postgres: image };
    let valid = validate(&sale, References::default(), &images).unwrap();
    build(&valid, &Passwords::fixed()).unwrap()
}

/// The command by which a kubelet finds that a Redis pod has started, and may become ready.
fn startup_command() -> String {
    let pod = built("shop").redis.spec.unwrap().template.spec.unwrap();
    let probe = pod.containers[0].startup_probe.clone().unwrap();
    let [_sh, _c, command] = probe.exec.unwrap().command.unwrap().try_into().unwrap();
    command
}

fn succeeds(command: &str, node: &RedisServer) -> bool {
    let address = node.address();
    let (_, port) = address.split_once(':').unwrap();
    let command = command.replace("redis-cli", &format!("redis-cli -p {port}"));
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    output.status.success()
}

// The probe's command blocks its thread: the client needs another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_pod_is_ready_when_its_node_votes() {
    const LEASE: Duration = Duration::from_secs(3);
    let command = startup_command();
    let started = |node: &RedisServer| succeeds(&command, node);
    let mut nodes = RedisServer::start_many(NODES).unwrap();
    assert!(!nodes.iter().any(started), "nobody has admitted a node");
    let alone = command.replace(">= 90", ">= 0");
    assert_ne!(alone, command);
    assert!(succeeds(&alone, &nodes[0]), "no client came for so long");

    // The first use: at once.
    let node = |node: &RedisServer| NodeConfig { address: node.address(), password: None };
    let mut config = Config::new(nodes.iter().map(node).collect());
    config.longest_lease = LEASE;
    // The other tests take the processors from the nodes.
    config.node_timeout = Duration::from_secs(1);
    let _client = Redlock::start(&config).unwrap();
    eventually("all nodes vote", async || nodes.iter().all(started).then_some(())).await;

    // With its data, and without.
    for lost in [false, true] {
        let restarted = Instant::now();
        let node = &mut nodes[4];
        if lost { node.restart_empty() } else { node.restart() }.unwrap();
        let node = &nodes[4];
        eventually("the node votes again", async || started(node).then_some(())).await;
        assert!(restarted.elapsed() >= LEASE, "it voted before the longest lease was over");
    }

    // A value that no client wrote is no vote.
    nodes[4].command("DEL redlock:admitted").unwrap();
    nodes[4].command("RPUSH redlock:admitted a").unwrap();
    assert!(!started(&nodes[4]));
    assert!(succeeds(&alone, &nodes[4]), "nor is it an error");
}

/// The pods of the `StatefulSet`, which no controller and no kubelet looks after.
struct Pods {
    api: Api<Pod>,
    set: StatefulSet,
}

impl Pods {
    fn name(&self, ordinal: usize) -> String {
        format!("{}-{ordinal}", self.set.name_any())
    }

    async fn create(&self, ordinal: usize) {
        let template = self.set.spec.clone().unwrap().template;
        let mut pod =
            Pod { metadata: template.metadata.unwrap(), spec: template.spec, status: None };
        pod.metadata.name = Some(self.name(ordinal));
        pod.metadata.owner_references = self.set.controller_owner_ref(&()).map(|it| vec![it]);
        // The volume claims, which none of this is about.
        let spec = pod.spec.as_mut().unwrap();
        spec.containers[0].volume_mounts = None;
        self.api.create(&PostParams::default(), &pod).await.unwrap();
    }

    /// What a kubelet or, for a machine that it has lost, the control plane says of a pod that runs.
    async fn is_ready(&self, ordinal: usize, ready: bool) {
        let ready = if ready { "True" } else { "False" };
        let ready = json!({ "status": {
            "phase": "Running", "conditions": [{ "type": "Ready", "status": ready }],
        } });
        let params = PatchParams::default();
        self.api.patch_status(&self.name(ordinal), &params, &Patch::Merge(ready)).await.unwrap();
    }

    /// Whether the pod may go, and is gone then.
    async fn evict(&self, ordinal: usize) -> bool {
        match self.api.evict(&self.name(ordinal), &EvictParams::default()).await {
            Ok(_) => true,
            Err(kube::Error::Api(status)) if status.code == 429 => false,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The Redis nodes of a sale and their budget, all pods there and none ready.
async fn redis_pods(client: &Client, namespace: &str) -> (Pods, Api<PodDisruptionBudget>) {
    let resources = built(namespace);
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let set = sets.create(&PostParams::default(), &resources.redis).await.unwrap();
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), namespace);
    for budget in &resources.disruption_budgets {
        budgets.create(&PostParams::default(), budget).await.unwrap();
    }
    let pods = Pods { api: Api::namespaced(client.clone(), namespace), set };
    for ordinal in 0..NODES {
        pods.create(ordinal).await;
    }
    (pods, budgets)
}

/// Waits until the budget of the Redis nodes has counted as many ready ones.
async fn counted(budgets: &Api<PodDisruptionBudget>, wanted: i32) {
    eventually("the budget has counted", async || {
        let budget = budgets.get("shop-redis").await.unwrap();
        let status = budget.status?;
        (status.expected_pods == 5 && status.current_healthy == wanted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_next_redis_pod_is_evicted_when_the_last_one_is_ready() {
    let server = Server::bare().await;
    // A refused eviction is an answer 429, which the client would repeat on its own.
    let client = server.admin_without_retries();
    create_namespace(&client, "shop").await;
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = server.kubeconfig_in(folder.path());
    let _controller = Controller::of_disruptions(&kubeconfig);
    let (pods, budgets) = Box::pin(redis_pods(&client, "shop")).await;
    for ordinal in 0..NODES {
        pods.is_ready(ordinal, true).await;
    }
    counted(&budgets, 5).await;
    assert!(pods.evict(4).await);
    assert!(!pods.evict(3).await, "one is away");

    pods.create(4).await;
    counted(&budgets, 4).await;
    assert!(!pods.evict(3).await, "one is back and not ready: it does not vote");
    pods.is_ready(4, true).await;
    counted(&budgets, 5).await;
    assert!(pods.evict(3).await);
    pods.create(3).await;
    counted(&budgets, 4).await;
    assert!(pods.evict(3).await, "one that does not vote may go while the others do");

    // The control plane does not hear of the machine that all of them run on, and they serve.
    pods.create(3).await;
    for ordinal in 0..NODES {
        pods.is_ready(ordinal, true).await;
    }
    counted(&budgets, 5).await;
    for ordinal in 0..NODES {
        pods.is_ready(ordinal, false).await;
    }
    counted(&budgets, 0).await;
    assert!(!pods.evict(3).await, "the quorum would go");
}
