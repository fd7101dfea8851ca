//! Step 5: computes the status from applied objects only, and sends it only if it differs from the previous one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;

use super::build::{Applied, KubernetesResources};
use super::conditions::{self, Conditions};
use super::counts;
use super::database::{self, DatabaseIdentity};
use super::exposure::{self, Exposure};
use super::kept_images;
use super::kstatus;
use super::names::{self, Component, DATABASE_CHECKSUM, FIELD_MANAGER};
use super::observe::Observed;
use super::outcome::Outcome;
use super::phase::{Inputs, Progress, phase};
use super::prewarm;
use super::restarts::Restarts;
use super::rollout::{self, redis_status};
use super::seed::Seed;

use crate::crd::{AppStatus, FlashSale, FlashSaleStatus, RedisStatus, condition};

/// The status after a reconcile with `outcome` at `now`.
#[must_use]
pub fn status(sale: &FlashSale, outcome: &Outcome, now: Timestamp) -> FlashSaleStatus {
    let previous = sale.status.clone().unwrap_or_default();
    let namespace = sale.namespace().unwrap_or_default();
    let mut status = FlashSaleStatus {
        observed_generation: sale.metadata.generation.unwrap_or_default(),
        url: Some(format!(
            "{}://{}:{}",
            names::scheme(&sale.spec.app),
            names::app_host(&namespace, &sale.name_any()),
            names::service_port(&sale.spec.app)
        )),
        ..previous.clone()
    };
    let conditions = match outcome {
        Outcome::Waiting(why) => {
            Conditions::only_ready(why.reason, why.message.clone(), Progress::Waiting)
        }
        Outcome::Refused(refusals) => {
            Conditions::only_ready("ChangeRefused", refusals.join("; "), Progress::Blocked)
        }
        Outcome::Applied { resources, seed, observed, refusals } => {
            status.secrets = secret_versions(resources, observed);
            status.stores_certificate_not_after = observed.stores_not_after.map(Time);
            status.redis = Some(redis(sale, resources, observed));
            status.app = Some(app_status(&sale.name_any(), &resources.app));
            let report = observed.report.as_ref();
            status.images = kept_images::after(previous.images.as_ref(), resources, report);
            let exposure = exposure(sale, resources);
            status.urls.clone_from(&exposure.urls);
            let database = database(sale, resources, seed, observed);
            match (&database, &observed.report) {
                // The last counts before the loss stay in the status.
                (DatabaseIdentity::Lost { .. }, _) => {}
                (DatabaseIdentity::Known(known), report) => {
                    status.database.clone_from(known);
                    if let Some(report) = report.as_ref().filter(|it| !it.database_unavailable) {
                        status.totals = Some(counts::total(&report.products));
                        status.products = counts::listed(&sale.spec, report.products.clone());
                    }
                }
            }
            let same_generation = previous.observed_generation == status.observed_generation;
            let inputs = conditions::Inputs {
                resources,
                seed,
                database: &database,
                exposure: &exposure,
                observed,
                replicas: prewarm::replicas(&sale.spec, now),
                previous: if same_generation { &previous.conditions } else { &[] },
                restarts: Restarts { observed, previous: &previous, now },
                scaling_up: rollout::is_scaling_up(&previous, &resources.app),
                now,
            };
            Conditions::of(&inputs).with_refusals(refusals)
        }
    };
    let selling = match outcome {
        Outcome::Applied { observed, .. } => rollout::selling(&observed.pods, now).is_some(),
        Outcome::Waiting(_) | Outcome::Refused(_) => false,
    };
    let inputs = Inputs {
        previous: sale.status.as_ref().map(|status| status.phase),
        progress: conditions.progress(),
        totals: status.totals,
        selling,
    };
    status.phase = phase(&sale.spec, inputs, now);
    status.conditions =
        conditions.into_conditions(&previous.conditions, status.observed_generation, now);
    let applied = match outcome {
        Outcome::Applied { resources, observed, .. } => Some((resources, observed)),
        Outcome::Waiting(_) | Outcome::Refused(_) => None,
    };
    let (conditions, waiting_for) = kstatus::complete(&kstatus::Inputs {
        status: &status,
        previous: &previous,
        parts_evaluated: applied.is_some(),
        stores_up: applied.is_some_and(|(resources, _)| rollout::stores_are_up(resources)),
        warnings: applied.map(|(_, observed)| observed.configuration.as_slice()),
        unfinished: applied.and_then(|(_, observed)| observed.unfinished.as_deref()),
        now,
    });
    status.conditions = conditions;
    status.waiting_for = waiting_for;
    status
}

