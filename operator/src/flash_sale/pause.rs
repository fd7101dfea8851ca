//! A paused sale: the operator reads it and writes nothing but its status. Its parts run on.

use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Resource, ResourceExt};
use tracing::{info, warn};

use super::context::Context;
use super::database::ACCEPT_LOSS;
use super::update_status;
use crate::crd::{FlashSale, FlashSaleStatus, condition};
use crate::error_chain::error_chain;

/// Annotation that pauses the reconcile of a sale while its value is `true`.
pub const PAUSE: &str = "flashsale.dev/pause-reconciliation";

/// Annotations that the operator acts on.
const ANNOTATIONS: [&str; 2] = [PAUSE, ACCEPT_LOSS];

/// Whether the sale is paused.
#[must_use]
pub fn is_paused(sale: &FlashSale) -> bool {
    sale.annotations().get(PAUSE).is_some_and(|value| value == "true")
}

/// A warning for a value that means nothing.
#[must_use]
pub fn warning(sale: &FlashSale) -> Option<String> {
    let value = sale.annotations().get(PAUSE)?;
    (value != "true" && value != "false").then(|| {
        format!(
            "the annotation {PAUSE} has the value {value:?} and has no effect: only \"true\" pauses"
        )
    })
}

/// What a change of a sale must change to trigger a reconcile: the spec, or an annotation that the operator acts on. A
/// change of the status does neither.
#[must_use]
pub fn trigger(sale: &DeserializeGuard<FlashSale>) -> Option<u64> {
    let metadata = sale.meta();
    let annotations = metadata.annotations.as_ref();
    let values = ANNOTATIONS.map(|name| annotations.and_then(|all| all.get(name)));
    let mut hasher = DefaultHasher::new();
    (metadata.generation, values).hash(&mut hasher);
    Some(hasher.finish())
}

/// Reports once that the sale is paused.
///
/// # Errors
/// When the API server refuses the status.
pub(super) async fn report(sale: &FlashSale, context: &Context) -> Result<Action, kube::Error> {
    let status = status(sale, Timestamp::now());
    if update_status::update(&context.client, sale, &status).await? && !was_paused(sale) {
        let message = format!(
            "the annotation {PAUSE} is true: the operator changes and repairs nothing of this sale"
        );
        publish(sale, context, condition::RECONCILIATION_PAUSED, message).await;
    }
    Ok(Action::await_change())
}

/// Reports the first reconcile after a pause.
pub(super) async fn report_end(sale: &FlashSale, context: &Context) {
    if was_paused(sale) {
        let message = "the operator changes and repairs this sale again".to_owned();
        publish(sale, context, "ReconciliationResumed", message).await;
    }
}

fn was_paused(sale: &FlashSale) -> bool {
    sale.status.as_ref().is_some_and(|status| status.is_true(condition::RECONCILIATION_PAUSED))
}

async fn publish(sale: &FlashSale, context: &Context, reason: &str, message: String) {
    info!(namespace = sale.namespace(), name = sale.name_any(), reason, "{message}");
    let reference = sale.object_ref(&());
    if let Err(error) = context.publish(reason, EventType::Normal, message, &reference).await {
        warn!(error = error_chain(&error), "cannot record the event");
    }
}

/// The last status with the condition `ReconciliationPaused`. All else, `observedGeneration` included, is that of the last
/// reconcile.
#[must_use]
pub fn status(sale: &FlashSale, now: Timestamp) -> FlashSaleStatus {
    let mut status = sale.status.clone().unwrap_or_default();
    if !status.is_true(condition::RECONCILIATION_PAUSED) {
        status.conditions.push(Condition {
            type_: condition::RECONCILIATION_PAUSED.to_owned(),
            status: "True".to_owned(),
            reason: "Annotated".to_owned(),
            message: format!(
                "the annotation {PAUSE} is true; the other conditions are those of the last reconcile"
            ),
            observed_generation: sale.metadata.generation,
            last_transition_time: Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
        });
    }
    status
}
