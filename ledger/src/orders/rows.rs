//! Orders from their rows.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::order::{OrderLine, OrderState, PlacedOrder, Refunded};
use crate::error::LedgerError;
use crate::money::Price;

/// With the names of the columns in `sql.rs`; the databases have types of their own for the id.
#[derive(sqlx::FromRow)]
pub(crate) struct Row<Id> {
    id: Id,
    line: i16,
    product_id: String,
    buyer: String,
    quantity: i64,
    state: String,
    shown_state: String,
    idempotency_key: Option<String>,
    payment_reference: Option<String>,
    expires_at_ms: Option<i64>,
    unit_price: Option<i64>,
    currency: Option<String>,
    refunded_at_ms: Option<i64>,
    refund_reference: Option<String>,
    limit_key: Option<String>,
}

/// Puts lines together, the newest order first.
pub(crate) fn orders<Id: Into<Uuid>>(
    mut rows: Vec<Row<Id>>,
) -> Result<Vec<PlacedOrder>, LedgerError> {
    rows.sort_by_key(|row| row.line);
    let mut orders = BTreeMap::<Uuid, PlacedOrder>::new();
    for row in rows {
        let id: Uuid = row.id.into();
        let Some(state) = OrderState::of(&row.shown_state) else {
            let unknown = format!("order {id} has the unknown state {:?}", row.shown_state);
            return Err(LedgerError::Database(sqlx::Error::Decode(unknown.into())));
        };
        // A refund leaves the state `paid` to an order whose units the buyer keeps.
        let units_back = row.state != OrderState::Paid.name();
        let reference = row.refund_reference;
        let refund = row.refunded_at_ms.map(|at_ms| Refunded { at_ms, reference, units_back });
        let order = orders.entry(id).or_insert(PlacedOrder {
            id,
            buyer: row.buyer,
            state,
            lines: Vec::new(),
            prices: Vec::new(),
            idempotency_key: row.idempotency_key,
            payment_reference: row.payment_reference,
            expires_at_ms: row.expires_at_ms,
            refund,
            limit_key: row.limit_key,
        });
        order.lines.push(OrderLine { product_id: row.product_id, quantity: row.quantity });
        order.prices.push(Price::of_columns(row.unit_price, row.currency.as_deref()));
    }
    Ok(orders.into_values().rev().collect())
}

/// The only order, if there is one.
pub(crate) fn order<Id: Into<Uuid>>(
    rows: Vec<Row<Id>>,
) -> Result<Option<PlacedOrder>, LedgerError> {
    Ok(orders(rows)?.into_iter().next())
}
