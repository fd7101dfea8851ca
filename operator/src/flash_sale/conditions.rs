//! The conditions of each part and of the sale as a whole, computed from observations.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, StatefulSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::build::{Applied, KubernetesResources};
use super::cause::Cause;
use super::claimed;
use super::database::{DatabaseIdentity, lost_message};
use super::exposure::Exposure;
use super::hibernation;
use super::names::Component;
use super::observe::Observed;
use super::phase::Progress;
use super::restarts::Restarts;
use super::rollout::{self, Rollout, redis_status};
use super::seed::Seed;
use crate::crd::condition;

/// A condition without its transition time.
struct ConditionState {
    met: bool,
    reason: &'static str,
    message: String,
}

impl ConditionState {
    fn met(reason: &'static str, message: impl Into<String>) -> Self {
        Self { met: true, reason, message: message.into() }
    }

    fn unmet(reason: &'static str, message: impl Into<String>) -> Self {
        Self { met: false, reason, message: message.into() }
    }

    /// If unmet: the reason becomes that of the cause, and the message gets the cause appended.
    fn with_cause(self, cause: Option<Cause>) -> Self {
        match cause {
            Some(Cause { reason, message }) if !self.met => {
                Self::unmet(reason, format!("{}; {message}", self.message))
            }
            _ => self,
        }
    }
}

/// Inputs of the conditions.
pub(super) struct Inputs<'a> {
    /// Objects as the API server returned them.
    pub resources: &'a KubernetesResources<Applied>,
    /// State of the seed Job.
    pub seed: &'a Seed,
    /// Identity of the database.
    pub database: &'a DatabaseIdentity,
    /// How the API is reached from outside.
    pub exposure: &'a Exposure,
    /// Pods and events.
    pub observed: &'a Observed,
    /// Declared replicas.
    pub replicas: i32,
    /// The previous conditions, if they describe this generation.
    pub previous: &'a [Condition],
    /// Which parts a roll-out restarts.
    pub restarts: Restarts<'a>,
    /// Whether replicas were added, and none of the others was lost.
    pub scaling_up: bool,
    /// Time of the observation.
    pub now: Timestamp,
}

/// Conditions by type. An absent type was not evaluated.
pub(super) struct Conditions {
    states: BTreeMap<&'static str, ConditionState>,
    /// A type that no longer applies, whatever its previous state.
    dropped: Option<&'static str>,
    progress: Progress,
}

impl Conditions {
    pub(super) fn only_ready(reason: &'static str, message: String, progress: Progress) -> Self {
        let states = BTreeMap::from([(condition::READY, ConditionState::unmet(reason, message))]);
        Self { states, dropped: None, progress }
    }

    pub(super) fn of(inputs: &Inputs<'_>) -> Self {
        let asleep = hibernation::is_applied(inputs.resources);
        let mut all = if asleep { Self::of_hibernating(inputs) } else { Self::of_running(inputs) };
        match exposed(inputs.exposure) {
            Some(exposed) => drop(all.states.insert(condition::EXPOSED, exposed)),
            None => all.dropped = Some(condition::EXPOSED),
        }
        all
    }

    fn of_running(inputs: &Inputs<'_>) -> Self {
        let mut states = BTreeMap::from([
            (condition::REDIS_READY, redis(inputs)),
            (condition::DATABASE_READY, database(inputs)),
            (condition::STOCK_SEEDED, seed(inputs)),
            (condition::APP_AVAILABLE, app(inputs)),
        ]);
        let progress = progress(inputs, &states);
        let parts = condition::PARTS.iter().filter_map(|part| states.get(part));
        let cause = parts.filter(|part| !part.met).map(|part| (part.reason, &part.message)).next();
        let ready = match cause {
            None => ConditionState::met("AllReady", "all parts are ready"),
            Some((reason, message)) => ConditionState::unmet(reason, message.to_owned()),
        };
        states.insert(condition::READY, ready);
        Self { states, dropped: None, progress }
    }

    /// `Ready` means that the sale is as declared. `StockSeeded` keeps its state.
    fn of_hibernating(inputs: &Inputs<'_>) -> Self {
        let asleep = || ConditionState::unmet("Hibernated", "no pods run, as declared");
        let mut states = BTreeMap::from([
            (condition::REDIS_READY, asleep()),
            (condition::APP_AVAILABLE, asleep()),
        ]);
        if inputs.resources.database.is_some() {
            states.insert(condition::DATABASE_READY, asleep());
        }
        let ready = match hibernation::remaining(inputs.resources, &inputs.observed.pods) {
            Some(remaining) => ConditionState::unmet("Hibernating", remaining),
            None => ConditionState::met(
                "Hibernated",
                "no pods run, as declared; the orders are kept. To wake the sale, set hibernation.mode: Never",
            ),
        };
        states.insert(condition::READY, ready);
        Self { states, dropped: None, progress: Progress::Hibernated }
    }

    /// `Ready` reports refused changes first, even if the sale works as before.
    pub(super) fn with_refusals(mut self, refusals: &[String]) -> Self {
        if !refusals.is_empty() {
            self.states.insert(
                condition::READY,
                ConditionState::unmet("ChangeRefused", refusals.join("; ")),
            );
        }
        self
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress
    }

