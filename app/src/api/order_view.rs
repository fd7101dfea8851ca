//! Orders as answers show them.

use ledger::Price;
use ledger::orders::{OrderLine, PlacedOrder};
use serde::Serialize;
use utoipa::ToSchema;

use crate::order_state::OrderState;
use crate::times::{created_at, rfc3339};

/// A committed order.
#[derive(Serialize, ToSchema)]
pub(crate) struct PlacedOrderView {
    #[schema(value_type = String, format = "uuid", example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")]
    order_id: String,
    #[schema(example = "ann")]
    buyer: String,
    state: OrderState,
    items: Vec<ItemView>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false, example = "2026-11-27T00:00:00.123Z")]
    created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "pay-4711")]
    payment_reference: Option<String>,
    /// RFC 3339: when the order stops holding its units, or stopped, unless it was paid before. Absent: it holds
    /// them without an end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false, example = "2026-11-27T00:10:00.123Z")]
    expires_at: Option<String>,
    /// What all units cost, by the prices at the moment of the order, in the smallest unit of the currency. Absent: the
    /// products had no price.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 49_900)]
    amount: Option<i64>,
    /// ISO 4217.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "EUR")]
    currency: Option<&'static str>,
    /// Decimal places of the currency: an `amount` of 49900 with 2 is 499.00.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 2)]
    decimals: Option<u32>,
    /// RFC 3339: when the money was given back.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false, example = "2026-11-27T00:10:00.123Z")]
    refunded_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "refund-4711")]
    refund_reference: Option<String>,
    /// Of a refunded order: whether its units are in stock again. `false`: the buyer has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = true)]
    units_back: Option<bool>,
}

/// Units of one product in an order.
#[derive(Serialize, ToSchema)]
pub(crate) struct ItemView {
    #[schema(example = "1")]
    product_id: String,
    #[schema(example = 1)]
    quantity: i64,
    /// What a unit costs, in the smallest unit of the order's currency. Absent: it has no price.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 49_900)]
    unit_price: Option<i64>,
}

/// Some orders, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct OrdersView {
    orders: Vec<PlacedOrderView>,
    /// The `after` of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid", nullable = false, example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")]
    next: Option<String>,
    /// `true` while the newest orders may be missing, because Redis decides this sale and the database
    /// is behind; otherwise absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    incomplete: Option<bool>,
}

impl OrdersView {
    /// A page; the newest orders may be missing from one that is not complete.
    pub(super) fn new(orders: Vec<PlacedOrderView>, next: Option<String>, complete: bool) -> Self {
        Self { orders, next, incomplete: (!complete).then_some(true) }
    }
}

impl From<PlacedOrder> for PlacedOrderView {
    fn from(order: PlacedOrder) -> Self {
        let amount = order.amount();
        let item = |(line, price): (OrderLine, Option<Price>)| {
            let OrderLine { product_id, quantity } = line;
            ItemView { product_id, quantity, unit_price: price.map(|price| price.amount) }
        };
        let units_back = order.refund.as_ref().map(|refund| refund.units_back);
        let (refunded_at, refund_reference) =
            order.refund.map(|refund| (rfc3339(refund.at_ms), refund.reference)).unzip();
        Self {
            order_id: order.id.to_string(),
            buyer: order.buyer,
            state: order.state.into(),
            items: order.lines.into_iter().zip(order.prices).map(item).collect(),
            created_at: created_at(order.id),
            payment_reference: order.payment_reference,
            expires_at: order.expires_at_ms.and_then(rfc3339),
            amount: amount.map(|amount| amount.amount),
            currency: amount.map(|amount| amount.currency.code()),
            decimals: amount.map(|amount| amount.currency.decimals()),
            refunded_at: refunded_at.flatten(),
            refund_reference: refund_reference.flatten(),
            units_back,
        }
    }
}
