//! Orders of several products, and what becomes of orders.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use ledger::orders::{Change, NewOrder, OrderLine, OrderState, PlacedOrder};
use sale::{OrderError, OrderReceipt, Sale};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::purchases::{
    IdempotencyKey, MAX_PRODUCT_ID, MAX_QUANTITY, REPLAYED, one, string_or_number,
};
use crate::api::extract::{Admin, Authenticated};
use crate::http::json::JsonBody;
use crate::http::problem::{ApiError, Problem};

/// Each is a lock: a basket has fewer.
const MAX_ITEMS: usize = 20;
const PAGE: i64 = 20;
const LONGEST_PAGE: i64 = 100;
const LONGEST_REFERENCE: usize = 255;

/// What to order: all of it or nothing. A product that is named twice is ordered once, with the sum.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderRequest {
    /// 1 to 20 of them.
    #[schema(min_items = 1, max_items = 20)]
    items: Vec<Item>,
}

/// Units of one product.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Item {
    /// The product; a number is taken as its decimal string.
    #[serde(deserialize_with = "string_or_number")]
    #[schema(example = "1", max_length = 63)]
    pub(super) product_id: String,
    /// Units, 1 to 1000000.
    #[serde(default = "one")]
    #[schema(example = 1, minimum = 1, maximum = 1_000_000, default = 1)]
    pub(super) quantity: i64,
}

/// What the payment came to.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PaymentReport {
    result: PaymentResult,
    /// What the payment service calls the payment; up to 255 characters.
    #[schema(example = "pay-4711", max_length = 255)]
    reference: Option<String>,
}

/// What a payment came to.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PaymentResult {
    /// The money is there.
    Paid,
    /// It will not come.
    Failed,
}

/// Which orders to list.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// At most so many, 1 to 100.
    #[param(example = 20, minimum = 1, maximum = 100, default = 20)]
    limit: Option<i64>,
    /// Those that come after this order, which is older or the last of the page before.
    #[param(value_type = Option<String>, example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")]
    after: Option<Uuid>,
}

/// An order: committed.
#[derive(Serialize, ToSchema)]
pub(crate) struct PlacedOrderView {
    #[schema(example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")]
    order_id: String,
    #[schema(example = "ann")]
    buyer: String,
    /// `pending`, `confirmed`, `paid`, `cancelled` or `payment_failed`.
    #[schema(example = "pending")]
    state: &'static str,
    items: Vec<ItemView>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "2026-11-27T00:00:00.123Z")]
    created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "pay-4711")]
    payment_reference: Option<String>,
}

/// Units of one product in an order.
#[derive(Serialize, ToSchema)]
pub(crate) struct ItemView {
    #[schema(example = "1")]
    product_id: String,
    #[schema(example = 1)]
    quantity: i64,
}

/// Some of a buyer's orders, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct OrdersView {
    orders: Vec<PlacedOrderView>,
    /// Send it as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")]
    next: Option<String>,
    /// `true` while orders that were made in the last moments may be missing, because Redis decides
    /// this sale and the database is behind; absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    incomplete: Option<bool>,
}

impl From<PlacedOrder> for PlacedOrderView {
    fn from(order: PlacedOrder) -> Self {
        let item = |OrderLine { product_id, quantity }| ItemView { product_id, quantity };
        Self {
            order_id: order.id.to_string(),
            buyer: order.buyer,
            state: order.state.name(),
            items: order.lines.into_iter().map(item).collect(),
            created_at: created_at(order.id).map(|time| time.to_string()),
            payment_reference: order.payment_reference,
        }
    }
}

/// Ids say when they were made.
fn created_at(id: Uuid) -> Option<Timestamp> {
    let (seconds, nanos) = id.get_timestamp()?.to_unix();
    Timestamp::new(seconds.try_into().ok()?, nanos.try_into().ok()?).ok()
}