    /// All conditions. A condition that was not evaluated keeps its previous state. `lastTransitionTime` changes
    /// only with the status of a condition.
    pub(super) fn into_conditions(
        mut self,
        previous: &[Condition],
        generation: i64,
        now: Timestamp,
    ) -> Vec<Condition> {
        let types = condition::PARTS.into_iter().chain([condition::EXPOSED, condition::READY]);
        let types = types.filter(|type_| self.dropped != Some(*type_));
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let conditions = types.filter_map(|type_| {
            let before = previous.iter().find(|condition| condition.type_ == type_);
            let Some(state) = self.states.remove(type_) else {
                return before.cloned();
            };
            let status = if state.met { "True" } else { "False" };
            let since = before.filter(|before| before.status == status);
            Some(Condition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: state.reason.to_owned(),
                message: state.message,
                observed_generation: Some(generation),
                last_transition_time: since
                    .map_or(Time(now), |before| before.last_transition_time.clone()),
            })
        });
        conditions.collect()
    }
}

/// Progress of the sale. A rolling update is no outage: the other replicas serve, and a quorum of the nodes votes. A
/// Redis node that is away for another reason is one less vote.
fn progress(inputs: &Inputs<'_>, states: &BTreeMap<&'static str, ConditionState>) -> Progress {
    let redis = redis_status(&inputs.resources.redis);
    let change = inputs.observed.node_change.as_ref();
    let voters = change.map_or(redis.nodes, |change| change.voters.min(redis.nodes));
    let own = inputs.resources.database.as_ref();
    let database_unavailable =
        own.is_some_and(|own| ready_pods(own) == 0) || reports_unavailable(inputs);
    let nodes_away =
        redis.ready < voters && !inputs.restarts.has_one_node(&inputs.resources.redis, voters);
    let stock = states.get(condition::STOCK_SEEDED).map(|stock| stock.reason);
    if matches!(inputs.database, DatabaseIdentity::Lost { .. }) || claimed_by(inputs).is_some() {
        Progress::Blocked
    } else if nodes_away
        || (database_unavailable && !own.is_some_and(|own| inputs.restarts.has_database(own)))
        || (available(&inputs.resources.app) < inputs.replicas && !inputs.scaling_up)
    {
        Progress::PartsUnavailable
    } else if stock == Some("SeedFailed") {
        Progress::Blocked
    } else if states.values().all(|part| part.met) {
        Progress::Ready
    } else if *inputs.seed == Seed::Running {
        Progress::Seeding
    } else {
        Progress::RollingOut
    }
}

/// `None`: nothing is declared that would make the API reachable from outside.
fn exposed(exposure: &Exposure) -> Option<ConditionState> {
    if !exposure.declared {
        return None;
    }
    let Some((reason, _)) = exposure.problems.first() else {
        return Some(ConditionState::met("Reachable", "the declared addresses exist"));
    };
    let messages = exposure.problems.iter().map(|(_, message)| message.as_str());
    Some(ConditionState::unmet(reason, messages.collect::<Vec<_>>().join("; ")))
}

fn redis(inputs: &Inputs<'_>) -> ConditionState {
    let status = redis_status(&inputs.resources.redis);
    let (ready, nodes) = (status.ready, status.nodes);
    let rollout = rollout::of_nodes(&inputs.resources.redis);
    let message = format!("{ready} of {nodes} nodes ready");
    let state = if let Some(change) = &inputs.observed.node_change {
        ConditionState::unmet(change.reason, format!("{message}; {}", change.message))
    } else if ready == nodes && rollout.done {
        return ConditionState::met("AllNodesReady", message);
    } else if ready == nodes {
        rolling_out("nodes", rollout)
    } else if inputs.restarts.has_one_node(&inputs.resources.redis, nodes) {
        ConditionState::unmet(rollout::ROLLING_OUT, format!("{message}; the other one restarts"))
    } else if status.quorum {
        ConditionState::unmet("NodesAway", format!("{message}; the quorum holds"))
    } else {
        ConditionState::unmet("NodesAway", format!("{message}; the quorum needs {}", nodes / 2 + 1))
    };
    state.with_cause(inputs.observed.cause(Component::Redis, inputs.now))
}

fn rolling_out(what: &str, Rollout { updated, wanted, .. }: Rollout) -> ConditionState {
    ConditionState::unmet(rollout::ROLLING_OUT, format!("{updated} of {wanted} {what} are updated"))
}

fn ready_pods(stateful_set: &StatefulSet) -> i32 {
    let status = stateful_set.status.as_ref();
    status.and_then(|status| status.ready_replicas).unwrap_or_default()
}

