//! Several products in one request, all or nothing, under their locks.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, StatusCode};
use ledger::orders::OrderState;
use redlock::QueueDiscipline;
use sale::Sale;
use serde::Deserialize;
use utoipa::ToSchema;

use super::orders::{Item, PlacedOrderView, answer, new_order};
use super::purchases::{IdempotencyKey, one, string_or_number};
use crate::api::extract::Authenticated;
use crate::http::json::JsonBody;
use crate::http::problem::{ApiError, Problem};

/// What to take: all of it or nothing. A product that is named twice is taken once, with the sum.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StockRequest {
    /// 1 to 20 of them.
    #[schema(min_items = 1, max_items = 20)]
    orders: Vec<StockOrder>,
}

/// Units of one product.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StockOrder {
    /// The product; a number is taken as its decimal string.
    #[serde(deserialize_with = "string_or_number")]
    #[schema(example = "1", max_length = 63)]
    product: String,
    /// Units, 1 to 1000000.
    #[serde(default = "one")]
    #[schema(example = 1, minimum = 1, maximum = 1_000_000, default = 1)]
    quantity: i64,
}

type Answer = Result<(StatusCode, HeaderMap, Json<PlacedOrderView>), ApiError>;

/// Takes several products, all or nothing, in the sale's own order of service. The order that comes
/// of it is `confirmed`.
#[utoipa::path(patch, path = "/v1/stocks/locks/distributed", tag = "orders", security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters, chosen by the buyer")),
    request_body(content = StockRequest, example = json!({"orders": [{"product": "A", "quantity": 1}, {"product": "B", "quantity": 1}]})),
    responses(
        (status = 200, description = "Taken and committed. `Idempotent-Replayed: true` if it was before.", body = PlacedOrderView),
        (status = 400, description = "`invalid_json`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unauthenticated`, `token_expired`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`sale_not_open`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`unknown_product`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`sold_out`, `limit_reached`, `not_with_atomic`: nothing was taken", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_request`, `idempotency_key_reused`", body = Problem, content_type = "application/problem+json"),
        (status = 423, description = "`lock_timeout`: try again", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`quorum_unavailable`, `overloaded`, `database_unavailable`, `interrupted`: try again after `Retry-After` with the same key", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn distributed(
    Authenticated(claims): Authenticated,
    State(sale): State<Arc<Sale>>,
    idempotency_key: IdempotencyKey,
    body: Result<JsonBody<StockRequest>, JsonRejection>,
) -> Answer {
    take(&sale, claims.sub, idempotency_key, body?.0, None).await
}

/// Takes several products, all or nothing, first come, first served over all replicas: those who
/// ask for the same first product (by id) are served in the order in which they asked. The order
/// that comes of it is `confirmed`.
#[utoipa::path(patch, path = "/v1/stocks/locks/fair", tag = "orders", security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters, chosen by the buyer")),
    request_body(content = StockRequest, example = json!({"orders": [{"product": "A", "quantity": 1}, {"product": "B", "quantity": 1}]})),
    responses(
        (status = 200, description = "Taken and committed. `Idempotent-Replayed: true` if it was before.", body = PlacedOrderView),
        (status = 400, description = "`invalid_json`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unauthenticated`, `token_expired`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`sale_not_open`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`unknown_product`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`sold_out`, `limit_reached`, `not_with_atomic`: nothing was taken", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_request`, `idempotency_key_reused`", body = Problem, content_type = "application/problem+json"),
        (status = 423, description = "`lock_timeout`: try again", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`quorum_unavailable`, `overloaded`, `database_unavailable`, `interrupted`: try again after `Retry-After` with the same key", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn fair(
    Authenticated(claims): Authenticated,
    State(sale): State<Arc<Sale>>,
    idempotency_key: IdempotencyKey,
    body: Result<JsonBody<StockRequest>, JsonRejection>,
) -> Answer {
    take(&sale, claims.sub, idempotency_key, body?.0, Some(QueueDiscipline::Fair)).await
}

async fn take(
    sale: &Sale,
    buyer: String,
    idempotency_key: IdempotencyKey,
    StockRequest { orders }: StockRequest,
    service: Option<QueueDiscipline>,
) -> Answer {
    let item = |StockOrder { product, quantity }| Item { product_id: product, quantity };
    let items = orders.into_iter().map(item).collect();
    let order = new_order(buyer, idempotency_key, "orders", items, OrderState::Confirmed)?;
    Ok(answer(sale.place(order, service).await?, StatusCode::OK))
}
