//! `/v1/admin/events`: where the events of orders go, and those that could not be delivered.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use ledger::Ledger;
use ledger::events::{DeadEvent, DeadSearch, Replay, SinkCounts};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::listing::{page, page_limit};
use crate::api::extract::{Admin, PathId};
use crate::api::problems::{
    Administrator, Database, DeadEventPath, Problems, QueryInput, SinkPath,
};
use crate::http::problem::ApiError;
use crate::order_events;
use crate::times::rfc3339;

/// Where the events of orders go.
#[derive(Serialize, ToSchema)]
pub(crate) struct EventSinksView {
    /// By name. Empty: the sale sends no events.
    sinks: Vec<EventSinkView>,
}

/// A system that gets the events of orders.
#[derive(Serialize, ToSchema)]
struct EventSinkView {
    #[schema(example = "webhook")]
    name: String,
    /// RFC 3339. It answered `410 Gone` then, and gets no events until it is enabled. Absent: it gets events.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false, example = "2026-11-27T00:00:00.123Z")]
    disabled_at: Option<String>,
    /// Events that it does not have yet.
    #[schema(example = 0)]
    pending: i64,
    /// Events that were given up.
    #[schema(example = 0)]
    dead: i64,
    /// Age of the oldest pending event; 0: there is none.
    #[schema(example = 0.0)]
    lag_seconds: f64,
    /// Why the last attempt of a pending event failed. Absent: none has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "it answered 500 Internal Server Error")]
    error: Option<String>,
}

impl From<SinkCounts> for EventSinkView {
    fn from(counts: SinkCounts) -> Self {
        let SinkCounts { name, disabled_at_ms, pending, dead, lag_ms, error } = counts;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let lag_seconds = lag_ms.max(0) as f64 / 1e3;
        let disabled_at = disabled_at_ms.and_then(rfc3339);
        Self { name, disabled_at, pending, dead, lag_seconds, error }
    }
}

/// Selects a page of events that were given up. All conditions must apply.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeadEventsQuery {
    /// Events of this sink.
    #[param(nullable = false, example = "webhook", max_length = 64)]
    sink: Option<String>,
    /// Maximum number of events on the page, 1 to 500.
    #[param(nullable = false, example = 50, minimum = 1, maximum = 500, default = 50)]
    limit: Option<i64>,
    /// The page starts after this event: the `next` of the previous page.
    #[param(nullable = false, example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00-7", max_length = 64)]
    after: Option<String>,
}

/// Some of the events that were given up, oldest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeadEventsView {
    events: Vec<DeadEventView>,
    /// The `after` of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00-7")]
    next: Option<String>,
}

/// An event that was given up after three days of attempts.
#[derive(Serialize, ToSchema)]
struct DeadEventView {
    /// The id that the event was sent with.
    #[schema(example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00-7")]
    id: String,
    #[schema(example = "webhook")]
    sink: String,
    #[schema(value_type = String, format = "uuid", example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")]
    order_id: String,
    /// As the event has it: what the order became is behind the last full stop.
    #[serde(rename = "type")]
    #[schema(example = "dev.flashsale.order.paid")]
    kind: String,
    /// When the order changed, by RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false, example = "2026-11-27T00:00:00.123Z")]
    at: Option<String>,
    /// Attempts that failed.
    #[schema(example = 25)]
    attempts: i64,
    /// What went wrong last.
    #[schema(example = "it answered 500 Internal Server Error")]
    error: String,
    /// When it was given up, by RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false, example = "2026-11-30T00:00:00.123Z")]
    given_up_at: Option<String>,
}

impl From<DeadEvent> for DeadEventView {
    fn from(event: DeadEvent) -> Self {
        let DeadEvent { number, sink, order_id, state, at_ms, attempts, error, dead_at_ms } = event;
        Self {
            id: format!("{order_id}-{number}"),
            sink,
            order_id: order_id.to_string(),
            kind: order_events::kind(&state),
            at: rfc3339(at_ms),
            attempts,
            error,
            given_up_at: rfc3339(dead_at_ms),
        }
    }
}

/// Events that are sent again.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReplayedView {
    /// Their number.
    #[schema(example = 1)]
    replayed: u64,
}

/// The order and the number of an event.
fn event_id(id: &str) -> Option<(Uuid, i64)> {
    let (order, number) = id.rsplit_once('-')?;
    Some((order.parse().ok()?, number.parse().ok()?))
}

/// Lists where events go
///
/// For administrators. A sink that is no longer in the settings stays for about an hour.
#[utoipa::path(get, path = "/v1/admin/events/sinks", operation_id = "list_event_sinks", tag = "administration", security(("bearer" = [])),
    responses(
        (status = 200, description = "The sinks", body = EventSinksView),
        Problems<(Administrator, Database)>,
    )
)]
pub(crate) async fn sinks(
    _: Admin,
    State(ledger): State<Ledger>,
) -> Result<Json<EventSinksView>, ApiError> {
    let sinks = ledger.sink_counts().await?.into_iter().map(Into::into).collect();
    Ok(Json(EventSinksView { sinks }))
}

