//! Restarts by a roll-out, of one Redis node of several and of the sale's own database: they are no outage.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::cause::UNRESPONSIVE;
use super::names::Component;
use super::observe::Observed;
use super::rollout::{ROLLING_OUT, redis_status};
use crate::crd::{FlashSaleStatus, Phase, condition};

/// How long a restart of the sale's own database may take: nobody buys meanwhile. A pod that ends on a machine that was
/// lost has no cause and never ends.
const RESTART: Duration = Duration::from_mins(5);

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
        // The phase of an outage, and of a sale that has never been ready, is another one.
        let phases = [Phase::Scheduled, Phase::Open, Phase::SoldOut, Phase::Ended];
        let reasons = [ROLLING_OUT, UNRESPONSIVE];
        phases.contains(&self.previous.phase)
            && self.before(part).is_some_and(|it| reasons.contains(&it.reason.as_str()))
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
    let since = now.duration_since(unmet.last_transition_time.0);
    unmet.status == "False" && Duration::try_from(since).is_ok_and(|since| since > RESTART)
}
