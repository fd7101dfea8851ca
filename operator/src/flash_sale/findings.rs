//! What is said of each part, and of the sale as a whole, before it has a time.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, StatefulSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::build::{Applied, KubernetesResources};
use super::cause::Cause;
use super::database::{ACCEPT_LOSS, Database};
use super::names::Component;
use super::observe::Observed;
use super::phase::Progress;
use super::rollout::{self, Rollout, redis_status};
use super::seed::Seed;
use crate::crd::condition;

/// One condition before it has a time.
struct Finding {
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Finding {
    fn holds(reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds: true, reason, message: message.into() }
    }

    fn fails(reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds: false, reason, message: message.into() }
    }

    /// With the cause, which is what a person wants to know, in the place of the symptom.
    fn because(self, cause: Option<Cause>) -> Self {
        match cause {
            Some(Cause { reason, message }) if !self.holds => {
                Self::fails(reason, format!("{}; {message}", self.message))
            }
            _ => self,
        }
    }
}

/// What a pass knows of a sale.
pub(super) struct Facts<'a> {
    /// As the API server answered.
    pub resources: &'a KubernetesResources<Applied>,
    /// Whether the stock is in place.
    pub seed: &'a Seed,
    /// Whose data there is.
    pub database: &'a Database,
    /// Pods and events.
    pub observed: &'a Observed,
    /// Replicas that are declared.
    pub replicas: i32,
    /// The conditions until now, if they are of this generation.
    pub previous: &'a [Condition],
    /// When all of this was seen.
    pub now: Timestamp,
}

/// What was found, by type of condition. A type that is absent could not be looked at.
pub(super) struct Findings {
    of: BTreeMap<&'static str, Finding>,
    progress: Progress,
}

impl Findings {
    pub(super) fn only_ready(reason: &'static str, message: String, progress: Progress) -> Self {
        let of = BTreeMap::from([(condition::READY, Finding::fails(reason, message))]);
        Self { of, progress }
    }

    pub(super) fn of(facts: &Facts<'_>) -> Self {
        let mut of = BTreeMap::from([
            (condition::REDIS_READY, redis(facts)),
            (condition::DATABASE_READY, database(facts)),
            (condition::STOCK_SEEDED, seed(facts)),
            (condition::APP_AVAILABLE, app(facts)),
        ]);
        let progress = progress(facts, &of);
        let parts = condition::PARTS.iter().filter_map(|part| of.get(part));
        let cause =
            parts.filter(|part| !part.holds).map(|part| (part.reason, &part.message)).next();
        let ready = match cause {
            None => Finding::holds("AllReady", "all parts are ready"),
            Some((reason, message)) => Finding::fails(reason, message.to_owned()),
        };
        of.insert(condition::READY, ready);
        Self { of, progress }
    }

    /// A change that was refused is the first thing to know of a sale that sells as it did before.
    pub(super) fn refused(mut self, refusals: &[String]) -> Self {
        if !refusals.is_empty() {
            self.of.insert(condition::READY, Finding::fails("ChangeRefused", refusals.join("; ")));
        }
        self
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress
    }

    /// All conditions; what could not be looked at keeps its last state. `lastTransitionTime`
    /// moves only when a condition's status does.
    pub(super) fn into_conditions(
        mut self,
        previous: &[Condition],
        generation: i64,
        now: Timestamp,
    ) -> Vec<Condition> {
        let types = condition::PARTS.into_iter().chain([condition::READY]);
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let conditions = types.filter_map(|type_| {
            let before = previous.iter().find(|condition| condition.type_ == type_);
            let Some(finding) = self.of.remove(type_) else {
                return before.cloned();
            };
            let status = if finding.holds { "True" } else { "False" };
            let since = before.filter(|before| before.status == status);
            Some(Condition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: finding.reason.to_owned(),
                message: finding.message,
                observed_generation: Some(generation),
                last_transition_time: since
                    .map_or(Time(now), |before| before.last_transition_time.clone()),
            })
        });
        conditions.collect()
    }
}

/// How far the sale is. Pods that are replaced one after the other while the others serve are no
/// outage.
fn progress(facts: &Facts<'_>, of: &BTreeMap<&'static str, Finding>) -> Progress {
    let redis = redis_status(&facts.resources.redis);
    let own = facts.resources.database.as_ref();
    let database_away = own.is_some_and(|own| ready_pods(own) == 0) || says_away(facts);
    let stock = of.get(condition::STOCK_SEEDED).map(|stock| stock.reason);
    if matches!(facts.database, Database::Lost { .. }) {
        Progress::Blocked
    } else if redis.ready < redis.nodes
        || database_away
        || available(&facts.resources.app) < facts.replicas
    {
        Progress::PartsAway
    } else if stock == Some("SeedFailed") {
        Progress::Blocked
    } else if of.values().all(|part| part.holds) {
        Progress::Ready
    } else if *facts.seed == Seed::Running {
        Progress::Seeding
    } else {
        Progress::RollingOut
    }
}

fn redis(facts: &Facts<'_>) -> Finding {
    let status = redis_status(&facts.resources.redis);
    let (ready, nodes) = (status.ready, status.nodes);
    let rollout = rollout::of_nodes(&facts.resources.redis);
    let message = format!("{ready} of {nodes} nodes ready");
    let finding = if ready == nodes && rollout.done {
        return Finding::holds("AllNodesReady", message);
    } else if ready == nodes {
        rolling_out("nodes", rollout)
    } else if status.quorum {
        Finding::fails("NodesAway", format!("{message}; the quorum holds"))
    } else {
        let needed = nodes / 2 + 1;
        Finding::fails("NodesAway", format!("{message}; {needed} are needed to sell anything"))
    };
    finding.because(facts.observed.cause(Component::Redis, facts.now))
}

