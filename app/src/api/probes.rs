//! The internal routes: metrics, probes, and the stock for the operator.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use ledger::{Ledger, Product};
use sale::{Listing, Sale};
use serde::Serialize;

use crate::api::state::Readiness;
use crate::http::problem::ApiError;
use crate::metrics::Metrics;

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

pub(crate) async fn metrics(State(state): State<ProbeState>) -> Result<String, ApiError> {
    let listings = state.sale.catalog().list();
    state.metrics.encode(&listings).map_err(|error| anyhow::Error::from(error).into())
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

pub(crate) async fn sale(State(state): State<ProbeState>) -> Result<Json<SaleView>, ApiError> {
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