/// The order that a buyer asks for: by product, each once.
pub(super) fn new_order(
    buyer: String,
    idempotency_key: IdempotencyKey,
    field: &'static str,
    items: Vec<Item>,
    state: OrderState,
) -> Result<NewOrder, ApiError> {
    if !(1..=MAX_ITEMS).contains(&items.len()) {
        return Err(ApiError::Field { field, rule: "must have 1 to 20 elements" });
    }
    let mut lines = BTreeMap::<String, i64>::new();
    for Item { product_id, quantity } in items {
        if !(1..=MAX_QUANTITY).contains(&quantity) {
            return Err(ApiError::Field { field, rule: "quantity must be from 1 to 1000000" });
        }
        if product_id.len() > MAX_PRODUCT_ID {
            return Err(ApiError::Field { field, rule: "a product has at most 63 bytes" });
        }
        *lines.entry(product_id).or_default() += quantity;
    }
    let line = |(product_id, quantity)| OrderLine { product_id, quantity };
    let lines = lines.into_iter().map(line).collect();
    Ok(NewOrder { buyer, lines, idempotency_key: idempotency_key.0?, state })
}

/// An answer, marked if it was given before.
pub(super) fn answer(
    receipt: OrderReceipt,
    status: StatusCode,
) -> (StatusCode, HeaderMap, Json<PlacedOrderView>) {
    let mut headers = HeaderMap::new();
    if receipt.replayed {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    (status, headers, Json(receipt.order.into()))
}

/// Orders several products, all or nothing, and waits for the payment: the order is `pending`.
/// With an `Idempotency-Key` it can be repeated safely: the same key leads to the same order.
#[utoipa::path(post, path = "/v1/orders", tag = "orders", security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters, chosen by the buyer")),
    request_body(content = OrderRequest, example = json!({"items": [{"product_id": "1", "quantity": 1}, {"product_id": "2", "quantity": 2}]})),
    responses(
        (status = 201, description = "Ordered and committed. `Idempotent-Replayed: true` if it was before.", body = PlacedOrderView),
        (status = 400, description = "`invalid_json`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unauthenticated`, `token_expired`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`sale_not_open`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`unknown_product`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`sold_out`, `limit_reached`, `not_with_atomic`: nothing of the order was taken", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_request`, `idempotency_key_reused`", body = Problem, content_type = "application/problem+json"),
        (status = 423, description = "`lock_timeout`: try again", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`quorum_unavailable`, `overloaded`, `database_unavailable`, `interrupted`: try again after `Retry-After` with the same key", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn place(
    Authenticated(claims): Authenticated,
    State(sale): State<Arc<Sale>>,
    idempotency_key: IdempotencyKey,
    body: Result<JsonBody<OrderRequest>, JsonRejection>,
) -> Result<(StatusCode, HeaderMap, Json<PlacedOrderView>), ApiError> {
    let JsonBody(OrderRequest { items }) = body?;
    let order = new_order(claims.sub, idempotency_key, "items", items, OrderState::Pending)?;
    Ok(answer(sale.place(order, None).await?, StatusCode::CREATED))
}

/// Lists the caller's orders, newest first.
#[utoipa::path(get, path = "/v1/orders", tag = "orders", security(("bearer" = [])), params(Page), responses(
    (status = 200, body = OrdersView),
    (status = 400, description = "`invalid_request`: a parameter cannot be read", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "`unauthenticated`, `token_expired`", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "`invalid_request`: a parameter is out of range", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`database_unavailable`", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn list(
    Authenticated(claims): Authenticated,
    State(sale): State<Arc<Sale>>,
    query: Result<Query<Page>, QueryRejection>,
) -> Result<Json<OrdersView>, ApiError> {
    let Query(Page { limit, after }) = query?;
    let limit = limit.unwrap_or(PAGE);
    if !(1..=LONGEST_PAGE).contains(&limit) {
        return Err(ApiError::Field { field: "limit", rule: "must be from 1 to 100" });
    }
    // One more says whether there are more.
    let (mut orders, complete) = sale.orders_of(&claims.sub, after, limit + 1).await?;
    let more = i64::try_from(orders.len()).is_ok_and(|found| found > limit);
    if more {
        orders.pop();
    }
    let next = orders.last().filter(|_| more).map(|order| order.id.to_string());
    let orders = orders.into_iter().map(Into::into).collect();
    Ok(Json(OrdersView { orders, next, incomplete: (!complete).then_some(true) }))
}

/// Shows an order of the caller; administrators see any.
#[utoipa::path(get, path = "/v1/orders/{id}", tag = "orders", security(("bearer" = [])),
    params(("id" = String, Path, description = "The order", example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")),
    responses(
        (status = 200, body = PlacedOrderView),
        (status = 400, description = "`invalid_request`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unauthenticated`, `token_expired`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`unknown_order`: none, or another buyer's", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`database_unavailable`, `order_not_recorded_yet`: try again after `Retry-After`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    Authenticated(claims): Authenticated,
    State(sale): State<Arc<Sale>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<PlacedOrderView>, ApiError> {
    Ok(Json(sale.order(order_id(path)?, claims.caller()).await?.into()))
}

/// Cancels an order of the caller, or any if that is an administrator. Its units are back at once.
/// Cancelling again changes nothing.
#[utoipa::path(post, path = "/v1/orders/{id}/cancel", tag = "orders", security(("bearer" = [])),
    params(("id" = String, Path, description = "The order", example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")),
    responses(
        (status = 200, description = "Cancelled and committed. `Idempotent-Replayed: true` if it was before.", body = PlacedOrderView),
        (status = 400, description = "`invalid_request`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unauthenticated`, `token_expired`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`unknown_order`: none, or another buyer's", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`order_state`: `state` says what it is", body = Problem, content_type = "application/problem+json"),
        (status = 423, description = "`lock_timeout`: try again", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`quorum_unavailable`, `overloaded`, `database_unavailable`, `order_not_recorded_yet`, `interrupted`: try again after `Retry-After`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn cancel(
    Authenticated(claims): Authenticated,
    State(sale): State<Arc<Sale>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<(StatusCode, HeaderMap, Json<PlacedOrderView>), ApiError> {
    let receipt = sale.change_order(order_id(path)?, claims.caller(), Change::Cancel).await?;
    Ok(answer(receipt, StatusCode::OK))
}

/// Says what the payment of an order came to; for administrators, as the payment service is one.
/// If it failed, the units are back at once. The same report again changes nothing.
#[utoipa::path(post, path = "/v1/orders/{id}/payment", tag = "orders", security(("bearer" = [])),
    params(("id" = String, Path, description = "The order", example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")),
    request_body(content = PaymentReport, example = json!({"result": "paid", "reference": "pay-4711"})),
    responses(
        (status = 200, description = "Written down and committed. `Idempotent-Replayed: true` if it was before.", body = PlacedOrderView),
        (status = 400, description = "`invalid_json`, `invalid_request`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unauthenticated`, `token_expired`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`unknown_order`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`order_state`: `state` says what it is", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_request`", body = Problem, content_type = "application/problem+json"),
        (status = 423, description = "`lock_timeout`: try again", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`quorum_unavailable`, `overloaded`, `database_unavailable`, `order_not_recorded_yet`, `interrupted`: try again after `Retry-After`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn payment(
    Admin(claims): Admin,
    State(sale): State<Arc<Sale>>,
    path: Result<Path<String>, PathRejection>,
    body: Result<JsonBody<PaymentReport>, JsonRejection>,
) -> Result<(StatusCode, HeaderMap, Json<PlacedOrderView>), ApiError> {
    let JsonBody(PaymentReport { result, reference }) = body?;
    let fits = |reference: &String| {
        (1..=LONGEST_REFERENCE).contains(&reference.chars().count())
            && !reference.chars().any(char::is_control)
    };
    if reference.as_ref().is_some_and(|reference| !fits(reference)) {
        let rule = "must have 1 to 255 characters, none of them a control character";
        return Err(ApiError::Field { field: "reference", rule });
    }
    let change = match result {
        PaymentResult::Paid => Change::Pay { reference },
        PaymentResult::Failed => Change::FailPayment { reference },
    };
    Ok(answer(sale.change_order(order_id(path)?, claims.caller(), change).await?, StatusCode::OK))
}

/// What is no id is nobody's order.
fn order_id(path: Result<Path<String>, PathRejection>) -> Result<Uuid, ApiError> {
    let Path(id) = path?;
    Ok(Uuid::try_parse(&id).map_err(|_malformed| OrderError::Unknown)?)
}
