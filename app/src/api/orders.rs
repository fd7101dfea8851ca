//! `/v1/orders`: orders of several products, and the changes of an order.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use ledger::orders::{self, Change, NewOrder, OrderLine};
use ledger::{Applicant, Ledger, PaymentEvent};
use sale::{OrderError, OrderReceipt, Sale};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::listing::page;
use super::order_view::{OrdersView, PlacedOrderView};
use super::purchases::{
    IdempotencyKey, MAX_PRODUCT_ID, MAX_QUANTITY, REPLAYED, one, string_or_number,
};
use crate::api::extract::{Admin, Authenticated, Buyer, PathId};
use crate::api::problems::{
    Administrator, Database, JsonInput, Login, OrderChanges, OrderPath, Orders, Problems,
    QueryInput,
};
use crate::http::json::JsonBody;
use crate::http::problem::ApiError;

/// Each item is a lock. Real baskets have fewer.
const MAX_ITEMS: usize = 20;
const DEFAULT_PAGE: i64 = 20;
const MAX_PAGE: i64 = 100;
const MAX_REFERENCE: usize = 255;
/// Stands for a payment service among the events: an administrator's report.
const REPORT: &str = "report";

/// Units to order, all or nothing. The quantities of a product that occurs twice are added.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderRequest {
    /// 1 to 20 elements.
    #[schema(min_items = 1, max_items = 20)]
    items: Vec<Item>,
}

/// Units of one product.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Item {
    /// The id of the product; a number stands for its decimal string.
    #[serde(deserialize_with = "string_or_number")]
    #[schema(example = "1", max_length = 63)]
    pub(super) product_id: String,
    /// Units, 1 to 1000000.
    #[serde(default = "one")]
    #[schema(example = 1, minimum = 1, maximum = 1_000_000, default = 1)]
    pub(super) quantity: i64,
}

/// The result of a payment, as the payment service reports it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PaymentReport {
    result: PaymentResult,
    /// The payment service's id of the payment; up to 255 characters.
    #[schema(example = "pay-4711", max_length = 255)]
    reference: Option<String>,
}

/// The result of a payment.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PaymentResult {
    /// The money arrived.
    Paid,
    /// The money will not arrive.
    Failed,
}

/// A refund that was made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refund {
    /// The payment service's id of the refund; up to 255 characters.
    #[schema(example = "refund-4711", max_length = 255)]
    reference: Option<String>,
    /// Whether the units of a paid order are on sale again, also of one whose money alone was given back before.
    #[serde(default)]
    #[schema(example = false, default = false)]
    units_back: bool,
}

/// Selects a page of the list.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// Maximum number of orders on the page, 1 to 100.
    #[param(nullable = false, example = 20, minimum = 1, maximum = 100, default = 20)]
    limit: Option<i64>,
    /// The page starts after this order: the `next` of the previous page.
    #[param(value_type = Option<String>, format = "uuid", nullable = false, example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")]
    after: Option<Uuid>,
}

/// Checks the items and adds up the quantities of each product.
pub(super) fn new_order(
    Applicant { buyer, limit_key }: Applicant,
    idempotency_key: Option<String>,
    field: &'static str,
    items: Vec<Item>,
    state: orders::OrderState,
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
    // The sale knows how long the products are held.
    Ok(NewOrder { buyer, lines, idempotency_key, state, hold_ms: None, limit_key })
}

/// The response with an order; a replayed one carries `Idempotent-Replayed`.
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

/// Orders several products
///
/// All or nothing. The order is `pending` and holds its units until its payment is reported; without one it is
/// `expired` at `expires_at`, and its units are on sale again at once. With an `Idempotency-Key` the
/// request can be repeated safely: the same key returns the same order.
#[utoipa::path(post, path = "/v1/orders", operation_id = "place_order", tag = "orders", security(("bearer" = [])),
    params(IdempotencyKey),
    request_body(content = OrderRequest, example = json!({"items": [{"product_id": "1", "quantity": 1}, {"product_id": "2", "quantity": 2}]})),
    responses(
        (status = 201, description = "Ordered and committed", body = PlacedOrderView,
            headers(("Idempotent-Replayed" = bool, description = "`true` if an earlier request did it; otherwise absent"))),
        Problems<(Login, JsonInput, Orders)>,
    )
)]
pub(crate) async fn place(
    Buyer { applicant, .. }: Buyer,
    State(sale): State<Arc<Sale>>,
    IdempotencyKey(idempotency_key): IdempotencyKey,
    JsonBody(OrderRequest { items }): JsonBody<OrderRequest>,
) -> Result<(StatusCode, HeaderMap, Json<PlacedOrderView>), ApiError> {
    let order = new_order(applicant, idempotency_key, "items", items, orders::OrderState::Pending)?;
    Ok(answer(sale.place(order, None).await?, StatusCode::CREATED))
}

