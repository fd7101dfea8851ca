//! Statements that mean the same in both databases.

/// One row for each line, as `rows::Row` has it.
macro_rules! columns {
    () => {
        concat!(
            "id, line, product_id, buyer, quantity, state, ",
            crate::sql::shown_state!(),
            " AS shown_state, idempotency_key, payment_reference, expires_at_ms, unit_price, currency, \
             refunded_at_ms, refund_reference, limit_key"
        )
    };
}

macro_rules! open {
    () => {
        "state IN ('pending', 'confirmed')"
    };
}

#[cfg(test)]
pub(crate) const OPEN: &str = open!();

/// Changes the state of an order that is still open; nothing for any other. Another one that does the same
/// at the same time waits for this one's commit, and then finds the order changed.
pub(crate) const CHANGE_STATE: &str = concat!(
    "UPDATE orders SET state = $2, payment_reference = coalesce($3, payment_reference) ",
    "WHERE id = $1 AND ",
    open!(),
    " RETURNING ",
    columns!()
);

/// The rows of all orders; a search adds its conditions.
pub(crate) const SELECT_ORDERS: &str = concat!("SELECT ", columns!(), " FROM orders");

pub(crate) const PLACED: &str = concat!("SELECT ", columns!(), " FROM orders WHERE id = $1");

/// The order that was paid by a payment.
pub(crate) const PLACED_BY_PAYMENT: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM orders WHERE id IN (SELECT id FROM orders WHERE payment_reference = $1 AND line = 0 \
     ORDER BY id LIMIT 1)"
);

pub(crate) const PLACED_BY_KEY: &str =
    concat!("SELECT ", columns!(), " FROM orders WHERE buyer = $1 AND idempotency_key = $2");

/// PostgreSQL only; one look into the index for each.
pub(crate) const PLACED_BY_KEYS: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM unnest($1::TEXT[], $2::TEXT[]) AS asked (name, key) CROSS JOIN LATERAL ",
    "(SELECT * FROM orders WHERE buyer = asked.name AND idempotency_key = asked.key) found"
);

/// Ids are in order of time.
pub(crate) const PLACED_BY: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM orders WHERE id IN (SELECT id FROM orders WHERE buyer = $1 AND line = 0 ",
    "AND ($2 IS NULL OR id < $2) ORDER BY id DESC LIMIT $3)"
);

/// Takes units (a negative number) or gives them back, if they are there and no later holder has
/// come.
pub(crate) const MOVE_UNITS: &str = "UPDATE stock SET available = available + $2 \
     WHERE product_id = $1 AND available + $2 >= 0 AND fence = $3";

macro_rules! waiter_columns {
    () => {
        "place, product_id, buyer, quantity, hold_ms, limit_key"
    };
}

/// The first who wait for no more units of a product than these. Others would use up the limit and hide who can be
/// served.
macro_rules! waiting {
    ($of_product:literal, $units:literal, $limit:literal) => {
        concat!(
            "SELECT ",
            waiter_columns!(),
            " FROM waitlist WHERE product_id ",
            $of_product,
            " AND quantity <= ",
            $units,
            " ORDER BY product_id, place LIMIT ",
            $limit
        )
    };
}

/// `$1` are products, `$2` the units left of each. Who leaves at this moment is not served. With `=`, PostgreSQL may read
/// the lists of all products in the order of `place`; with BETWEEN, only the index of product and place has the order.
pub(crate) const WAITING_ON_POSTGRES: &str = concat!(
    "SELECT ",
    waiter_columns!(),
    " FROM unnest($1::TEXT[], $2::BIGINT[]) AS units_left (product, units) CROSS JOIN LATERAL (",
    waiting!("BETWEEN product AND product", "units", "$3"),
    " FOR UPDATE SKIP LOCKED) first_ones ORDER BY place LIMIT $3"
);
/// Of one product.
pub(crate) const WAITING_ON_SQLITE: &str = waiting!("= $1", "$2", "$3");

pub(crate) const STOP_WAITING_ON_POSTGRES: &str = "DELETE FROM waitlist WHERE place = ANY($1)";
pub(crate) const STOP_WAITING_ON_SQLITE: &str = "DELETE FROM waitlist WHERE place = $1";

/// Records a refund; the buyer keeps the units, or they were back before.
pub(crate) const REFUND: &str = concat!(
    "UPDATE orders SET refunded_at_ms = $2, refund_reference = $3 ",
    "WHERE id = $1 AND refunded_at_ms IS NULL AND (state = 'paid' OR ended_as = 'refund_required') RETURNING ",
    columns!()
);

/// Gives the units of a paid order back, and records its refund, unless one without the units was recorded before: that
/// one keeps its time. The state says whether the units are back, so they come back once.
pub(crate) const REFUND_WITH_UNITS: &str = concat!(
    "UPDATE orders SET refunded_at_ms = coalesce(refunded_at_ms, $2), ",
    "refund_reference = coalesce(refund_reference, $3), state = 'cancelled' ",
    "WHERE id = $1 AND state = 'paid' RETURNING ",
    columns!()
);

/// The state of an order whose hold has ended, after a payment: `paid`, or `refund_required`. The units of
/// the first are taken in the same transaction.
pub(crate) const PAY_LATE: &str = concat!(
    "UPDATE orders SET state = CASE $2 WHEN 'paid' THEN 'paid' ELSE state END, ",
    "ended_as = CASE $2 WHEN 'paid' THEN NULL ELSE $2 END, ",
    "payment_reference = coalesce($3, payment_reference) ",
    "WHERE id = $1 AND ended_as = 'expired' RETURNING ",
    columns!()
);

#[cfg(test)]
mod tests;
