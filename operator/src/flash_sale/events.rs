//! Events on a sale: changes of phase, stalled sales, regenerated Secrets.

use kube::runtime::events::EventType;
use kube::{Resource, ResourceExt};
use tracing::{info, warn};

use super::context::Context;
use super::exposure::{GATEWAY_API_MISSING, ROUTE_REFUSED};
use super::names;
use super::outcome::Outcome;
use crate::crd::{FlashSale, FlashSaleStatus, Phase, condition};
use crate::error_chain::error_chain;

/// Publishes an event for each Secret that was deleted and is created again: its keys and passwords are new.
pub(super) async fn publish_regenerated_secrets(
    sale: &FlashSale,
    outcome: &Outcome,
    context: &Context,
) {
    let Outcome::Applied { resources, .. } = outcome else { return };
    if sale.status.as_ref().is_none_or(|status| status.app.is_none()) {
        return;
    }
    // Only the operator itself uses the values of this Secret.
    let own = names::operator_secret(&sale.name_any());
    for secret in resources.missing_secrets.iter().filter(|secret| secret.name_any() != own) {
        let message = format!(
            "Secret {} was missing and has been created again with new values: tokens signed with its \
             old key are invalid, and its passwords have changed",
            secret.name_any()
        );
        warn!(namespace = sale.namespace(), name = sale.name_any(), "{message}");
        let reference = sale.object_ref(&());
        let type_ = EventType::Warning;
        if let Err(error) = context.publish("SecretMadeAgain", type_, message, &reference).await {
            warn!(error = error_chain(&error), "cannot record the event");
        }
    }
}

/// Publishes an event when the route of a sale is refused or has no definition.
pub(super) async fn publish_exposure_change(
    sale: &FlashSale,
    status: &FlashSaleStatus,
    context: &Context,
) {
    let exposed = |status: &FlashSaleStatus| {
        let exposed = status.conditions.iter().find(|it| it.type_ == condition::EXPOSED);
        exposed.map(|it| (it.reason.clone(), it.message.clone())).unwrap_or_default()
    };
    let (reason, message) = exposed(status);
    let is_new = sale.status.as_ref().is_none_or(|before| exposed(before).0 != reason);
    if !is_new || ![GATEWAY_API_MISSING, ROUTE_REFUSED].contains(&reason.as_str()) {
        return;
    }
    let (namespace, name) = (sale.namespace(), sale.name_any());
    warn!(namespace, name, reason, "{message}");
    let reference = sale.object_ref(&());
    if let Err(error) = context.publish(&reason, EventType::Warning, message, &reference).await {
        warn!(error = error_chain(&error), "cannot record the event");
    }
}

/// Publishes an event for each change of phase, and for a sale that is newly stalled.
pub(super) async fn publish_phase_change(
    sale: &FlashSale,
    status: &FlashSaleStatus,
    context: &Context,
) {
    let find = |status: &FlashSaleStatus, type_| {
        let found = status.conditions.iter().find(|it| it.type_ == type_);
        found.map(|it| (it.reason.clone(), it.message.clone()))
    };
    let before = sale.status.as_ref();
    let stalled = find(status, condition::STALLED);
    let ready = find(status, condition::READY).unwrap_or_default();
    let phase_changed = before.map(|before| before.phase) != Some(status.phase);
    let stalled_before = before.and_then(|before| find(before, condition::STALLED));
    let newly_stalled = stalled.as_ref().map(|it| &it.0) != stalled_before.as_ref().map(|it| &it.0)
        && stalled.is_some();
    let (reason, message) = stalled.unwrap_or(ready);
    if phase_changed || newly_stalled {
        let (namespace, name) = (sale.namespace(), sale.name_any());
        info!(namespace, name, phase = %status.phase, reason, "{message}");
        let reference = sale.object_ref(&());
        let event = if newly_stalled { &reason } else { status.phase.as_str() };
        let type_ = match status.phase {
            _ if newly_stalled => EventType::Warning,
            Phase::Degraded | Phase::Failed => EventType::Warning,
            _ => EventType::Normal,
        };
        if let Err(error) = context.publish(event, type_, message, &reference).await {
            warn!(error = error_chain(&error), "cannot record the event");
        }
    }
}