/// Lists the caller's orders
///
/// Newest first, page by page.
#[utoipa::path(get, path = "/v1/orders", operation_id = "list_orders", tag = "orders", security(("bearer" = [])), params(Page), responses(
    (status = 200, description = "A page of orders", body = OrdersView),
    Problems<(Login, QueryInput, Database)>,
))]
pub(crate) async fn list(
    Authenticated(claims): Authenticated,
    State(sale): State<Arc<Sale>>,
    query: Result<Query<Page>, QueryRejection>,
) -> Result<Json<OrdersView>, ApiError> {
    let Query(Page { limit, after }) = query?;
    let limit = limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(ApiError::Field { field: "limit", rule: "must be from 1 to 100" });
    }
    // One more than the page holds shows whether there is a next page.
    let (orders, complete) = sale.orders_of(&claims.sub, after, limit + 1).await?;
    let (orders, next) = page(orders, limit, |order| order.id.to_string());
    Ok(Json(OrdersView::new(orders.into_iter().map(Into::into).collect(), next, complete)))
}

/// Returns an order
///
/// One of the caller; to an administrator, any order.
#[utoipa::path(get, path = "/v1/orders/{id}", operation_id = "get_order", tag = "orders", security(("bearer" = [])),
    params(("id" = String, Path, format = "uuid", description = "The order", example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")),
    responses(
        (status = 200, description = "The order", body = PlacedOrderView),
        Problems<(Login, OrderPath, Database)>,
    )
)]
pub(crate) async fn show(
    Authenticated(claims): Authenticated,
    State(sale): State<Arc<Sale>>,
    PathId(id): PathId,
) -> Result<Json<PlacedOrderView>, ApiError> {
    Ok(Json(sale.order(order_id(&id)?, claims.caller()).await?.into()))
}

/// Cancels an order
///
/// One of the caller; for an administrator, any order. Its units are on sale again at once. A repeated
/// request changes nothing.
#[utoipa::path(post, path = "/v1/orders/{id}/cancel", operation_id = "cancel_order", tag = "orders", security(("bearer" = [])),
    params(("id" = String, Path, format = "uuid", description = "The order", example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")),
    responses(
        (status = 200, description = "Cancelled and committed", body = PlacedOrderView,
            headers(("Idempotent-Replayed" = bool, description = "`true` if an earlier request did it; otherwise absent"))),
        Problems<(Login, OrderPath, OrderChanges)>,
    )
)]
pub(crate) async fn cancel(
    Authenticated(claims): Authenticated,
    State(sale): State<Arc<Sale>>,
    PathId(id): PathId,
) -> Result<(StatusCode, HeaderMap, Json<PlacedOrderView>), ApiError> {
    let receipt = sale.change_order(order_id(&id)?, claims.caller(), Change::Cancel).await?;
    Ok(answer(receipt, StatusCode::OK))
}

