//! Where Kubernetes' own scheduler puts the Redis nodes of a sale: five machines, three of them in one zone.

use std::collections::BTreeMap;

use flashsale_operator::crd::FlashSale;
use flashsale_operator::flash_sale::build::build;
use flashsale_operator::flash_sale::build::credentials::Passwords;
use flashsale_operator::flash_sale::dereference::References;
use flashsale_operator::flash_sale::validate::validate;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::control_plane::Controller;
use crate::support::{Server, create_namespace, eventually, images, minimal};

const ZONE: &str = "topology.kubernetes.io/zone";
const MACHINES: [(&str, &str); 5] =
    [("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("c1", "c")];

async fn add_machines(client: &Client) {
    let nodes: Api<Node> = Api::all(client.clone());
    for (name, zone) in MACHINES {
        let labels = json!({ "kubernetes.io/hostname": name, ZONE: zone });
        let node = json!({ "metadata": { "name": name, "labels": labels } });
        let node = serde_json::from_value(node).unwrap();
        nodes.create(&PostParams::default(), &node).await.unwrap();
        let capacity = json!({ "cpu": "8", "memory": "8Gi", "pods": "110" });
        let status = json!({ "status": {
            "capacity": capacity, "allocatable": capacity,
            "conditions": [{ "type": "Ready", "status": "True" }],
        } });
        let params = PatchParams::default();
        nodes.patch_status(name, &params, &Patch::Merge(status)).await.unwrap();
        // The API server gives new machines the taint `not-ready`.
        let untainted = json!({ "spec": { "taints": null } });
        nodes.patch(name, &params, &Patch::Merge(untainted)).await.unwrap();
    }
}

/// The machines of the five nodes, or `pending`, when the scheduler has decided on all of them.
async fn scheduled(client: &Client, namespace: &str, redis: Value) -> Vec<String> {
    create_namespace(client, namespace).await;
    let mut sale = minimal("shop");
    sale["metadata"]["namespace"] = json!(namespace);
    sale["metadata"]["uid"] = json!("6a1c0f5e-0000-4000-8000-000000000000");
    sale["spec"]["redis"] = redis;
    let sale: FlashSale = serde_json::from_value(sale).unwrap();
    let valid = validate(&sale, References::default(), &images()).unwrap();
    let template = build(&valid, &Passwords::fixed()).unwrap().redis.spec.unwrap().template;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    for ordinal in 0..5 {
        let mut pod = Pod {
            metadata: template.metadata.clone().unwrap(),
            spec: template.spec.clone(),
            status: None,
        };
        pod.metadata.name = Some(format!("shop-redis-{ordinal}"));
        // The volume claims, which none of this is about.
        pod.spec.as_mut().unwrap().containers[0].volume_mounts = None;
        pods.create(&PostParams::default(), &pod).await.unwrap();
    }
    eventually("the scheduler has decided", async || {
        let pods = pods.list(&ListParams::default()).await.unwrap().items;
        let decided = pods.iter().map(|pod| {
            let node = pod.spec.as_ref()?.node_name.clone();
            let conditions = pod.status.as_ref()?.conditions.as_deref().unwrap_or_default();
            let pending = conditions.iter().any(|it| it.reason.as_deref() == Some("Unschedulable"));
            node.or_else(|| pending.then(|| "pending".to_owned()))
        });
        decided.collect::<Option<Vec<String>>>()
    })
    .await
}

/// How many nodes each zone has, ascending.
fn by_zone(machines: &[String]) -> Vec<usize> {
    let zones: BTreeMap<&str, &str> = MACHINES.into_iter().collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for machine in machines {
        *counts.entry(zones[machine.as_str()]).or_default() += 1;
    }
    let mut counts: Vec<usize> = counts.into_values().collect();
    counts.sort_unstable();
    counts
}

fn on_different_machines(machines: &[String]) -> bool {
    machines.iter().enumerate().all(|(at, machine)| !machines[..at].contains(machine))
}

#[tokio::test]
async fn the_scheduler_spreads_redis_nodes_as_declared() {
    let server = Server::bare().await;
    let client = server.admin();
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = server.kubeconfig_in(folder.path());
    add_machines(&client).await;
    let _scheduler = Controller::scheduler(&kubeconfig);

    // Without the protection the largest zone has three of five, the quorum.
    let machines = scheduled(&client, "hosts", json!({ "spread": { "hosts": "Required" } })).await;
    assert!(on_different_machines(&machines), "{machines:?}");
    assert_eq!(by_zone(&machines), [1, 1, 3]);

    let zones = json!({ "spread": { "zones": "Required" } });
    let machines = scheduled(&client, "zones", zones).await;
    assert_eq!(by_zone(&machines), [1, 2, 2], "three zones for five nodes");

    let pool = |zones: &[&str]| {
        json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
            { "matchExpressions": [{ "key": ZONE, "operator": "In", "values": zones }] },
        ] } } })
    };
    let two = json!({
        "spread": { "zones": "Required" }, "podTemplate": { "affinity": pool(&["a", "b"]) },
    });
    let machines = scheduled(&client, "two-zones", two).await;
    assert_eq!(by_zone(&machines), [2, 3], "all of them run");

    let three = json!({
        "spread": { "hosts": "Required" }, "podTemplate": { "affinity": pool(&["a"]) },
    });
    let machines = scheduled(&client, "three-hosts", three).await;
    let pending = machines.iter().filter(|machine| *machine == "pending").count();
    assert_eq!(pending, 2, "one node per machine: {machines:?}");
}
