//! The number of Redis nodes of a running sale. A change has three steps, each derived from what exists, so that an
//! operator that dies between two of them continues:
//!
//! 1. The pods of all nodes run, future nodes and present ones.
//! 2. The app changes the nodes of the lock. Until it has confirmed that, no pod is removed, and new replicas of the
//!    app start with the nodes of before.
//! 3. The app starts with the declared nodes, and pods of other nodes are removed with their volumes.
//!
//! A sale that was never seeded has no lock to protect, so its nodes change in one step.
//!
//! Takes no client and no clock.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use serde::Deserialize;

use crate::crd::RedisStatus;

/// Reason of `RedisReady` when nothing happens until a person updates the app.
pub const NODES_UNSUPPORTED: &str = "NodesUnsupported";

/// Nodes that exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExistingNodes {
    /// Replicas of the `StatefulSet`. Absent without one; 0 while the sale hibernates.
    pub pods: Option<i32>,
    /// Pods that have not ended yet.
    pub running: i32,
    /// Nodes with which a replica of the app starts. Absent without a Deployment.
    pub configured: Option<i32>,
    /// Nodes of the lock in the last report of the app.
    pub members: Option<i32>,
}

impl ExistingNodes {
    /// The nodes of these objects.
    #[must_use]
    pub fn of(app: Option<&Deployment>, redis: Option<&StatefulSet>) -> Self {
        let running = redis.and_then(|set| Some(set.status.as_ref()?.replicas));
        Self {
            pods: redis.and_then(|set| set.spec.as_ref()?.replicas),
            running: running.unwrap_or_default(),
            configured: app.and_then(configured),
            members: None,
        }
    }

    /// With the status of the sale before this reconcile.
    #[must_use]
    pub fn reported(self, status: Option<&RedisStatus>) -> Self {
        Self { members: status.and_then(|redis| redis.members), ..self }
    }

    /// Without the nodes of a lock that nobody has used: there is nothing to change before the declared ones are applied.
    #[must_use]
    pub fn of_unused_lock(self) -> Self {
        Self { running: self.running, ..Self::default() }
    }

    /// The nodes with which new replicas of the app start: those of before, until a change is done.
    fn present(self, declared: i32) -> i32 {
        self.configured.or(self.pods.filter(|pods| *pods > 0)).unwrap_or(declared)
    }

    /// Whether a part has another number of nodes than the declared one.
    #[must_use]
    pub fn differ_from(self, declared: i32) -> bool {
        let others = [self.configured, self.pods.filter(|pods| *pods > 0), self.members];
        others.into_iter().flatten().any(|nodes| nodes != declared)
    }
}

/// The number of addresses in `REDIS_NODES` of the app.
fn configured(app: &Deployment) -> Option<i32> {
    let containers = &app.spec.as_ref()?.template.spec.as_ref()?.containers;
    let environment = containers.iter().flat_map(|container| container.env.iter().flatten());
    let mut addresses = environment.filter(|variable| variable.name == "REDIS_NODES");
    let nodes = addresses.next()?.value.as_deref()?.split(',').count();
    i32::try_from(nodes).ok()
}

/// Nodes of the lock in the app's own words.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct LockNodes {
    /// Address of each node.
    pub nodes: Vec<String>,
    /// Address of each future node while a change is in progress.
    #[serde(default)]
    pub joining: Vec<String>,
    /// Whether the requested nodes are the lock, confirmed by a majority.
    #[serde(default)]
    pub done: bool,
    /// Why the last step failed.
    #[serde(default)]
    pub error: Option<String>,
}

impl LockNodes {
    /// The number of nodes for the status: while a change is in progress, the one that is not the declared one.
    #[must_use]
    pub fn members(&self, declared: i32) -> i32 {
        let [nodes, joining] = [&self.nodes, &self.joining].map(|nodes| count(nodes));
        if joining > 0 && joining != declared { joining } else { nodes }
    }
}

fn count(nodes: &[String]) -> i32 {
    i32::try_from(nodes.len()).unwrap_or(i32::MAX)
}

/// The app's answer to the request for a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeAnswer {
    /// The progress.
    Progress(LockNodes),
    /// This version of the app cannot change its nodes.
    Unsupported,
    /// No replica answers.
    None,
}

/// The nodes to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlan {
    /// Pods of the `StatefulSet` while the sale does not hibernate.
    pub pods: i32,
    /// Nodes with which a replica of the app starts.
    pub configured: i32,
    /// Whether pods are being removed whose volumes are not needed any more.
    pub removes: bool,
    /// The state of a change in progress.
    pub change: Option<NodeChange>,
}

/// A change in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeChange {
    /// Nodes whose majority decides at present.
    pub voters: i32,
    /// Reason of the condition.
    pub reason: &'static str,
    /// The step, for the condition.
    pub message: String,
}

impl NodePlan {
    /// Of a sale whose nodes do not change.
    #[must_use]
    pub fn settled(declared: i32) -> Self {
        Self { pods: declared, configured: declared, removes: false, change: None }
    }

    /// The next step towards the declared nodes. `answer`: the app's, if it was asked.
    #[must_use]
    pub fn next(declared: i32, existing: ExistingNodes, answer: Option<&ChangeAnswer>) -> Self {
        let lock = match answer {
            Some(ChangeAnswer::Progress(lock)) => Some(lock),
            _ => None,
        };
        let is_done = lock.is_some_and(|lock| lock.done);
        if is_done || !existing.differ_from(declared) {
            return Self { removes: existing.running > declared, ..Self::settled(declared) };
        }
        let present = existing.present(declared);
        // After a change that a person reversed, the lock may need nodes whose pods are gone.
        let needed = lock.map_or(0, |lock| count(&lock.nodes).max(count(&lock.joining)));
        let pods = existing.pods.filter(|pods| *pods > 0).unwrap_or(present);
        let voters = lock.map_or(present, |lock| count(&lock.nodes));
        let step = match answer {
            None => "the pods of the new nodes start".to_owned(),
            Some(ChangeAnswer::None) => "no replica of the app answers".to_owned(),
            Some(ChangeAnswer::Unsupported) => {
                "this version of the app cannot change its nodes: update its image".to_owned()
            }
            Some(ChangeAnswer::Progress(lock)) => match &lock.error {
                Some(error) => format!("the app tries again: {error}"),
                None => "the app changes the lock".to_owned(),
            },
        };
        Self {
            pods: pods.max(declared).max(needed),
            configured: present,
            removes: false,
            change: Some(NodeChange {
                voters,
                reason: match answer {
                    Some(ChangeAnswer::Unsupported) => NODES_UNSUPPORTED,
                    _ => "ChangingNodes",
                },
                message: format!("from {voters} to {declared} nodes of the lock: {step}"),
            }),
        }
    }
}
