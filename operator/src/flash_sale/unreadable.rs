//! A sale that the operator can't read: it was accepted by another definition than this operator's. Its
//! parts stay as they are; a condition, an event and a metric say so.

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::error_boundary::InvalidObject;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Api, Resource};
use serde_json::{Value, json};
use tracing::warn;

use super::context::Context;
use super::names::FIELD_MANAGER;
use crate::crd::condition::READY;
use crate::crd::{FlashSale, Phase};
use crate::error_chain::error_chain;
use crate::watched::Watched;

/// Reason of the condition and of the event.
pub const REASON: &str = "Unreadable";

/// Says that `invalid` can't be read, once for each generation.
///
/// # Errors
/// When the API server can't be asked.
pub async fn report(invalid: &InvalidObject, context: &Context) -> Result<Action, kube::Error> {
    let metadata = &invalid.metadata;
    let (Some(namespace), Some(name)) = (&metadata.namespace, &metadata.name) else {
        // Not from an API server.
        return Ok(Action::await_change());
    };
    let message =
        format!("{}; nothing of this sale is changed until the field is corrected", invalid.error);
    let sales: Api<Watched<FlashSale>> = Api::namespaced(context.client.clone(), namespace);
    let Some(sale) = sales.get_opt(name).await? else {
        return Ok(Action::await_change());
    };
    let status = status(&sale, &message, Timestamp::now());
    if sale.object.get("status") == Some(&status) {
        return Ok(Action::await_change());
    }
    warn!(namespace, name, "a sale can't be read: {message}");
    let patch = Patch::Apply(json!({
        "apiVersion": FlashSale::api_version(&()),
        "kind": FlashSale::kind(&()),
        "metadata": { "uid": sale.meta().uid },
        "status": status,
    }));
    let params = PatchParams::apply(FIELD_MANAGER).force();
    if let Err(error) = sales.patch_status(name, &params, &patch).await {
        // The event says it all the same.
        warn!(namespace, name, error = error_chain(&error), "no condition says so");
    }
    let reference = sale.object_ref(&());
    if let Err(error) = context.publish(REASON, EventType::Warning, message, &reference).await {
        warn!(error = error_chain(&error), "event not recorded");
    }
    Ok(Action::await_change())
}

/// The status of a sale that can't be read: as it was, but not `Ready`.
fn status(sale: &Watched<FlashSale>, message: &str, now: Timestamp) -> Value {
    let generation = sale.meta().generation.unwrap_or_default();
    let mut status = sale.object.get("status").cloned().unwrap_or_else(|| json!({}));
    let mut conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let before = conditions.iter().position(|it| it["type"] == READY);
    let before = before.map(|at| conditions.remove(at));
    let since = before.filter(|it| it["status"] == "False");
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    conditions.push(json!({
        "type": READY,
        "status": "False",
        "reason": REASON,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": since.map_or(json!(now), |it| it["lastTransitionTime"].clone()),
    }));
    status["conditions"] = conditions.into();
    status["observedGeneration"] = generation.into();
    if status["phase"].is_null() {
        status["phase"] = Phase::Failed.as_str().into();
    }
    status
}
