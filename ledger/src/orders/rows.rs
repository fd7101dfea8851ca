//! Orders from their rows.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::types::{OrderLine, OrderState, PlacedOrder};
use crate::error::LedgerError;

/// In the order of the columns in `sql.rs`; the databases have types of their own for the id.
pub(crate) type Row<Id> =
    (Id, i16, String, String, i64, String, Option<String>, Option<String>, Option<i64>);

/// Puts lines together, the newest order first.
pub(crate) fn orders<Id: Into<Uuid>>(
    mut rows: Vec<Row<Id>>,
) -> Result<Vec<PlacedOrder>, LedgerError> {
    rows.sort_by_key(|row| row.1);
    let mut orders = BTreeMap::<Uuid, PlacedOrder>::new();
    for row in rows {
        let (id, _, product_id, buyer, quantity, state, idempotency_key, ..) = row;
        let (.., payment_reference, expires_at_ms) = row;
        let id = id.into();
        let Some(state) = OrderState::of(&state) else {
            let unknown = format!("order {id} has the unknown state {state:?}");
            return Err(LedgerError::Database(sqlx::Error::Decode(unknown.into())));
        };
        let lines = Vec::new();
        let order = orders.entry(id).or_insert(PlacedOrder {
            id,
            buyer,
            state,
            lines,
            idempotency_key,
            payment_reference,
            expires_at_ms,
        });
        order.lines.push(OrderLine { product_id, quantity });
    }
    Ok(orders.into_values().rev().collect())
}

/// The only order, if there is one.
pub(crate) fn order<Id: Into<Uuid>>(
    rows: Vec<Row<Id>>,
) -> Result<Option<PlacedOrder>, LedgerError> {
    Ok(orders(rows)?.into_iter().next())
}
