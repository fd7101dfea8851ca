//! Step 5: says what was seen. A status is made from applied objects only, and is sent only if it
//! differs from the last one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;

use super::apply::FIELD_MANAGER;
use super::build::{Applied, KubernetesResources, names};
use super::figures::sorted;
use super::phase::{Facts, Progress, phase};
use super::seed::Seed;
use super::validate::NotReady;
use crate::crd::{AppStatus, FlashSale, FlashSaleStatus, ProductStatus, RedisStatus, Totals};

/// How a pass ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Before anything was applied.
    Waiting(NotReady),
    /// The API server did not take an object as it is.
    Refused(String),
    /// With all objects in place.
    Applied {
        /// As the API server answered.
        resources: Box<KubernetesResources<Applied>>,
        /// Whether the stock is in place.
        seed: Seed,
        /// Counts, if the app could be asked.
        figures: Option<Vec<ProductStatus>>,
    },
}

/// Types of conditions, in the order in which they are shown.
pub mod condition {
    /// All Redis nodes are ready.
    pub const REDIS_READY: &str = "RedisReady";
    /// The database is there.
    pub const DATABASE_READY: &str = "DatabaseReady";
    /// The declared stock is in place.
    pub const STOCK_SEEDED: &str = "StockSeeded";
    /// As many replicas as declared take purchases.
    pub const APP_AVAILABLE: &str = "AppAvailable";
    /// All of the above.
    pub const READY: &str = "Ready";

    /// The parts, each after what it depends on: the first that is away is the cause of the rest.
    pub const PARTS: [&str; 4] = [REDIS_READY, DATABASE_READY, STOCK_SEEDED, APP_AVAILABLE];
}

/// The status after a pass that ended with `outcome` at `now`.
#[must_use]
pub fn status(sale: &FlashSale, outcome: &Outcome, now: Timestamp) -> FlashSaleStatus {
    let previous = sale.status.clone().unwrap_or_default();
    let namespace = sale.namespace().unwrap_or_default();
    let mut status = FlashSaleStatus {
        observed_generation: sale.metadata.generation.unwrap_or_default(),
        url: Some(format!(
            "http://{}:{}",
            names::app_host(&namespace, &sale.name_any()),
            names::HTTP_PORT
        )),
        ..previous.clone()
    };
    let (progress, findings) = match outcome {
        Outcome::Waiting(why) => {
            (Progress::Waiting, Findings::only_ready(why.reason, why.message.clone()))
        }
        Outcome::Refused(message) => {
            (Progress::Blocked, Findings::only_ready("ChangeRefused", message.clone()))
        }
        Outcome::Applied { resources, seed, figures } => {
            status.redis = Some(redis_status(&resources.redis));
            status.app = Some(app_status(&resources.app));
            if let Some(figures) = figures {
                status.products = sorted(figures.clone());
                status.totals = Some(total(&status.products));
            }
            let findings = Findings::of(sale, resources, seed);
            (findings.progress(seed), findings)
        }
    };
    let facts = Facts {
        previous: sale.status.as_ref().map(|status| status.phase),
        progress,
        totals: status.totals,
    };
    status.phase = phase(&sale.spec, facts, now);
    status.conditions =
        findings.into_conditions(&previous.conditions, status.observed_generation, now);
    status
}

/// One condition before it has a time.
struct Finding {
    holds: bool,
    reason: &'static str,
    message: String,
}

