//! `/v1/payments`: events of payment services; and `/v1/admin/payments`: those that an administrator must resolve.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue};
use ledger::{Ledger, PaymentEvent, PaymentSearch};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::listing::{page, page_limit};
use super::purchases::REPLAYED;
use crate::api::extract::{Admin, PathId};
use crate::api::problems::{
    Administrator, Database, JsonInput, PaymentEvents, PaymentPath, Problems, QueryInput,
};
use crate::http::json::RawBody;
use crate::http::problem::ApiError;
use crate::payments::{Outcome, Payments, Received};
use crate::times::rfc3339;

/// An event that was received.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReceivedEvent {
    /// The service's own id of the event.
    #[schema(example = "evt_1Q2w3E4r5T6y7U8i")]
    event_id: String,
    outcome: EventOutcome,
}

/// `applied`: the order is as the event says. `replayed`: an earlier delivery was applied. `ignored`: the event is about
/// no order of the sale, or says nothing new. `partial_refund`: a part of the money was given back; an
/// administrator sees it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum EventOutcome {
    Applied,
    Replayed,
    Ignored,
    PartialRefund,
}

/// Selects a page of the events.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// `true`: only events that changed nothing, or a part of the money only, and that nobody has resolved.
    #[param(nullable = false, example = true, default = false)]
    open: Option<bool>,
    /// Maximum number of events on the page, 1 to 500.
    #[param(nullable = false, example = 50, minimum = 1, maximum = 500, default = 50)]
    limit: Option<i64>,
    /// The page starts after this event: the `next` of the previous page.
    #[param(value_type = Option<String>, format = "uuid", nullable = false, example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")]
    after: Option<Uuid>,
}

/// Some events of payment services, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct PaymentEventsView {
    events: Vec<PaymentEventView>,
    /// The `after` of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid", nullable = false, example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")]
    next: Option<String>,
}

/// An event of a payment service, as it was delivered last, or a payment that an administrator reported and no order
/// took.
#[derive(Serialize, ToSchema)]
pub(crate) struct PaymentEventView {
    #[schema(value_type = String, format = "uuid", example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")]
    id: String,
    /// `report`: an administrator reported it.
    #[schema(example = "stripe")]
    provider: String,
    /// The service's own id of the event. Of a report: the order and, if there is one, the reference.
    #[schema(example = "evt_1Q2w3E4r5T6y7U8i")]
    event_id: String,
    /// The service's name of what happened. Of a report: `paid`.
    #[schema(example = "checkout.session.completed")]
    kind: String,
    /// The order that it is about, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid", nullable = false, example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")]
    order_id: Option<String>,
    /// What the service calls the payment, or the refund.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "pi_3Q2w3E4r5T6y7U8i")]
    reference: Option<String>,
    /// What it reports, in the smallest unit of the currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 49_900)]
    amount: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "EUR")]
    currency: Option<String>,
    /// `applied`, `ignored`, `partial_refund`, or the code of the problem for which nothing was changed.
    #[schema(example = "payment_amount")]
    outcome: String,
    /// RFC 3339: when it was delivered last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false, example = "2026-11-27T00:00:00.123Z")]
    received_at: Option<String>,
    /// RFC 3339: when an administrator resolved it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false, example = "2026-11-27T00:00:00.123Z")]
    resolved_at: Option<String>,
}

impl From<PaymentEvent> for PaymentEventView {
    fn from(event: PaymentEvent) -> Self {
        Self {
            id: event.id.to_string(),
            provider: event.provider,
            event_id: event.event_id,
            kind: event.kind,
            order_id: event.order_id.map(|id| id.to_string()),
            reference: event.reference,
            amount: event.amount,
            currency: event.currency,
            outcome: event.outcome,
            received_at: rfc3339(event.received_at_ms),
            resolved_at: event.resolved_at_ms.and_then(rfc3339),
        }
    }
}

