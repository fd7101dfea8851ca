//! The internal routes: metrics, probes, and the stock for the operator, which needs a token.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use ledger::{Ledger, Product};
use sale::{Listing, Sale};
use serde::Serialize;

use crate::api::extract::bearer_token;
use crate::api::state::Readiness;
use crate::auth::{OperatorToken, TokenError};
use crate::http::problem::ApiError;
use crate::metrics::{Exposition, Metrics};

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
    products: Vec<SoldView>,
}

/// The identity of the database.
#[derive(Serialize)]
struct DatabaseView {
    /// See [`Ledger::database_id`]; `null`: the database has no tables, so the sale's data is lost.
    id: Option<String>,
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
) -> Result<Json<SaleView>, ApiError> {
    let sent = bearer_token(&headers)?;
    if !state.operator_token.is_some_and(|token| token.matches(sent)) {
        return Err(TokenError::Invalid.into());
    }
    let database = DatabaseView { id: state.ledger.database_id().await? };
    if database.id.is_none() {
        return Ok(Json(SaleView { database, products: Vec::new() }));
    }
    state.sale.catalog().refresh().await?;
    let view = |listing: Listing| {
        // From the row, not from a newer notice of the lock: `sold` and `remaining` must match.
        let Product { id, name, declared, available, .. } = listing.product;
        SoldView { id, name, stock: declared, sold: declared - available, remaining: available }
    };
    let products = state.sale.catalog().list().into_iter().map(view).collect();
    Ok(Json(SaleView { database, products }))
}
