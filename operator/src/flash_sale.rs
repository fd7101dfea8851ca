//! Reconciles a `FlashSale` in five steps:
//!
//! 1. [`dereference`]: read referenced objects and existing parts
//! 2. [`validate`]: a sale that can be built, or the reason to wait; [`certificates`] that are due
//! 3. [`build`]: all objects of the sale
//! 4. `retention`, [`volumes`], [`apply`]: apply them; then [`seed`]: the state of the seed Job
//! 5. [`update_status`]: conditions and [`phase`]; [`observe`] adds the causes while the sale is not ready
//!
//! [`unreadable`] handles a sale that cannot be read, and [`pause`] one that is paused.
//!
//! This file only calls the steps in order. No other file knows both the clock and the client.

pub mod app_client;
pub mod applied_versions;
pub mod apply;
mod apply_error;
pub mod backup;
pub mod build;
pub mod cause;
pub mod certificates;
mod child;
pub mod claimed;
mod conditions;
pub mod configuration;
pub mod context;
pub mod counts;
pub mod credentials;
pub mod database;
pub mod dereference;
mod event_secrets;
mod events;
pub mod exposure;
pub mod hibernation;
mod kept_images;
mod kstatus;
pub mod leftovers;
pub mod names;
pub mod network;
pub mod node_request;
pub mod nodes;
pub mod not_ready;
pub mod observe;
pub mod operator_pods;
pub mod outcome;
pub mod ownership;
pub mod pause;
pub mod phase;
pub mod pinned_images;
pub mod placement;
pub mod poll;
pub mod prewarm;
pub mod report_tokens;
mod restarts;
pub mod retained;
mod retention;
pub mod rollout;
pub mod secret_names;
pub mod secret_watches;
mod secrets;
pub mod seed;
pub mod unreadable;
mod unreadable_volume;
pub mod update_status;
pub mod validate;
pub mod validity;
mod volume_size;
pub mod volumes;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use thiserror::Error;
use tracing::error;

use crate::crd::{FlashSale, FlashSaleStatus, StoresTlsMode, condition};
use crate::error_chain::error_chain;
use build::credentials::Passwords;
use context::Context;
use nodes::{ChangeAnswer, ExistingNodes, NodePlan};
use observe::Observed;
use outcome::Outcome;
use seed::Seed;
use validate::ValidatedSale;

/// Requeue interval after a change of the status, and of a sale whose Secrets are not watched.
const RESYNC_INTERVAL: Duration = Duration::from_mins(1);
/// Requeue interval of a sale that is at rest: everything that can change it is watched or has a time of its own. It is
/// a random time between the two, so that the sales of a fleet do not come at the same moment.
const REST_INTERVAL: RangeInclusive<Duration> = Duration::from_mins(30)..=Duration::from_hours(1);
/// Requeue interval of a sale that is not ready: pods are not watched.
const UNREADY_INTERVAL: Duration = Duration::from_secs(5);
/// A sale that is not ready for this long is requeued at the resync interval.
const UNREADY_BACKOFF_AFTER: Duration = Duration::from_mins(10);
/// Requeue interval of a sale whose route waits for the Gateway API: its definition is not watched.
const GATEWAY_API_INTERVAL: Duration = Duration::from_secs(15);
/// Delay of the retry after a failed reconcile.
const ERROR_INTERVAL: Duration = Duration::from_secs(5);

