//! `PATCH /v1/stocks/locks/...`: takes several products at once, all or nothing, under their locks.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use ledger::Applicant;
use ledger::orders::OrderState;
use redlock::QueueDiscipline;
use sale::Sale;
use serde::Deserialize;
use utoipa::ToSchema;

use super::order_view::PlacedOrderView;
use super::orders::{Item, answer, new_order};
use super::purchases::{IdempotencyKey, one, string_or_number};
use crate::api::extract::Buyer;
use crate::api::problems::{JsonInput, Login, Orders, Problems};
use crate::http::json::JsonBody;
use crate::http::problem::ApiError;

/// Units to take, all or nothing. The quantities of a product that occurs twice are added.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StockRequest {
    /// 1 to 20 elements.
    #[schema(min_items = 1, max_items = 20)]
    orders: Vec<StockOrder>,
}

/// Units of one product.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StockOrder {
    /// The id of the product; a number stands for its decimal string.
    #[serde(deserialize_with = "string_or_number")]
    #[schema(example = "1", max_length = 63)]
    product: String,
    /// Units, 1 to 1000000.
    #[serde(default = "one")]
    #[schema(example = 1, minimum = 1, maximum = 1_000_000, default = 1)]
    quantity: i64,
}

type Answer = Result<(StatusCode, HeaderMap, Json<PlacedOrderView>), ApiError>;

/// Takes units of several products
///
/// All or nothing, with the queue discipline of the sale. The new order is `confirmed`.
#[utoipa::path(patch, path = "/v1/stocks/locks/distributed", operation_id = "take_stock", tag = "orders", security(("bearer" = [])),
    params(IdempotencyKey),
    request_body(content = StockRequest, example = json!({"orders": [{"product": "A", "quantity": 1}, {"product": "B", "quantity": 1}]})),
    responses(
        (status = 200, description = "Taken and committed", body = PlacedOrderView,
            headers(("Idempotent-Replayed" = bool, description = "`true` if an earlier request did it; otherwise absent"))),
        Problems<(Login, JsonInput, Orders)>,
    )
)]
pub(crate) async fn distributed(
    Buyer { applicant, .. }: Buyer,
    State(sale): State<Arc<Sale>>,
    IdempotencyKey(idempotency_key): IdempotencyKey,
    JsonBody(request): JsonBody<StockRequest>,
) -> Answer {
    take(&sale, applicant, idempotency_key, request, None).await
}

/// Takes units of several products, first come, first served
///
/// All or nothing. Requests with the same first product (by id) are served in the order of their
/// arrival, across all replicas. The new order is `confirmed`.
#[utoipa::path(patch, path = "/v1/stocks/locks/fair", operation_id = "take_stock_in_turn", tag = "orders", security(("bearer" = [])),
    params(IdempotencyKey),
    request_body(content = StockRequest, example = json!({"orders": [{"product": "A", "quantity": 1}, {"product": "B", "quantity": 1}]})),
    responses(
        (status = 200, description = "Taken and committed", body = PlacedOrderView,
            headers(("Idempotent-Replayed" = bool, description = "`true` if an earlier request did it; otherwise absent"))),
        Problems<(Login, JsonInput, Orders)>,
    )
)]
pub(crate) async fn fair(
    Buyer { applicant, .. }: Buyer,
    State(sale): State<Arc<Sale>>,
    IdempotencyKey(idempotency_key): IdempotencyKey,
    JsonBody(request): JsonBody<StockRequest>,
) -> Answer {
    take(&sale, applicant, idempotency_key, request, Some(QueueDiscipline::Fair)).await
}

async fn take(
    sale: &Sale,
    applicant: Applicant,
    idempotency_key: Option<String>,
    StockRequest { orders }: StockRequest,
    discipline: Option<QueueDiscipline>,
) -> Answer {
    let item = |StockOrder { product, quantity }| Item { product_id: product, quantity };
    let items = orders.into_iter().map(item).collect();
    let order = new_order(applicant, idempotency_key, "orders", items, OrderState::Confirmed)?;
    Ok(answer(sale.place(order, discipline).await?, StatusCode::OK))
}