/// Enables a sink
///
/// For administrators. A sink that answered `410 Gone` gets events again, at first those that waited. A repeated request
/// is safe.
#[utoipa::path(post, path = "/v1/admin/events/sinks/{sink}/enable", operation_id = "enable_event_sink", tag = "administration", security(("bearer" = [])),
    params(("sink" = String, Path, description = "The name of the sink", example = "webhook")),
    responses(
        (status = 204, description = "Enabled"),
        Problems<(Administrator, SinkPath, Database)>,
    )
)]
pub(crate) async fn enable(
    Admin(claims): Admin,
    State(ledger): State<Ledger>,
    PathId(sink): PathId,
) -> Result<StatusCode, ApiError> {
    let sink = checked(sink)?;
    if ledger.enable_sink(&sink, &claims.sub).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::UnknownSink(sink))
    }
}

/// Replays all dead events of a sink
///
/// For administrators. Events that were given up are sent again, with their ids. Later events of their orders may have
/// been delivered before them.
#[utoipa::path(post, path = "/v1/admin/events/sinks/{sink}/replay", operation_id = "replay_event_sink", tag = "administration", security(("bearer" = [])),
    params(("sink" = String, Path, description = "The name of the sink", example = "webhook")),
    responses(
        (status = 200, description = "They are sent again", body = ReplayedView),
        Problems<(Administrator, SinkPath, Database)>,
    )
)]
pub(crate) async fn replay_all(
    Admin(claims): Admin,
    State(ledger): State<Ledger>,
    PathId(sink): PathId,
) -> Result<Json<ReplayedView>, ApiError> {
    let sink = checked(sink)?;
    if !ledger.sinks().await?.iter().any(|known| known.name == sink) {
        return Err(ApiError::UnknownSink(sink));
    }
    let replayed = ledger.replay(&Replay::All(sink), &claims.sub).await?;
    Ok(Json(ReplayedView { replayed }))
}

/// Lists dead events
///
/// For administrators. Events that were given up after three days of attempts, oldest first, page by page.
#[utoipa::path(get, path = "/v1/admin/events/dead", operation_id = "list_dead_events", tag = "administration", security(("bearer" = [])),
    params(DeadEventsQuery),
    responses(
        (status = 200, description = "A page of events", body = DeadEventsView),
        Problems<(Administrator, QueryInput, Database)>,
    )
)]
pub(crate) async fn dead(
    _: Admin,
    State(ledger): State<Ledger>,
    query: Result<Query<DeadEventsQuery>, QueryRejection>,
) -> Result<Json<DeadEventsView>, ApiError> {
    let Query(DeadEventsQuery { sink, limit, after }) = query?;
    let limit = page_limit(limit)?;
    if sink.as_ref().is_some_and(|sink| sink.len() > 64 || sink.contains('\0')) {
        return Err(ApiError::Field { field: "sink", rule: "is too long, or has a NUL" });
    }
    let after = match after.as_deref().map(event_id) {
        None => 0,
        Some(Some((_, number))) => number,
        Some(None) => {
            return Err(ApiError::Field { field: "after", rule: "must be the id of an event" });
        }
    };
    // One more than the page holds shows whether there is a next page.
    let search = DeadSearch { sink, after, limit: limit + 1 };
    let events: Vec<DeadEventView> =
        ledger.dead_events(&search).await?.into_iter().map(Into::into).collect();
    let (events, next) = page(events, limit, |event| event.id.clone());
    Ok(Json(DeadEventsView { events, next }))
}

/// Replays a dead event
///
/// For administrators. It is sent again, with its id. Later events of its order may have been delivered before it.
#[utoipa::path(post, path = "/v1/admin/events/dead/{id}/replay", operation_id = "replay_dead_event", tag = "administration", security(("bearer" = [])),
    params(("id" = String, Path, description = "The id of the event", example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00-7")),
    responses(
        (status = 200, description = "It is sent again", body = ReplayedView),
        Problems<(Administrator, DeadEventPath, Database)>,
    )
)]
pub(crate) async fn replay_one(
    Admin(claims): Admin,
    State(ledger): State<Ledger>,
    PathId(id): PathId,
) -> Result<Json<ReplayedView>, ApiError> {
    let Some((order, number)) = event_id(&id) else { return Err(ApiError::UnknownEvent) };
    let replayed = ledger.replay(&Replay::One(order, number), &claims.sub).await?;
    if replayed == 0 { Err(ApiError::UnknownEvent) } else { Ok(Json(ReplayedView { replayed })) }
}

fn checked(sink: String) -> Result<String, ApiError> {
    if sink.contains('\0') { Err(ApiError::UnknownSink(sink)) } else { Ok(sink) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_an_event_is_that_of_its_order_and_a_number() {
        let order = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00";
        assert_eq!(event_id(&format!("{order}-7")), Some((order.parse().unwrap(), 7)));
        for wrong in ["", "7", order, "a-7", "-7"] {
            assert_eq!(event_id(wrong), None, "{wrong}");
        }
    }
}
