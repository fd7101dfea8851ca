//! Restarts by a roll-out, of one Redis node of several and of the sale's own database: they are no outage.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::cause::{self, UNRESPONSIVE};
use super::names::Component;
use super::observe::Observed;
use super::rollout::{self, ROLLING_OUT, redis_status};
use crate::crd::{FlashSaleStatus, Phase, condition};

/// How long a restart of the sale's own database may take: nobody buys meanwhile. A pod that ends on a machine that was
/// lost has no cause and never ends.
const RESTART: Duration = Duration::from_mins(5);
/// How long a Redis node that ends may be there: the kubelet kills it when its grace period is over.
const END: Duration = Duration::from_mins(1);
/// Label of a pod: the revision of the template that it has.
const REVISION: &str = "controller-revision-hash";

/// What tells a restart from an outage.
pub(super) struct Restarts<'a> {
    /// Pods and events.
    pub observed: &'a Observed,
    /// The previous status, of whichever generation: a change of the sale ends neither a roll-out nor an outage.
    pub previous: &'a FlashSaleStatus,
    /// Time of the observation.
    pub now: Timestamp,
}

impl Restarts<'_> {
    /// Whether a rolling update restarts a Redis node, the others are a quorum, and nothing keeps it from coming back.
    pub(super) fn has_one_node(&self, nodes: &StatefulSet, voters: i32) -> bool {
        let ready = redis_status(nodes).ready;
        self.replaces_pods(nodes, condition::REDIS_READY)
            && ready + 1 == voters
            && ready > voters / 2
            && !self.is_kept_away(Component::Redis)
            && !self.has_lost_one(nodes)
    }

    /// The same of the sale's own database, which has one pod. Its restart is an outage as well if it takes long.
    pub(super) fn has_database(&self, own: &StatefulSet) -> bool {
        self.replaces_pods(own, condition::DATABASE_READY)
            && !self.is_kept_away(Component::Database)
            && !self.before(condition::DATABASE_READY).is_some_and(|it| takes_long(it, self.now))
    }

    /// Whether pods of another template replace those of a part. Its controller has two revisions until the last pod is
    /// ready; a pod that is away for another reason changes none. After a change back to the former template it has one
    /// while it still replaces pods, so the previous status decides until all of them are ready.
    fn replaces_pods(&self, set: &StatefulSet, part: &str) -> bool {
        let revisions = set.status.as_ref().map(|it| (&it.current_revision, &it.update_revision));
        let pods = redis_status(set);
        revisions.is_some_and(|(current, update)| current != update)
            || (pods.ready < pods.nodes && self.was_rolling_out(part))
    }

    /// Whether the part was False in a sale that went on, for the reasons of a roll-out.
    fn was_rolling_out(&self, part: &str) -> bool {
        let reasons: &[&str] = match self.previous.phase {
            Phase::Scheduled | Phase::Open | Phase::SoldOut => &[ROLLING_OUT, UNRESPONSIVE],
            // An outage does not change this phase: a server that hangs has the reason of one that has just started.
            Phase::Ended => &[ROLLING_OUT],
            // The phase of an outage, and those of a sale that has never been ready or has no pods.
            Phase::Degraded
            | Phase::Pending
            | Phase::Provisioning
            | Phase::Failed
            | Phase::Hibernated => &[],
        };
        self.before(part).is_some_and(|it| reasons.contains(&it.reason.as_str()))
    }

    /// Whether a Redis node is away that the roll-out did not take down. A roll-out deletes pods and waits for their
    /// successors: it neither makes a pod unready, nor waits for one of the former template.
    fn has_lost_one(&self, nodes: &StatefulSet) -> bool {
        let status = nodes.status.as_ref().filter(|_| rollout::of_nodes(nodes).seen);
        let rolling = status.filter(|status| status.current_revision != status.update_revision);
        let former = rolling.and_then(|status| status.current_revision.as_ref());
        let pods = self.observed.pods.iter();
        let mut away = pods.filter(|pod| Component::Redis.has(pod) && !cause::is_ready(pod));
        away.any(|pod| {
            if pod.metadata.deletion_timestamp.is_some() {
                return unready_since(pod).is_some_and(|since| lasts(since, END, self.now));
            }
            former.is_some_and(|former| pod.labels().get(REVISION) == Some(former))
                || was_ready(pod)
        })
    }

    fn before(&self, part: &str) -> Option<&Condition> {
        self.previous.conditions.iter().find(|it| it.type_ == part)
    }

    /// Whether a pod of a part cannot start. A server that has just started is not ready until the kubelet has asked it.
    fn is_kept_away(&self, component: Component) -> bool {
        let cause = self.observed.cause(component, self.now);
        cause.is_some_and(|cause| cause.reason != UNRESPONSIVE)
    }
}

/// Whether a condition has been False for longer than a restart takes.
fn takes_long(unmet: &Condition, now: Timestamp) -> bool {
    unmet.status == "False" && lasts(unmet.last_transition_time.0, RESTART, now)
}

fn lasts(since: Timestamp, limit: Duration, now: Timestamp) -> bool {
    Duration::try_from(now.duration_since(since)).is_ok_and(|elapsed| elapsed > limit)
}

/// Whether a pod that is not ready was ready before. The kubelet says that a pod is not ready before it starts the
/// containers, and the time of a condition changes with its status only.
fn was_ready(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_deref());
    let started = containers.unwrap_or_default().iter().filter_map(first_start).min();
    started.zip(unready_since(pod)).is_some_and(|(started, since)| since > started)
}

fn unready_since(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
    Some(ready.last_transition_time.as_ref()?.0)
}

/// The first start of a container that its status still knows.
fn first_start(container: &ContainerStatus) -> Option<Timestamp> {
    let states = [container.last_state.as_ref(), container.state.as_ref()];
    states.into_iter().flatten().find_map(start)
}

fn start(state: &ContainerState) -> Option<Timestamp> {
    let running = state.running.as_ref().and_then(|running| running.started_at.as_ref());
    let ended = state.terminated.as_ref().and_then(|ended| ended.started_at.as_ref());
    Some(running.or(ended)?.0)
}
