//! Warnings about pods that share a machine or a zone, so that one failure stops the sale. Takes no client and no clock.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::names::Component;
use crate::crd::FlashSaleSpec;

/// Kubernetes 1.35 and later copy it from the machine to its pods.
const ZONE: &str = "topology.kubernetes.io/zone";

/// The warnings about the places of `pods`, all pods of a sale with `spec`.
#[must_use]
pub fn warnings(spec: &FlashSaleSpec, pods: &[Pod]) -> Vec<String> {
    let of = |component: Component| {
        pods.iter().filter(move |pod| component.has(pod) && stays(pod) && machine(pod).is_some())
    };
    let nodes: Vec<&Pod> = of(Component::Redis).collect();
    let replicas: Vec<&Pod> = of(Component::App).collect();
    // A single node or replica has a warning of its own.
    let declared = usize::try_from(spec.redis.nodes).unwrap_or_default();
    let of_nodes = shared(&nodes, declared / 2 + 1).filter(|_| declared > 1).map(|place| {
        format!(
            "redis.spread: {} of {declared} nodes run {place}, and without it no purchase is \
             possible; spread them over three or more",
            place.pods
        )
    });
    let of_replicas = shared(&replicas, replicas.len()).filter(|_| replicas.len() > 1).map(|place| {
        format!(
            "app.podTemplate.topologySpreadConstraints: all {} replicas run {place}, and without it \
             no purchase is possible; spread them over two or more",
            place.pods
        )
    });
    of_nodes.into_iter().chain(of_replicas).collect()
}

/// A machine or a zone.
struct Place<'a> {
    kind: &'static str,
    name: &'a str,
    /// The pods that run there.
    pods: usize,
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// The machine, else the zone, where `most` or more of the pods run.
fn shared<'a>(pods: &[&'a Pod], most: usize) -> Option<Place<'a>> {
    let fullest = |kind, name: fn(&'a Pod) -> Option<&'a str>| {
        let mut counts = BTreeMap::<&str, usize>::new();
        for name in pods.iter().filter_map(|pod| name(pod)) {
            *counts.entry(name).or_default() += 1;
        }
        let (name, pods) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        (pods >= most).then_some(Place { kind, name, pods })
    };
    fullest("on machine", machine).or_else(|| fullest("in zone", zone))
}

/// Whether a pod has neither ended nor been deleted.
fn stays(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Failed" | "Succeeded"))
}

fn machine(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn zone(pod: &Pod) -> Option<&str> {
    pod.labels().get(ZONE).map(String::as_str)
}
