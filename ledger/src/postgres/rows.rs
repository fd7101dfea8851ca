//! Orders as rows of a statement.

use uuid::Uuid;

use crate::types::Order;

/// An order as a row: its id, buyer, quantity and idempotency key.
pub(crate) type Row<'a> = (Uuid, &'a str, i64, Option<&'a str>);
/// Such rows as PostgreSQL takes many at once.
pub(crate) type Columns<'a> = (Vec<Uuid>, Vec<&'a str>, Vec<i64>, Vec<Option<&'a str>>);

/// The limit keys of orders, in the order of their rows.
pub(crate) fn limit_keys<'a>(orders: impl Iterator<Item = &'a Order>) -> Vec<Option<&'a str>> {
    orders.map(|order| order.limit_key.as_deref()).collect()
}

/// The order as a row.
pub(crate) fn row(order: &Order) -> Row<'_> {
    let Order { id, buyer, quantity, idempotency_key, .. } = order;
    (*id, buyer, *quantity, idempotency_key.as_deref())
}
