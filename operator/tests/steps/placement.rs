//! Warnings about pods that share a machine or a zone.

use flashsale_operator::flash_sale::placement::warnings;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::sale;

fn pod(component: &str, machine: Option<&str>, zone: Option<&str>) -> Pod {
    let mut labels = json!({ "app.kubernetes.io/component": component });
    if let Some(zone) = zone {
        labels["topology.kubernetes.io/zone"] = zone.into();
    }
    let metadata = json!({ "name": "p", "labels": labels });
    serde_json::from_value(json!({
        "metadata": metadata,
        "spec": { "nodeName": machine, "containers": [] },
        "status": { "phase": "Running" },
    }))
    .unwrap()
}

fn on(component: &str, machines: &[&str]) -> Vec<Pod> {
    machines.iter().map(|machine| pod(component, Some(machine), None)).collect()
}

fn of(pods: &[Pod]) -> Vec<String> {
    warnings(&sale("").spec, pods)
}

#[test]
fn a_machine_with_most_of_the_nodes_or_all_replicas_is_named() {
    let spread = [on("redis", &["a", "a", "b", "b", "c"]), on("app", &["a", "a", "b"])].concat();
    assert_eq!(of(&spread), Vec::<String>::new());
    let nodes = of(&on("redis", &["a", "b", "b", "b", "c"]));
    assert_eq!(nodes.len(), 1);
    assert!(nodes[0].starts_with("redis.spread: 3 of 5 nodes run on machine b"), "{nodes:?}");
    let replicas = of(&on("app", &["a", "a"]));
    assert!(
        replicas[0].starts_with(
            "app.podTemplate.topologySpreadConstraints: all 2 replicas run on machine a"
        ),
        "{replicas:?}"
    );
    // They have warnings of their own.
    let single = sale("{redis: {nodes: 1}, app: {replicas: 1}}");
    let pods = [on("redis", &["a"]), on("app", &["a"])].concat();
    assert_eq!(warnings(&single.spec, &pods), Vec::<String>::new());
}

#[test]
fn a_zone_is_named_where_the_machines_differ() {
    let in_zones = |zones: [&str; 5]| -> Vec<Pod> {
        let machines = ["m0", "m1", "m2", "m3", "m4"];
        let places = machines.into_iter().zip(zones);
        places.map(|(machine, zone)| pod("redis", Some(machine), Some(zone))).collect()
    };
    assert_eq!(of(&in_zones(["x", "x", "y", "y", "z"])), Vec::<String>::new());
    let found = of(&in_zones(["x", "x", "y", "x", "z"]));
    assert!(found[0].starts_with("redis.spread: 3 of 5 nodes run in zone x"), "{found:?}");
}

#[test]
fn pods_without_a_machine_and_pods_that_leave_do_not_count() {
    let mut pods = on("redis", &["a", "a", "a", "b", "c"]);
    pods[0].spec.as_mut().unwrap().node_name = None;
    assert_eq!(of(&pods), Vec::<String>::new());
    let mut pods = on("redis", &["a", "a", "a", "b", "c"]);
    pods[1].status.as_mut().unwrap().phase = Some("Failed".to_owned());
    assert_eq!(of(&pods), Vec::<String>::new());
    let mut pods = on("redis", &["a", "a", "a", "b", "c"]);
    pods[2].metadata.deletion_timestamp =
        Some(serde_json::from_value(json!("2026-11-27T12:00:00Z")).unwrap());
    assert_eq!(of(&pods), Vec::<String>::new());
}
