//! A sale that the operator cannot read, because another version's CRD accepted it. Its parts stay unchanged; a
//! condition, an event and a metric report it.

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
use crate::crd::condition::{READY, RECONCILING, STALLED};
use crate::crd::{FlashSale, Phase};
use crate::error_chain::error_chain;
use crate::watched::Watched;

/// Reason of the condition and of the event.
pub const REASON: &str = "Unreadable";

/// Reports that `invalid` cannot be read, once per generation.
///
/// # Errors
/// When a request to the API server fails.
pub async fn report(invalid: &InvalidObject, context: &Context) -> Result<Action, kube::Error> {
    let metadata = &invalid.metadata;
    let (Some(namespace), Some(name)) = (&metadata.namespace, &metadata.name) else {
        // Not from an API server.
        return Ok(Action::await_change());
    };
    let message = format!(
        "{}; the operator leaves this sale unchanged until the field is corrected",
        invalid.error
    );
    let sales: Api<Watched<FlashSale>> = Api::namespaced(context.client.clone(), namespace);
    let Some(sale) = sales.get_opt(name).await? else {
        return Ok(Action::await_change());
    };
    let status = status(&sale, &message, Timestamp::now());
    if sale.object.get("status") == Some(&status) {
        return Ok(Action::await_change());
    }
    warn!(namespace, name, "cannot read the sale: {message}");
    let patch = Patch::Apply(json!({
        "apiVersion": FlashSale::api_version(&()),
        "kind": FlashSale::kind(&()),
        "metadata": { "uid": sale.meta().uid },
        "status": status,
    }));
    let params = PatchParams::apply(FIELD_MANAGER).force();
    if let Err(error) = sales.patch_status(name, &params, &patch).await {
        // The event still reports it.
        warn!(namespace, name, error = error_chain(&error), "cannot update the status");
    }
    let reference = sale.object_ref(&());
    if let Err(error) = context.publish(REASON, EventType::Warning, message, &reference).await {
        warn!(error = error_chain(&error), "cannot record the event");
    }
    Ok(Action::await_change())
}

/// The previous status with `Ready` set to False and `Stalled` to True.
fn status(sale: &Watched<FlashSale>, message: &str, now: Timestamp) -> Value {
    let generation = sale.meta().generation.unwrap_or_default();
    let mut status = sale.object.get("status").cloned().unwrap_or_else(|| json!({}));
    let mut conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let previous = conditions.clone();
    conditions.retain(|it| ![READY, RECONCILING, STALLED].iter().any(|type_| it["type"] == *type_));
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    for (type_, value) in [(READY, "False"), (STALLED, "True")] {
        let mut before = previous.iter().filter(|it| it["type"] == type_);
        let since = before.find(|it| it["status"] == value);
        conditions.push(json!({
            "type": type_,
            "status": value,
            "reason": REASON,
            "message": message,
            "observedGeneration": generation,
            "lastTransitionTime": since.map_or(json!(now), |it| it["lastTransitionTime"].clone()),
        }));
    }
    status["conditions"] = conditions.into();
    status["observedGeneration"] = generation.into();
    if status["phase"].is_null() || status["phase"] == Phase::Pending.as_str() {
        status["phase"] = Phase::Failed.as_str().into();
    }
    status
}