/// A failed reconcile; it is retried.
#[derive(Debug, Error)]
pub enum Error {
    /// Step 1.
    #[error("dereference failed")]
    Dereference(#[from] dereference::Error),
    /// Step 3.
    #[error("build failed")]
    Build(#[from] build::Error),
    /// Before step 3.
    #[error("renewal of certificates failed")]
    Certificates(#[from] certificates::Error),
    /// At the start of step 4.
    #[error("retention failed")]
    Retention(#[from] retention::Error),
    /// Before step 4.
    #[error("replacement of volumes failed")]
    Volumes(#[from] volumes::Error),
    /// Step 4.
    #[error("apply failed")]
    Apply(#[from] apply::Error),
    /// Between steps 4 and 5.
    #[error("observation failed")]
    Observe(#[from] observe::Error),
    /// Step 5.
    #[error("status update failed")]
    UpdateStatus(#[source] kube::Error),
}

impl Error {
    /// All steps.
    pub const STEPS: [&'static str; 8] = [
        "dereference",
        "build",
        "certificates",
        "retention",
        "volumes",
        "apply",
        "observe",
        "update_status",
    ];

    /// The step as a metric label.
    #[must_use]
    pub const fn step(&self) -> &'static str {
        match self {
            Self::Dereference(_) => "dereference",
            Self::Build(_) => "build",
            Self::Certificates(_) => "certificates",
            Self::Retention(_) => "retention",
            Self::Volumes(_) => "volumes",
            Self::Apply(_) => "apply",
            Self::Observe(_) => "observe",
            Self::UpdateStatus(_) => "update_status",
        }
    }
}

/// Reconciles one sale.
///
/// # Errors
/// When a step fails for a transient reason.
pub async fn reconcile(
    object: Arc<DeserializeGuard<FlashSale>>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let sale = match &object.0 {
        Ok(sale) => sale,
        Err(invalid) => {
            return unreadable::report(invalid, &context).await.map_err(Error::UpdateStatus);
        }
    };
    if sale.metadata.deletion_timestamp.is_some() {
        // The garbage collector deletes the parts by their owner references.
        return Ok(Action::await_change());
    }
    if pause::is_paused(sale) {
        return pause::report(sale, &context).await.map_err(Error::UpdateStatus);
    }
    let timer = context.metrics.reconcile_timer();
    let result = Box::pin(run_steps(sale, &context)).await;
    timer.observe(result.as_ref().map_or("error", |(outcome, _)| outcome.label()));
    result.map(|(_, action)| action)
}

async fn run_steps(sale: &FlashSale, context: &Context) -> Result<(Outcome, Action), Error> {
    let now = Timestamp::now();
    // Step 1.
    let mut references = Box::pin(dereference::dereference(&context.client, sale)).await?;
    references.operator_pods.clone_from(&context.operator_pods);
    // Steps 2 to 4.
    let mut outcome = Box::pin(validate_and_apply(sale, references, context, now)).await?;

    // Step 5.
    let namespace = sale.namespace().unwrap_or_default();
    let mut pods = Vec::new();
    if let Outcome::Applied { observed, .. } = &mut outcome {
        pods = observe::pods(context, &namespace, &sale.name_any()).await?;
        observed.configuration.extend(placement::warnings(&sale.spec, &pods));
        observed.configuration.extend(pause::warning(sale));
    }
    let mut status = update_status::status(sale, &outcome, now);
    if let Outcome::Applied { resources, observed, .. } = &mut outcome
        && !update_status::is_settled(sale, &status)
    {
        observed.pods = pods;
        observe::observe_causes(context, &namespace, resources, observed).await?;
        status = update_status::status(sale, &outcome, now);
    }
    events::publish_regenerated_secrets(sale, &outcome, context).await;
    let changed =
        update_status::update(&context.client, sale, &status).await.map_err(Error::UpdateStatus)?;
    if changed {
        pause::report_end(sale, context).await;
        events::publish_phase_change(sale, &status, context).await;
        events::publish_exposure_change(sale, &status, context).await;
    }
    // What a changed status leads to, such as a hibernation, is done by the next reconcile.
    let is_delayed = status.is_true(condition::HIBERNATION_DELAYED);
    let rests = !changed && !is_delayed && context.secret_watches.cover(&namespace);
    let action = requeue(sale, &outcome, &status, now, rests);
    Ok((outcome, action))
}

async fn validate_and_apply(
    sale: &FlashSale,
    references: dereference::References,
    context: &Context,
    now: Timestamp,
) -> Result<Outcome, Error> {
    let client = &context.client;
    let jobs = references.seed_jobs.clone();
    let existing = apply::Existing {
        sale,
        parts: references.parts.clone(),
        autoscaler: references.autoscaler.clone(),
        undeclared: references.undeclared.clone(),
        applied: context.applied.clone(),
    };
    let stateful_sets = references.stateful_sets.clone();
    let secret_versions = references.secret_versions.clone();
    let retained = references.retained.clone();
    let status = sale.status.as_ref();
    let nodes = node_request::existing_nodes(&references, status);
    let mut valid = match validate::validate(sale, references, &context.images) {
        Ok(valid) => valid,
        Err(not_ready) => return Ok(Outcome::Waiting(not_ready)),
    };
    let configuration = configuration::warnings(&valid);
    valid.spec.app.replicas = prewarm::replicas(&valid.spec, now);
    let renewal = renew_certificates(&mut valid, now)?;
    retention::settle(client, &valid, &retained).await?;
    // A Secret created in this reconcile is read by the next one; no replica has its token yet.
    if let Some(token) = valid.operator_auth.data.as_ref().and_then(secrets::operator_token) {
        context.report_tokens.set(&valid.namespace, &valid.name, &token);
    }
    // Without pods nobody can answer: the status of the reconcile that ended them was not written.
    let unfinished =
        if nodes.pods == Some(0) { None } else { observe::unfinished(context, sale, now).await };
    let phase = status.map(|status| status.phase);
    valid.hibernates = unfinished.is_none() && hibernation::is_due(&sale.spec, phase, now);
    let answer = change_nodes(&valid, nodes, context).await;
    valid.nodes = NodePlan::next(valid.spec.redis.nodes, nodes, answer.as_ref());
    let prepared = build::build(&valid, &Passwords::generate())?;
    let (namespace, name) = (&valid.namespace, &valid.name);
    if let Some(waiting) = volumes::replace(client, namespace, &stateful_sets, &prepared).await? {
        return Ok(Outcome::Waiting(waiting));
    }
    let applied = match Box::pin(apply::apply(client, namespace, prepared, &existing)).await {
        Ok(applied) => applied,
        Err(apply::Error::NameTaken(found)) => {
            return Ok(Outcome::Waiting(ownership::name_taken(&[&found])));
        }
        Err(error) => return Err(error.into()),
    };
    let refusals = [valid.refusals, applied.refusals].concat();
    let Some(resources) = applied.resources.map(Box::new) else {
        return Ok(Outcome::Refused(refusals));
    };
    let seed = seed::state(&resources.seed, Timestamp::now());
    if valid.hibernates {
        apply::delete_jobs(client, namespace, seed::unfinished(&jobs)).await?;
    } else {
        let obsolete = seed::obsolete(&jobs, &resources.seed, &seed);
        apply::delete_jobs(client, namespace, obsolete).await?;
    }
    let app = resources.app.status.as_ref().and_then(|status| status.ready_replicas);
    let report = match app {
        Some(1..) => {
            let token = context.report_tokens.get(namespace, name);
            let scope = app_client::ReportScope::Status;
            context.app.sale_report(namespace, name, token.as_deref(), scope).await
        }
        _ => None,
    };
    let node_change = valid.nodes.change.clone();
    let in_use = valid.stores_tls.filter(|_| !valid.hibernates);
    let observed = Box::new(Observed {
        report,
        secret_versions,
        configuration,
        node_change,
        renewal,
        unfinished,
        stores_not_after: in_use.and_then(|secret| secret.not_after),
        ..Observed::default()
    });
    Ok(Outcome::Applied { resources, seed, observed, refusals })
}

/// Requests the declared Redis nodes from the app, if it uses others.
async fn change_nodes(
    sale: &ValidatedSale,
    existing: ExistingNodes,
    context: &Context,
) -> Option<ChangeAnswer> {
    let nodes = node_request::to_request(sale, existing)?;
    let (namespace, name) = (&sale.namespace, &sale.name);
    let token = context.report_tokens.get(namespace, name);
    Some(context.app.change_nodes(namespace, name, token.as_deref(), nodes).await)
}

/// Renews the certificates of the stores if the operator makes them. Returns the time of the next renewal.
fn renew_certificates(
    sale: &mut ValidatedSale,
    now: Timestamp,
) -> Result<Option<Timestamp>, certificates::Error> {
    let hosts = names::store_hosts(&sale.namespace, &sale.name, &sale.own_database);
    let managed = sale.spec.stores.tls_mode() == StoresTlsMode::Managed;
    let Some(secret) = sale.stores_tls.as_mut().filter(|_| managed) else { return Ok(None) };
    let renewal = certificates::renew(secret.found.as_ref(), &hosts, now)?;
    if let Some(changed) = &renewal.changed {
        secret.not_after = validity::not_after(&changed.data);
    }
    secret.changed = renewal.changed;
    Ok(Some(renewal.next))
}

/// The time of the next reconcile without an event.
fn requeue(
    sale: &FlashSale,
    outcome: &Outcome,
    status: &FlashSaleStatus,
    now: Timestamp,
    rests: bool,
) -> Action {
    let pause = match outcome {
        Outcome::Waiting(not_ready) => match not_ready.requeue_after {
            Some(pause) => pause,
            None => return Action::await_change(),
        },
        Outcome::Applied { seed: Seed::Failed { retry_after, .. }, .. } => {
            (*retry_after).clamp(Duration::from_secs(1), RESYNC_INTERVAL)
        }
        Outcome::Applied { refusals, resources, .. } if refusals.is_empty() => {
            let pause = match &status.waiting_for {
                None if rests => rand::random_range(REST_INTERVAL),
                _ => unready_interval(status, now),
            };
            if resources.network.gateway_api_missing {
                pause.min(GATEWAY_API_INTERVAL)
            } else {
                pause
            }
        }
        Outcome::Applied { .. } | Outcome::Refused(_) => RESYNC_INTERVAL,
    };
    let renewal = match outcome {
        Outcome::Applied { observed, .. } => observed.renewal,
        Outcome::Waiting(_) | Outcome::Refused(_) => None,
    };
    let renewal = renewal.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
    let by_clock = phase::until_next_change(&sale.spec, now).into_iter().chain(renewal);
    Action::requeue(by_clock.fold(pause, Duration::min))
}

fn unready_interval(status: &FlashSaleStatus, now: Timestamp) -> Duration {
    let since = status.waiting_for.as_ref().map(|waiting| waiting.since.0);
    let elapsed = since.and_then(|since| Duration::try_from(now.duration_since(since)).ok());
    match elapsed {
        Some(elapsed) if elapsed < UNREADY_BACKOFF_AFTER => UNREADY_INTERVAL,
        _ => RESYNC_INTERVAL,
    }
}

/// Error policy: logs, counts and requeues a failed reconcile.
#[expect(clippy::needless_pass_by_value, reason = "the signature is the controller's")]
pub fn on_error(
    object: Arc<DeserializeGuard<FlashSale>>,
    failure: &Error,
    context: Arc<Context>,
) -> Action {
    context.metrics.reconcile_failed(failure.step());
    let cause = error_chain(failure);
    error!(name = object.meta().name, error = cause, "reconcile failed");
    Action::requeue(ERROR_INTERVAL)
}
