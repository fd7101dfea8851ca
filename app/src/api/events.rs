//! The sale as everybody may see it, at once and live.
//!
//! No token is needed: a browser's `EventSource` cannot send one, the sale page shows the stock to
//! whoever opens it, and nothing here tells of buyers or costs a round trip. How many listen at a
//! time is bounded, in all and from one address, and what they are told is the same for all.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use sale::Sale;

use crate::api::extract::ClientAddress;
use crate::api::feed::{Feed, SaleView, Topic, sale_view};
use crate::http::problem::{ApiError, Problem};

/// Tells nginx to pass events on as they come.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Says what is on sale, when, and what is left of it; needs no token.
#[utoipa::path(get, path = "/v1/sale", tag = "sale", responses(
    (status = 200, body = SaleView),
    (status = 503, description = "`database_unavailable`", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn sale(State(sale): State<Arc<Sale>>) -> Result<Response, ApiError> {
    sale.catalog().loaded()?;
    let view = sale_view(&sale, Some(Timestamp::now()));
    Ok(([(CACHE_CONTROL, "no-store")], Json(view)).into_response())
}

/// Follows the whole sale: server-sent events `sale`, each with all that `/v1/sale` says but the
/// time; the first at once, then whenever something changed, at most ten a second. Needs no token.
#[utoipa::path(get, path = "/v1/sale/events", tag = "sale", responses(
    (status = 200, description = "Events `sale`; after 15 s without one a comment and the last event again", body = String, content_type = "text/event-stream"),
    (status = 429, description = "`too_many_listeners` from this address", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`too_many_listeners`, `database_unavailable`", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn follow_sale(
    State(feed): State<Feed>,
    ClientAddress(address): ClientAddress,
) -> Result<Response, ApiError> {
    follow(&feed, Topic::Sale, address)
}

/// Follows the stock of a product: server-sent events `stock` with `product_id`, `remaining` and
/// `state` (`scheduled`, `open`, `sold_out`, `ended`); the first at once, then whenever it changed,
/// at most ten a second. `gone` ends it: the product was deleted. Needs no token.
#[utoipa::path(get, path = "/v1/products/{id}/events", tag = "products",
    params(("id" = String, Path, description = "The product", example = "1")),
    responses(
        (status = 200, description = "Events `stock`; after 15 s without one a comment and the last event again", body = String, content_type = "text/event-stream"),
        (status = 400, description = "`invalid_request`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`unknown_product`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_listeners` from this address", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`too_many_listeners`, `database_unavailable`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn follow_product(
    State(feed): State<Feed>,
    ClientAddress(address): ClientAddress,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Path(product_id) = path?;
    follow(&feed, Topic::Product(product_id), address)
}

fn follow(feed: &Feed, topic: Topic, address: IpAddr) -> Result<Response, ApiError> {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (ACCEL_BUFFERING, HeaderValue::from_static("no")),
    ];
    Ok((headers, Body::from_stream(feed.follow(topic, address)?)).into_response())
}