/// What was found, by type of condition. A type that is absent could not be looked at.
struct Findings(BTreeMap<&'static str, Finding>);

impl Findings {
    fn only_ready(reason: &'static str, message: String) -> Self {
        Self(BTreeMap::from([(condition::READY, Finding { holds: false, reason, message })]))
    }

    fn of(sale: &FlashSale, resources: &KubernetesResources<Applied>, seed: &Seed) -> Self {
        let mut parts = BTreeMap::from([
            (condition::REDIS_READY, redis_finding(&redis_status(&resources.redis))),
            (condition::DATABASE_READY, database_finding(resources.database.as_ref())),
            (condition::STOCK_SEEDED, seed_finding(seed)),
            (condition::APP_AVAILABLE, app_finding(&resources.app, sale.spec.app.replicas)),
        ]);
        let away = condition::PARTS.iter().filter_map(|part| parts.get(part));
        let cause = away.filter(|part| !part.holds).map(|part| (part.reason, &part.message)).next();
        let ready = match cause {
            None => Finding {
                holds: true,
                reason: "AllReady",
                message: "all parts are ready".to_owned(),
            },
            Some((reason, message)) => {
                Finding { holds: false, reason, message: message.to_owned() }
            }
        };
        parts.insert(condition::READY, ready);
        Self(parts)
    }

    fn holds(&self, type_: &str) -> bool {
        self.0.get(type_).is_some_and(|finding| finding.holds)
    }

    fn progress(&self, seed: &Seed) -> Progress {
        let parts = [condition::REDIS_READY, condition::DATABASE_READY, condition::APP_AVAILABLE];
        if !parts.iter().all(|part| self.holds(part)) {
            return Progress::PartsAway;
        }
        match seed {
            Seed::Done => Progress::Ready,
            Seed::Running => Progress::Seeding,
            Seed::Failed { .. } => Progress::Blocked,
        }
    }

    /// All conditions; what could not be looked at keeps its last state. `lastTransitionTime`
    /// moves only when a condition's status does.
    fn into_conditions(
        mut self,
        previous: &[Condition],
        generation: i64,
        now: Timestamp,
    ) -> Vec<Condition> {
        let types = condition::PARTS.into_iter().chain([condition::READY]);
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let conditions = types.filter_map(|type_| {
            let before = previous.iter().find(|condition| condition.type_ == type_);
            let Some(finding) = self.0.remove(type_) else {
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

fn redis_status(nodes: &StatefulSet) -> RedisStatus {
    let wanted = nodes.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default();
    let ready = ready_pods(nodes);
    RedisStatus {
        ready,
        nodes: wanted,
        quorum: ready > wanted / 2,
        summary: format!("{ready}/{wanted}"),
    }
}

fn ready_pods(stateful_set: &StatefulSet) -> i32 {
    let status = stateful_set.status.as_ref();
    status.and_then(|status| status.ready_replicas).unwrap_or_default()
}

fn app_status(app: &Deployment) -> AppStatus {
    let replicas = app.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default();
    let ready = app.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default();
    AppStatus { ready, replicas, summary: format!("{ready}/{replicas}") }
}

fn redis_finding(redis: &RedisStatus) -> Finding {
    let RedisStatus { ready, nodes, quorum, .. } = redis;
    let holds = ready == nodes;
    let message = match (holds, quorum) {
        (true, _) => format!("{ready} of {nodes} nodes ready"),
        (false, true) => format!("{ready} of {nodes} nodes ready; the quorum holds"),
        (false, false) => {
            format!("{ready} of {nodes} nodes ready; {} are needed to sell anything", nodes / 2 + 1)
        }
    };
    Finding { holds, reason: if holds { "AllNodesReady" } else { "NodesAway" }, message }
}

fn database_finding(own: Option<&StatefulSet>) -> Finding {
    let (holds, reason, message) = match own {
        None => (true, "External", "the Secret names an external database"),
        Some(own) if ready_pods(own) > 0 => (true, "Serving", "the database is ready"),
        Some(_) => (false, "DatabaseAway", "the database is not ready"),
    };
    Finding { holds, reason, message: message.to_owned() }
}

fn seed_finding(seed: &Seed) -> Finding {
    let (holds, reason, message) = match seed {
        Seed::Done => (true, "Seeded", "the declared stock is in place".to_owned()),
        Seed::Running => (false, "Seeding", "the declared stock is being put in place".to_owned()),
        Seed::Failed { message, .. } => {
            (false, "SeedFailed", format!("the stock could not be put in place: {message}"))
        }
    };
    Finding { holds, reason, message }
}

fn app_finding(app: &Deployment, declared: i32) -> Finding {
    let status = app.status.as_ref();
    let available = status.and_then(|status| status.available_replicas).unwrap_or_default();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let stuck = conditions
        .iter()
        .find(|condition| condition.type_ == "Progressing" && condition.status == "False");
    if let Some(stuck) = stuck {
        let why = stuck.message.clone().unwrap_or_default();
        return Finding {
            holds: false,
            reason: "RolloutStuck",
            message: format!("{available} of {declared} replicas available: {why}"),
        };
    }
    let holds = available >= declared;
    Finding {
        holds,
        reason: if holds { "ReplicasAvailable" } else { "ReplicasAway" },
        message: format!("{available} of {declared} replicas available"),
    }
}

fn total(products: &[ProductStatus]) -> Totals {
    let sum = |count: fn(&ProductStatus) -> i64| products.iter().map(count).sum();
    Totals {
        stock: sum(|product| product.stock),
        sold: sum(|product| product.sold),
        remaining: sum(|product| product.remaining),
    }
}

/// Sends `status` if it differs from what the sale has; answers whether it did.
///
/// # Errors
/// When the API server does not take it. A sale that is gone meanwhile is no error.
pub async fn update(
    client: &Client,
    sale: &FlashSale,
    status: &FlashSaleStatus,
) -> Result<bool, kube::Error> {
    if sale.status.as_ref() == Some(status) {
        return Ok(false);
    }
    let api: Api<FlashSale> =
        Api::namespaced(client.clone(), &sale.namespace().unwrap_or_default());
    let patch = Patch::Apply(json!({
        "apiVersion": FlashSale::api_version(&()),
        "kind": FlashSale::kind(&()),
        // A new sale of the same name must not get this status.
        "metadata": { "uid": sale.metadata.uid },
        "status": status,
    }));
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match api.patch_status(&sale.name_any(), &params, &patch).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(answer)) if answer.is_not_found() || answer.is_conflict() => Ok(false),
        Err(error) => Err(error),
    }
}