fn rolling_out(what: &str, Rollout { updated, wanted, .. }: Rollout) -> Finding {
    Finding::fails("RollingOut", format!("{updated} of {wanted} {what} are as declared"))
}

fn ready_pods(stateful_set: &StatefulSet) -> i32 {
    let status = stateful_set.status.as_ref();
    status.and_then(|status| status.ready_replicas).unwrap_or_default()
}

fn database(facts: &Facts<'_>) -> Finding {
    if let Database::Lost { seeded, found } = facts.database {
        return lost(seeded.as_ref().map(|seeded| seeded.id.as_str()), found.as_deref());
    }
    let refused = facts.observed.unready.iter().find(|reason| reason.starts_with("database:"));
    let finding = match &facts.resources.database {
        Some(own) if ready_pods(own) == 0 => {
            Finding::fails("DatabaseAway", "the database is not ready")
        }
        _ if says_away(facts) => {
            Finding::fails("DatabaseAway", "the app gets no answer from the database")
        }
        _ if refused.is_some() => {
            Finding::fails("DatabaseAway", refused.cloned().unwrap_or_default())
        }
        None => Finding::holds("External", "the Secret names an external database"),
        Some(own) if !rollout::of_nodes(own).done => {
            rolling_out("pods of the database", rollout::of_nodes(own))
        }
        Some(_) => Finding::holds("Serving", "the database is ready"),
    };
    finding.because(facts.observed.cause(Component::Database, facts.now))
}

/// Whether replicas that serve say that their database is away.
fn says_away(facts: &Facts<'_>) -> bool {
    facts.observed.report.as_ref().is_some_and(|report| report.database_away)
}

fn lost(seeded: Option<&str>, found: Option<&str>) -> Finding {
    let found = found.map_or("is empty".to_owned(), |id| format!("has tables made at {id}"));
    let message = match seeded {
        None => format!("the stock was put into the database, and now it {found}"),
        Some(seeded) => format!(
            "the stock was put into the database with tables made at {seeded}, and the one that is \
             there now {found}: its orders are not there. Restore them from a backup. To sell the \
             whole stock again instead, annotate the sale with {ACCEPT_LOSS}={seeded}"
        ),
    };
    Finding::fails("DataLost", message)
}

fn seed(facts: &Facts<'_>) -> Finding {
    let cause = facts.observed.cause(Component::Seed, facts.now);
    let before = facts.previous.iter().find(|it| it.type_ == condition::STOCK_SEEDED);
    let failed = before.filter(|before| before.reason == "SeedFailed");
    match (facts.seed, cause, failed) {
        (Seed::Done, ..) => Finding::holds("Seeded", "the declared stock is in place"),
        (Seed::Running, Some(cause), None) => {
            Finding::fails("Seeding", "the declared stock is being put in place")
                .because(Some(cause))
        }
        (Seed::Running, None, None) => {
            Finding::fails("Seeding", "the declared stock is being put in place")
        }
        // Another try of what failed is no news until it is done.
        (Seed::Running, _, Some(failed)) => Finding::fails("SeedFailed", failed.message.clone()),
        (Seed::Failed { message, .. }, cause, _) => {
            let why = cause.map_or_else(|| message.clone(), |cause| cause.message);
            Finding::fails("SeedFailed", format!("the stock could not be put in place: {why}"))
        }
    }
}

fn available(app: &Deployment) -> i32 {
    app.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default()
}

fn app(facts: &Facts<'_>) -> Finding {
    let app = &facts.resources.app;
    let (available, declared) = (available(app), facts.replicas);
    let rollout = rollout::of_app(app);
    let message = format!("{available} of {declared} replicas available");
    let pods = &facts.observed.pods;
    if available >= declared && rollout.done {
        // Only while a change is rolled out: pods are looked at until the sale is ready once.
        return match rollout::ending(pods) {
            Some(pod) => Finding::fails(
                "RollingOut",
                format!("{message}; pod {} still ends its requests", rollout::named(pod)),
            ),
            None => Finding::holds("ReplicasAvailable", message),
        };
    }
    let finding = if let Some(stuck) = deployment_condition(app, "Progressing", "False") {
        let why = stuck.message.clone().unwrap_or_default();
        Finding::fails("RolloutStuck", format!("{message}: {why}"))
    } else if available < declared {
        Finding::fails("ReplicasAway", message)
    } else {
        rolling_out("replicas", rollout)
    };
    let cause = deployment_condition(app, "ReplicaFailure", "True").map(|failure| Cause {
        reason: "FailedCreate",
        message: failure.message.clone().unwrap_or_default(),
    });
    let unready = || {
        let reasons = facts.observed.unready.join("; ");
        let message = format!("a replica says: {reasons}");
        (!reasons.is_empty()).then_some(Cause { reason: "ReplicasUnready", message })
    };
    let cause = cause.or_else(|| facts.observed.cause(Component::App, facts.now)).or_else(unready);
    finding.because(cause)
}

fn deployment_condition<'a>(
    app: &'a Deployment,
    type_: &str,
    status: &str,
) -> Option<&'a DeploymentCondition> {
    let conditions = app.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|it| it.type_ == type_ && it.status == status)
}