/// Records the result of an order's payment
///
/// For administrators, because the payment service is one. After a failed payment the units are on
/// sale again at once. A payment of an `expired` order takes its units again if they are there, and the order is
/// `paid`; otherwise it is `refund_required`, and the money must be given back. Money for an order that takes none
/// (`order_state`) is among the events that an administrator must resolve. A repeated report changes nothing.
#[utoipa::path(post, path = "/v1/orders/{id}/payment", operation_id = "report_payment", tag = "orders", security(("bearer" = [])),
    params(("id" = String, Path, format = "uuid", description = "The order", example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")),
    request_body(content = PaymentReport, example = json!({"result": "paid", "reference": "pay-4711"})),
    responses(
        (status = 200, description = "Recorded and committed", body = PlacedOrderView,
            headers(("Idempotent-Replayed" = bool, description = "`true` if an earlier request did it; otherwise absent"))),
        Problems<(Administrator, OrderPath, JsonInput, OrderChanges)>,
    )
)]
pub(crate) async fn payment(
    Admin(claims): Admin,
    State(sale): State<Arc<Sale>>,
    State(ledger): State<Ledger>,
    PathId(id): PathId,
    JsonBody(PaymentReport { result, reference }): JsonBody<PaymentReport>,
) -> Result<(StatusCode, HeaderMap, Json<PlacedOrderView>), ApiError> {
    check_reference(reference.as_deref())?;
    let (id, reported) = (order_id(&id)?, reference.clone());
    let change = match result {
        PaymentResult::Paid => Change::Pay { reference },
        PaymentResult::Failed => Change::FailPayment { reference },
    };
    let changed = sale.change_order(id, claims.caller(), change).await;
    if let (PaymentResult::Paid, Err(error @ OrderError::State(_))) = (&result, &changed) {
        ledger.record_payment_event(&unapplied(id, reported, error.code())).await?;
    }
    Ok(answer(changed?, StatusCode::OK))
}

/// Money that an order did not take, as an event that waits for an administrator. The same report again is the same
/// event.
fn unapplied(order: Uuid, reference: Option<String>, outcome: &str) -> PaymentEvent {
    let event_id = match &reference {
        Some(reference) => format!("{order}/{reference}"),
        None => order.to_string(),
    };
    PaymentEvent {
        id: Uuid::now_v7(),
        provider: REPORT.to_owned(),
        event_id,
        kind: orders::OrderState::Paid.name().to_owned(),
        order_id: Some(order),
        reference,
        amount: None,
        currency: None,
        outcome: outcome.to_owned(),
        received_at_ms: Timestamp::now().as_millisecond(),
        resolved_at_ms: None,
    }
}

/// Records that the money of an order was given back
///
/// For administrators, after the payment service has done so: this call moves no money. A `paid` or `refund_required`
/// order is `refunded`. With `units_back` the units of a paid order are on sale again at once; otherwise the buyer
/// keeps them, until a later request with `units_back` gives them back, once. Any other repeated request changes
/// nothing.
#[utoipa::path(post, path = "/v1/orders/{id}/refund", operation_id = "refund_order", tag = "orders", security(("bearer" = [])),
    params(("id" = String, Path, format = "uuid", description = "The order", example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")),
    request_body(content = Refund, example = json!({"reference": "refund-4711", "units_back": true})),
    responses(
        (status = 200, description = "Recorded and committed", body = PlacedOrderView,
            headers(("Idempotent-Replayed" = bool, description = "`true` if an earlier request did it; otherwise absent"))),
        Problems<(Administrator, OrderPath, JsonInput, OrderChanges)>,
    )
)]
pub(crate) async fn refund(
    Admin(claims): Admin,
    State(sale): State<Arc<Sale>>,
    PathId(id): PathId,
    JsonBody(Refund { reference, units_back }): JsonBody<Refund>,
) -> Result<(StatusCode, HeaderMap, Json<PlacedOrderView>), ApiError> {
    check_reference(reference.as_deref())?;
    let change = Change::Refund { reference, units_back };
    Ok(answer(sale.change_order(order_id(&id)?, claims.caller(), change).await?, StatusCode::OK))
}

fn check_reference(reference: Option<&str>) -> Result<(), ApiError> {
    let fits = |reference: &str| {
        (1..=MAX_REFERENCE).contains(&reference.chars().count())
            && !reference.chars().any(char::is_control)
    };
    if reference.is_none_or(fits) {
        return Ok(());
    }
    let rule = "must have 1 to 255 characters, none of them a control character";
    Err(ApiError::Field { field: "reference", rule })
}

/// A malformed id is answered like an id without an order.
fn order_id(id: &str) -> Result<Uuid, OrderError> {
    Uuid::try_parse(id).map_err(|_malformed| OrderError::Unknown)
}