/// Takes an event of Stripe
///
/// For a webhook endpoint of Stripe with the events `checkout.session.completed`,
/// `checkout.session.async_payment_succeeded`, `checkout.session.async_payment_failed` and `charge.refunded`. Others are
/// ignored. `client_reference_id` or the key `order_id` of `metadata` names the order; amount and currency must be the
/// order's. An event is applied once, however often it is delivered. After a problem nothing was changed, and
/// Stripe delivers the event again.
#[utoipa::path(post, path = "/v1/payments/stripe", operation_id = "receive_stripe_event", tag = "payments",
    params(("Stripe-Signature" = String, Header, description = "`t=` and one or more `v1=`, over the body as it was sent, by a secret of the endpoint", example = "t=1764201600,v1=5257a869e7ecebeda32affa62cdca3fa51cad7e77a0e56ff536d0ce8e108d8bd")),
    request_body(content = serde_json::Value, content_type = "application/json", description = "The event, as Stripe sends it"),
    responses(
        (status = 200, description = "Received", body = ReceivedEvent),
        Problems<(JsonInput, PaymentEvents)>,
    )
)]
pub(crate) async fn receive_from_stripe(
    State(payments): State<Arc<Payments>>,
    headers: HeaderMap,
    RawBody(body): RawBody,
) -> Result<Json<ReceivedEvent>, ApiError> {
    // Runs to its end even when the client disconnects.
    let receiving =
        tokio::spawn(async move { payments.receive_from_stripe(&headers, &body).await });
    let Received { event_id, outcome } = receiving.await.map_err(anyhow::Error::from)??;
    let outcome = match outcome {
        Outcome::Applied => EventOutcome::Applied,
        Outcome::Replayed => EventOutcome::Replayed,
        Outcome::Ignored => EventOutcome::Ignored,
        Outcome::PartialRefund => EventOutcome::PartialRefund,
    };
    Ok(Json(ReceivedEvent { event_id, outcome }))
}

/// Lists the events of payment services
///
/// For administrators. Newest first, page by page. Only events with a right signature that are about an order are
/// kept, and payments that an administrator reported for an order that takes none.
#[utoipa::path(get, path = "/v1/admin/payments", operation_id = "list_payment_events", tag = "payments", security(("bearer" = [])),
    params(EventsQuery),
    responses(
        (status = 200, description = "A page of events", body = PaymentEventsView),
        Problems<(Administrator, QueryInput, Database)>,
    )
)]
pub(crate) async fn list(
    _: Admin,
    State(ledger): State<Ledger>,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Json<PaymentEventsView>, ApiError> {
    let Query(EventsQuery { open, limit, after }) = query?;
    let limit = page_limit(limit)?;
    let open_only = open.unwrap_or(false);
    let search = PaymentSearch { open_only, after, limit: limit + 1 };
    let events = ledger.payment_events(&search).await?;
    let (events, next) = page(events, limit, |event| event.id.to_string());
    Ok(Json(PaymentEventsView { events: events.into_iter().map(Into::into).collect(), next }))
}

/// Marks an event of a payment service as resolved
///
/// For administrators, who have done by hand what the event could not: it leaves the list of open events. It is in the
/// audit log. A repeated request changes nothing.
#[utoipa::path(post, path = "/v1/admin/payments/{id}/resolve", operation_id = "resolve_payment_event", tag = "payments", security(("bearer" = [])),
    params(("id" = String, Path, format = "uuid", description = "The event", example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")),
    responses(
        (status = 200, description = "Resolved", body = PaymentEventView,
            headers(("Idempotent-Replayed" = bool, description = "`true` if an earlier request did it; otherwise absent"))),
        Problems<(Administrator, PaymentPath, Database)>,
    )
)]
pub(crate) async fn resolve(
    Admin(claims): Admin,
    State(ledger): State<Ledger>,
    PathId(id): PathId,
) -> Result<(HeaderMap, Json<PaymentEventView>), ApiError> {
    let id = Uuid::try_parse(&id).map_err(|_malformed| ApiError::UnknownPayment)?;
    let resolved = ledger.resolve_payment_event(id, &claims.sub).await?;
    let (event, now) = resolved.ok_or(ApiError::UnknownPayment)?;
    let mut headers = HeaderMap::new();
    if !now {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok((headers, Json(event.into())))
}
