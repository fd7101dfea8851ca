//! Statements that mean the same in both databases, unless they say for which.

mod expire_at_once;
mod place_at_once;

pub(crate) use self::expire_at_once::EXPIRE_AT_ONCE;
pub(crate) use self::place_at_once::PLACE_AT_ONCE;
use crate::limit_key::BOUGHT_BY_NAMES;
use crate::sql::postgres_now;

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

/// PostgreSQL only. `OFFSET 0`: one look into the index for each, whatever the planner thinks of the table.
pub(crate) const PLACED_BY_KEYS: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM unnest($1::TEXT[], $2::TEXT[]) AS asked (name, key) CROSS JOIN LATERAL ",
    "(SELECT * FROM orders WHERE buyer = asked.name AND idempotency_key = asked.key OFFSET 0) found"
);

/// Ids are in order of time.
pub(crate) const PLACED_BY: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM orders WHERE id IN (SELECT id FROM orders WHERE buyer = $1 AND line = 0 ",
    "AND ($2 IS NULL OR id < $2) ORDER BY id DESC LIMIT $3)"
);

/// Installs the tokens ($2) of these products ($1), and returns what an order must know of each, with the time. A product
/// is left out if its fence is not below its token, or if another transaction has changed it since the statement began:
/// its limit and its price are of that moment, and all that changes them moves the fence.
pub(crate) const FENCE_ON_POSTGRES: &str = concat!(
    "WITH held AS MATERIALIZED (\
       SELECT product, token, fence AS seen, max_per_buyer, price, currency \
       FROM unnest($1::TEXT[], $2::BIGINT[]) AS asked (product, token) \
       JOIN stock ON product_id = product JOIN products ON products.id = product \
       WHERE fence < token ORDER BY product) \
     UPDATE stock SET fence = token FROM held WHERE product_id = product AND fence = seen \
     RETURNING product_id, available, deleted_at IS NOT NULL, ",
    postgres_now!(),
    ", max_per_buyer, price, currency"
);

/// Those of the products ($1) whose fences are not below the tokens ($2), with the fences, and those that are unknown.
pub(crate) const REFUSED_ON_POSTGRES: &str = "SELECT product, fence \
     FROM unnest($1::TEXT[], $2::BIGINT[]) AS asked (product, token) \
     LEFT JOIN stock ON product_id = product WHERE fence IS NULL OR fence >= token";

/// Moves units ($2) of products ($1) whose fences are still these ($3), as far as they are there, and writes orders, a row
/// for each line. Returns the products whose units were moved. In order of the keys: transactions that use the same ones
/// wait for each other, not in a circle.
pub(crate) const WRITE_ON_POSTGRES: &str = "WITH moved AS (\
       UPDATE stock SET available = available + units \
       FROM unnest($1::TEXT[], $2::BIGINT[], $3::BIGINT[]) AS change (product, units, token) \
       WHERE product_id = product AND available + units >= 0 AND fence = token \
       RETURNING product_id), \
     placed AS (\
       INSERT INTO orders \
         (id, line, product_id, buyer, quantity, idempotency_key, fence, state, expires_at_ms, \
          unit_price, currency, limit_key) \
       SELECT id, line, product, buyer, quantity, key, fence, state, expires, price, currency, person \
       FROM unnest($4::UUID[], $5::SMALLINT[], $6::TEXT[], $7::TEXT[], $8::BIGINT[], $9::TEXT[], \
                   $10::BIGINT[], $11::TEXT[], $12::BIGINT[], $13::BIGINT[], $14::TEXT[], $15::TEXT[]) \
       AS sold (id, line, product, buyer, quantity, key, fence, state, expires, price, currency, person) \
       ORDER BY buyer, key, line) \
     SELECT product_id FROM moved";

/// Takes units (a negative number) or gives them back, if they are there and no later holder has
/// come.
pub(crate) const MOVE_UNITS_ON_SQLITE: &str = "UPDATE stock SET available = available + $2 \
     WHERE product_id = $1 AND available + $2 >= 0 AND fence = $3";

/// Ends holds whose time has come. A payment, a cancel or a report of failure at the same time changes the
/// same rows under the same condition, so one of them gets through.
pub(crate) const EXPIRE_ON_POSTGRES: &str = concat!(
    "WITH expired AS (UPDATE orders SET state = 'cancelled', ended_as = 'expired' \
     WHERE id = ANY($1) AND state = 'pending' AND expires_at_ms <= ",
    postgres_now!(),
    " RETURNING line, product_id, quantity) \
     SELECT product_id, sum(quantity)::BIGINT, count(*) FILTER (WHERE line = 0) FROM expired \
     GROUP BY product_id"
);

/// The same for one order; `$2` is the time.
pub(crate) const EXPIRE_ON_SQLITE: &str = "UPDATE orders SET state = 'cancelled', ended_as = 'expired' \
     WHERE id = $1 AND state = 'pending' AND expires_at_ms <= $2 RETURNING product_id, quantity";

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

/// Those that place orders and end holds on PostgreSQL, where each new connection prepares them.
pub(crate) const ORDER_STATEMENTS: [&str; 8] = [
    PLACE_AT_ONCE,
    EXPIRE_AT_ONCE,
    FENCE_ON_POSTGRES,
    PLACED_BY_KEYS,
    BOUGHT_BY_NAMES,
    WRITE_ON_POSTGRES,
    EXPIRE_ON_POSTGRES,
    WAITING_ON_POSTGRES,
];

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