fn database(inputs: &Inputs<'_>) -> ConditionState {
    if let DatabaseIdentity::Lost { seeded, found } = inputs.database {
        let seeded = seeded.as_ref().map(|seeded| seeded.id.as_str());
        return ConditionState::unmet("DataLost", lost_message(seeded, found.as_deref()));
    }
    if let Some(owner) = claimed_by(inputs) {
        return ConditionState::unmet("DatabaseClaimed", claimed::message(&owner));
    }
    let refused = inputs.observed.unready.iter().find(|reason| reason.starts_with("database:"));
    let state = match &inputs.resources.database {
        Some(own) if ready_pods(own) == 0 && inputs.restarts.has_database(own) => {
            ConditionState::unmet(rollout::ROLLING_OUT, "the database restarts")
        }
        Some(own) if ready_pods(own) == 0 => {
            ConditionState::unmet("DatabaseAway", "the database is not ready")
        }
        _ if reports_unavailable(inputs) => {
            ConditionState::unmet("DatabaseAway", "the database does not respond to the app")
        }
        _ if refused.is_some() => {
            ConditionState::unmet("DatabaseAway", refused.cloned().unwrap_or_default())
        }
        None => ConditionState::met("External", "the database is external"),
        Some(own) if !rollout::of_nodes(own).done => {
            rolling_out("database pods", rollout::of_nodes(own))
        }
        Some(_) => ConditionState::met("Serving", "the database is ready"),
    };
    state.with_cause(inputs.observed.cause(Component::Database, inputs.now))
}

/// The sale that has the external database, if it is another one.
fn claimed_by(inputs: &Inputs<'_>) -> Option<String> {
    if inputs.resources.database.is_some() {
        return None;
    }
    let seed = inputs.observed.cause(Component::Seed, inputs.now);
    let messages = inputs.observed.unready.iter().chain(seed.as_ref().map(|cause| &cause.message));
    claimed::owner(messages.map(String::as_str)).map(str::to_owned)
}

/// Whether ready replicas report that the database is unavailable.
fn reports_unavailable(inputs: &Inputs<'_>) -> bool {
    inputs.observed.report.as_ref().is_some_and(|report| report.database_unavailable)
}

fn seed(inputs: &Inputs<'_>) -> ConditionState {
    let cause = inputs.observed.cause(Component::Seed, inputs.now);
    let before = inputs.previous.iter().find(|it| it.type_ == condition::STOCK_SEEDED);
    let failed = before.filter(|before| before.reason == "SeedFailed");
    match (inputs.seed, cause, failed) {
        (Seed::Done, ..) => ConditionState::met("Seeded", "the declared stock is seeded"),
        (Seed::Running, Some(cause), None) => {
            ConditionState::unmet("Seeding", "the seed Job has not completed")
                .with_cause(Some(cause))
        }
        (Seed::Running, None, None) => {
            ConditionState::unmet("Seeding", "the seed Job has not completed")
        }
        // A retry keeps the failure until it succeeds.
        (Seed::Running, _, Some(failed)) => {
            ConditionState::unmet("SeedFailed", failed.message.clone())
        }
        (Seed::Failed { message, .. }, cause, _) => {
            let why = cause.map_or_else(|| message.clone(), |cause| cause.message);
            ConditionState::unmet("SeedFailed", format!("the seed Job failed: {why}"))
        }
    }
}

fn available(app: &Deployment) -> i32 {
    app.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default()
}

fn app(inputs: &Inputs<'_>) -> ConditionState {
    let app = &inputs.resources.app;
    let (available, declared) = (available(app), inputs.replicas);
    let rollout = rollout::of_app(app);
    let message = format!("{available} of {declared} replicas available");
    let pods = &inputs.observed.pods;
    if available >= declared && rollout.done {
        // Only during a rollout: pods are listed until the sale is ready.
        return match rollout::terminating(pods) {
            Some(pod) => ConditionState::unmet(
                rollout::ROLLING_OUT,
                format!("{message}; pod {} is still terminating", rollout::describe(pod)),
            ),
            None => ConditionState::met("ReplicasAvailable", message),
        };
    }
    let stuck = deployment_condition(app, "Progressing", "False");
    // Before the Deployment's controller has seen a change, its condition is that of the previous template.
    let state = if let Some(stuck) = stuck.filter(|_| rollout.seen) {
        let why = stuck.message.clone().unwrap_or_default();
        ConditionState::unmet("RolloutStuck", format!("{message}: {why}"))
    } else if available < declared && inputs.scaling_up {
        ConditionState::unmet(rollout::SCALING_UP, message)
    } else if available < declared {
        ConditionState::unmet("ReplicasAway", message)
    } else {
        rolling_out("replicas", rollout)
    };
    let cause = deployment_condition(app, "ReplicaFailure", "True").map(|failure| Cause {
        reason: "FailedCreate",
        message: failure.message.clone().unwrap_or_default(),
    });
    let unready = || {
        let reasons = inputs.observed.unready.join("; ");
        let message = format!("a replica is not ready: {reasons}");
        (!reasons.is_empty()).then_some(Cause { reason: "ReplicasUnready", message })
    };
    let cause =
        cause.or_else(|| inputs.observed.cause(Component::App, inputs.now)).or_else(unready);
    state.with_cause(cause)
}

fn deployment_condition<'a>(
    app: &'a Deployment,
    type_: &str,
    status: &str,
) -> Option<&'a DeploymentCondition> {
    let conditions = app.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|it| it.type_ == type_ && it.status == status)
}