/// The Redis nodes: their pods, and the nodes of the lock.
fn redis(
    sale: &FlashSale,
    resources: &KubernetesResources<Applied>,
    observed: &Observed,
) -> RedisStatus {
    let mut redis = redis_status(&resources.redis);
    if let Some(change) = &observed.node_change {
        redis.quorum = redis.ready > change.voters / 2;
    }
    let before = sale.status.as_ref().and_then(|status| status.redis.as_ref());
    let reported = observed.report.as_ref().and_then(|report| report.redis.as_ref());
    redis.members = match reported {
        Some(lock) => Some(lock.members(sale.spec.redis.nodes)),
        None => before.and_then(|redis| redis.members),
    };
    redis
}

/// Versions of the Secrets that were read, and of those that were created.
fn secret_versions(
    resources: &KubernetesResources<Applied>,
    observed: &Observed,
) -> BTreeMap<String, String> {
    let created = resources.missing_secrets.iter().chain(&resources.certificates);
    let created =
        created.filter_map(|secret| Some((secret.name_any(), secret.resource_version()?)));
    observed.secret_versions.clone().into_iter().chain(created).collect()
}

/// How the API is reached from outside.
fn exposure(sale: &FlashSale, resources: &KubernetesResources<Applied>) -> Exposure {
    let name = sale.name_any();
    let service = resources.services.iter().find(|service| service.name_any() == name);
    exposure::of(&sale.spec.app, service, &resources.network)
}

/// Compares the database with the seeded one.
fn database(
    sale: &FlashSale,
    resources: &KubernetesResources<Applied>,
    seed: &Seed,
    observed: &Observed,
) -> DatabaseIdentity {
    let address = resources.seed.annotations().get(DATABASE_CHECKSUM);
    database::identify(database::Inputs {
        previous: sale.status.as_ref().and_then(|status| status.database.as_ref()),
        address: address.map(String::as_str).unwrap_or_default(),
        accepted: sale.annotations().get(database::ACCEPT_LOSS).map(String::as_str),
        seed,
        rolled_out: rollout::of_app(&resources.app).done
            && rollout::terminating(&observed.pods).is_none(),
        report: observed.report.as_ref().and_then(|report| report.database.as_ref()),
    })
}

/// Whether the sale was and is ready in an unchanged phase, so that no causes have to be observed.
#[must_use]
pub fn is_settled(sale: &FlashSale, status: &FlashSaleStatus) -> bool {
    let generation = sale.metadata.generation;
    let ready = |status: &FlashSaleStatus| {
        let mut conditions = status.conditions.iter();
        conditions.any(|it| {
            it.type_ == condition::READY
                && it.status == "True"
                && it.observed_generation == generation
        })
    };
    let before = sale.status.as_ref();
    ready(status) && before.is_some_and(|before| ready(before) && before.phase == status.phase)
}

fn app_status(name: &str, app: &Deployment) -> AppStatus {
    let desired = app.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default();
    let status = app.status.as_ref();
    let ready = status.and_then(|status| status.ready_replicas).unwrap_or_default();
    AppStatus {
        ready,
        replicas: status.and_then(|status| status.replicas).unwrap_or_default(),
        desired: Some(desired),
        summary: format!("{ready}/{desired}"),
        selector: Some(names::selector(name, Component::App)),
    }
}

/// Sends `status` if it differs from the current one; returns whether it did.
///
/// # Errors
/// When the API server refuses it. A sale that was deleted in the meantime is no error.
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
        // A new sale with the same name must not get this status.
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
