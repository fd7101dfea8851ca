//! The internal routes: metrics and probes, and those of the operator, which needs a token: the stock, and the
//! nodes of the lock.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use ledger::{Ledger, LedgerError, Product};
use redlock::{MemberNodes, Redlock};
use sale::{Listing, Sale};
use serde::{Deserialize, Serialize};

use crate::api::extract::bearer_token;
use crate::api::state::Readiness;
use crate::auth::{OperatorToken, TokenError};
use crate::http::json::JsonBody;
use crate::http::problem::ApiError;
use crate::metrics::{Exposition, Metrics};
use crate::node_changes::{ChangeState, NodeChanges};

/// The state of the internal routes.
#[derive(Debug, Clone)]
pub struct ProbeState {
    /// The answer of `/readyz`.
    pub readiness: Arc<Readiness>,
    /// Knows the stock.
    pub sale: Arc<Sale>,
    /// Knows the id of the database.
    pub ledger: Ledger,
    /// The metrics to export.
    pub metrics: Arc<Metrics>,
    /// What the operator must send; `None`: the report is refused.
    pub operator_token: Option<OperatorToken>,
    /// Knows the nodes of the lock.
    pub redlock: Redlock,
    /// Changes them.
    pub node_changes: Arc<NodeChanges>,
}

/// Whether the replica accepts requests, and why not.
#[derive(Serialize)]
pub(crate) struct ReadinessView {
    ready: bool,
    reasons: Vec<String>,
}

/// The stock of every product in the database.
#[derive(Serialize)]
pub(crate) struct SaleView {
    database: DatabaseView,
    redis: NodesView,
    products: Vec<SoldView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unfinished: Option<UnfinishedView>,
}

/// What the operator asks for beside the stock.
#[derive(Deserialize)]
pub(crate) struct SaleQuery {
    /// Whether to count what is unfinished.
    #[serde(default)]
    unfinished: bool,
}

/// What a sale without replicas would leave undone.
#[derive(Serialize)]
struct UnfinishedView {
    /// Orders that hold units until they are paid.
    holds: i64,
    /// Products of which units are left although buyers wait for as many.
    waitlists: usize,
    /// Events that their sinks do not have yet, without those that were given up and those of disabled sinks.
    events: i64,
}

/// The nodes of the lock, `host:port` each.
#[derive(Serialize)]
struct NodesView {
    nodes: Vec<String>,
    /// The future nodes while a change is in progress.
    joining: Vec<String>,
}

/// The wanted nodes of the lock.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WantedNodes {
    /// `host:port` of each node.
    nodes: Vec<String>,
}

/// The identity of the database.
#[derive(Serialize)]
struct DatabaseView {
    /// See [`Ledger::database_id`]; `null`: the database has no tables, so the sale's data is lost.
    id: Option<String>,
    /// Major version of the server; `null`: not PostgreSQL.
    version: Option<i32>,
}

#[derive(Serialize)]
struct SoldView {
    id: String,
    name: String,
    stock: i64,
    sold: i64,
    remaining: i64,
}

pub(crate) async fn metrics(
    State(state): State<ProbeState>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Exposition::accepted(accept.unwrap_or_default());
    let listings = state.sale.catalog().list();
    let encoded = state.metrics.encode(&listings, format).map_err(anyhow::Error::from)?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], encoded))
}

pub(crate) async fn livez() -> &'static str {
    "ok"
}

pub(crate) async fn readyz(State(state): State<ProbeState>) -> (StatusCode, Json<ReadinessView>) {
    let (status, ready, reasons) = match state.readiness.unready() {
        None => (StatusCode::OK, true, Vec::new()),
        Some(reasons) => (StatusCode::SERVICE_UNAVAILABLE, false, reasons),
    };
    (status, Json(ReadinessView { ready, reasons }))
}

pub(crate) async fn sale(
    State(state): State<ProbeState>,
    headers: HeaderMap,
    query: Result<Query<SaleQuery>, QueryRejection>,
) -> Result<Json<SaleView>, ApiError> {
    is_operator(&state, &headers)?;
    let Query(SaleQuery { unfinished }) = query?;
    let MemberNodes { nodes, joining, .. } = state.redlock.members();
    let redis = NodesView { nodes, joining };
    let ledger = &state.ledger;
    let (id, version) = (ledger.database_id().await?, ledger.major_version().await?);
    let database = DatabaseView { id, version };
    if database.id.is_none() {
        return Ok(Json(SaleView { database, redis, products: Vec::new(), unfinished: None }));
    }
    state.sale.catalog().refresh().await?;
    let view = |listing: Listing| {
        // From the row, not from a newer notice of the lock: `sold` and `remaining` must match.
        let Product { id, name, declared, available, .. } = listing.product;
        SoldView { id, name, stock: declared, sold: declared - available, remaining: available }
    };
    let products = state.sale.catalog().list().into_iter().map(view).collect();
    let unfinished = if unfinished { Some(count_unfinished(&state).await?) } else { None };
    Ok(Json(SaleView { database, redis, products, unfinished }))
}

/// Counts what is unfinished in an order in which nothing is missed: who is served from a waiting list has a hold, and a
/// hold that ends leaves an event.
async fn count_unfinished(state: &ProbeState) -> Result<UnfinishedView, LedgerError> {
    let waitlists = state.sale.due_waitlists().await?.len();
    let holds = state.sale.hold_counts().await?.open;
    let sinks = state.ledger.sink_counts().await?;
    let events = sinks.iter().filter(|sink| sink.disabled_at_ms.is_none());
    Ok(UnfinishedView { holds, waitlists, events: events.map(|sink| sink.pending).sum() })
}

/// Works towards these nodes of the lock, and returns how far that is. The operator repeats the request.
pub(crate) async fn change_nodes(
    State(state): State<ProbeState>,
    headers: HeaderMap,
    JsonBody(WantedNodes { nodes }): JsonBody<WantedNodes>,
) -> Result<Json<ChangeState>, ApiError> {
    is_operator(&state, &headers)?;
    Ok(Json(state.node_changes.change(&nodes).await?))
}

fn is_operator(state: &ProbeState, headers: &HeaderMap) -> Result<(), ApiError> {
    let sent = bearer_token(headers)?;
    let is_known = state.operator_token.as_ref().is_some_and(|token| token.matches(sent));
    if is_known { Ok(()) } else { Err(TokenError::Invalid.into()) }
}
