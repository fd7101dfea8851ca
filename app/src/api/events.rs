//! The public view of the sale: `/v1/sale`, and its changes as server-sent events.
//!
//! These routes need no token: a browser's `EventSource` cannot send one, the sale page is public, the
//! answers contain nothing about buyers, and none costs a round trip. The number of listeners is
//! limited, in total and for each address, and all of them receive the same events.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use sale::Sale;

use crate::api::extract::{ClientAddress, PathId};
use crate::api::feed::{Feed, SaleView, Topic, sale_view};
use crate::api::problems::{Database, Events, Problems, ProductPath};
use crate::http::problem::ApiError;

/// `no` makes nginx forward each event immediately.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Returns the state of the sale
///
/// The products, their remaining stock and the times of the sale. Needs no token.
#[utoipa::path(get, path = "/v1/sale", operation_id = "get_sale", tag = "sale", responses(
    (status = 200, description = "The present state", body = SaleView,
        headers(("Cache-Control", description = "`no-store`"))),
    Problems<Database>,
))]
pub(crate) async fn sale(State(sale): State<Arc<Sale>>) -> Result<Response, ApiError> {
    sale.catalog().loaded()?;
    let view = sale_view(&sale, Some(Timestamp::now()));
    Ok(([(CACHE_CONTROL, "no-store")], Json(view)).into_response())
}

/// Follows the sale by server-sent events
///
/// Events `sale`, each with the body of `/v1/sale` except `now`. The first event comes at once, further
/// ones after a change, at most ten a second. Needs no token.
#[utoipa::path(get, path = "/v1/sale/events", tag = "sale", responses(
    (status = 200, description = "Events `sale`; after 15 s (`app.eventKeepAlive`) without a change, a comment and the last event again", body = String, content_type = "text/event-stream",
        headers(("Cache-Control", description = "`no-store`"), ("X-Accel-Buffering", description = "`no`: nginx forwards each event at once"))),
    Problems<Events>,
))]
pub(crate) async fn follow_sale(
    State(feed): State<Feed>,
    ClientAddress(address): ClientAddress,
) -> Result<Response, ApiError> {
    follow(&feed, Topic::Sale, address)
}

/// Follows the stock of a product by server-sent events
///
/// Events `stock` with `product_id`, `remaining` and `state` (`scheduled`, `open`, `sold_out`,
/// `ended`). The first event comes at once, further ones after a change, at most ten a second. The
/// event `gone` ends the stream: the product was deleted. Needs no token.
#[utoipa::path(get, path = "/v1/products/{id}/events", tag = "products",
    params(("id" = String, Path, description = "The product", example = "1")),
    responses(
        (status = 200, description = "Events `stock`; after 15 s (`app.eventKeepAlive`) without a change, a comment and the last event again", body = String, content_type = "text/event-stream",
            headers(("Cache-Control", description = "`no-store`"), ("X-Accel-Buffering", description = "`no`: nginx forwards each event at once"))),
        Problems<(ProductPath, Events)>,
    )
)]
pub(crate) async fn follow_product(
    State(feed): State<Feed>,
    ClientAddress(address): ClientAddress,
    PathId(product_id): PathId,
) -> Result<Response, ApiError> {
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
