//! Progress of rolling updates, and old replicas that still sell.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::build::{Applied, KubernetesResources};
use super::names::Component;
use crate::crd::{FlashSaleStatus, RedisStatus, condition};

/// Progress of a rolling update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// Updated pods.
    pub updated: i32,
    /// Desired pods.
    pub wanted: i32,
    /// Whether only updated pods remain. Kubernetes does not count terminating pods.
    pub done: bool,
    /// Whether the status is that of the current template.
    pub seen: bool,
}

/// Rolling update of the app.
#[must_use]
pub fn of_app(app: &Deployment) -> Rollout {
    let wanted = app.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default();
    let status = app.status.clone().unwrap_or_default();
    let updated = status.updated_replicas.unwrap_or_default();
    let seen = status.observed_generation.unwrap_or_default() >= generation(app);
    let done = seen && updated == wanted && status.replicas.unwrap_or_default() == updated;
    Rollout { updated: if seen { updated } else { 0 }, wanted, done, seen }
}

/// Rolling update of Redis nodes or of the database.
#[must_use]
pub fn of_nodes(nodes: &StatefulSet) -> Rollout {
    let wanted = nodes.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default();
    let status = nodes.status.clone().unwrap_or_default();
    let updated = status.updated_replicas.unwrap_or_default();
    let seen = status.observed_generation.unwrap_or_default() >= generation(nodes);
    let done = seen && updated == wanted;
    Rollout { updated: if seen { updated } else { 0 }, wanted, done, seen }
}

fn generation<K: kube::Resource>(workload: &K) -> i64 {
    workload.meta().generation.unwrap_or_default()
}

/// Reason of a part while pods of another template replace its pods.
pub const ROLLING_OUT: &str = "RollingOut";

/// Reason of `AppAvailable` while replicas are added.
pub const SCALING_UP: &str = "ScalingUp";

/// Whether the number of desired replicas was raised, and no replica was lost since. The sale goes on meanwhile.
#[must_use]
pub fn is_scaling_up(previous: &FlashSaleStatus, app: &Deployment) -> bool {
    let Some(before) = &previous.app else { return false };
    let available = previous.conditions.iter().find(|it| it.type_ == condition::APP_AVAILABLE);
    let desired = app.spec.as_ref().and_then(|spec| spec.replicas);
    let ready = app.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default();
    let raised = available.is_some_and(|it| {
        it.reason == SCALING_UP || (it.status == "True" && desired > before.desired)
    });
    raised && ready >= before.ready
}

/// A terminating replica, which may still have requests in flight and open connections.
#[must_use]
pub fn terminating(pods: &[Pod]) -> Option<&Pod> {
    pods.iter().find(|pod| {
        Component::App.has(pod) && runs(pod) && pod.metadata.deletion_timestamp.is_some()
    })
}

/// A replica that sells at `now` according to the times in its own environment.
#[must_use]
pub fn selling(pods: &[Pod], now: Timestamp) -> Option<&Pod> {
    pods.iter().find(|pod| {
        let opened = time(pod, "SALE_STARTS_AT").is_none_or(|starts| now >= starts);
        let ended = time(pod, "SALE_ENDS_AT").is_some_and(|ends| now >= ends);
        Component::App.has(pod) && runs(pod) && opened && !ended
    })
}

fn runs(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
}

fn time(pod: &Pod, name: &str) -> Option<Timestamp> {
    let containers = &pod.spec.as_ref()?.containers;
    let container = containers.iter().find(|container| container.name == "app")?;
    let variable = container.env.iter().flatten().find(|variable| variable.name == name)?;
    variable.value.as_deref()?.parse().ok()
}

/// Whether all Redis nodes and the sale's own database are ready.
#[must_use]
pub fn stores_are_up(resources: &KubernetesResources<Applied>) -> bool {
    let sets = [Some(&resources.redis), resources.database.as_ref()];
    sets.into_iter().flatten().all(|set| {
        let status = redis_status(set);
        status.ready >= status.nodes
    })
}

/// A pod with its node, for a message.
#[must_use]
pub fn describe(pod: &Pod) -> String {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    node.map_or_else(|| pod.name_any(), |node| format!("{} on node {node}", pod.name_any()))
}

/// The Redis nodes for the status.
#[must_use]
pub fn redis_status(nodes: &StatefulSet) -> RedisStatus {
    let wanted = nodes.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default();
    let status = nodes.status.as_ref();
    let ready = status.and_then(|status| status.ready_replicas).unwrap_or_default();
    RedisStatus {
        ready,
        nodes: wanted,
        quorum: ready > wanted / 2,
        members: None,
        summary: format!("{ready}/{wanted}"),
    }
}
