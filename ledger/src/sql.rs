//! Statements that several modules share. They mean the same in both databases, unless they say for which.

/// Of orders whose units are the buyer's: those of the others are back in stock.
macro_rules! kept {
    () => {
        "state NOT IN ('cancelled', 'payment_failed')"
    };
}
pub(crate) use kept;

/// The state of an order as it is shown. The release before reads `state` and `ended_as` only.
macro_rules! shown_state {
    () => {
        "CASE WHEN refunded_at_ms IS NULL THEN coalesce(ended_as, state) ELSE 'refunded' END"
    };
}
pub(crate) use shown_state;

pub(crate) const SET_ADMIN_PASSWORD: &str =
    "UPDATE accounts SET password_hash = $2 WHERE id = $1 AND role = 'admin'";

pub(crate) const PRODUCTS: &str = "SELECT id, name, max_per_buyer, wait_timeout_ms, lease_time_ms, \
     hold_seconds, price, currency, declared, available, fence FROM products JOIN stock ON product_id = id \
     WHERE deleted_at IS NULL ORDER BY id";

pub(crate) const PRODUCT: &str = "SELECT id, name, max_per_buyer, wait_timeout_ms, lease_time_ms, \
     hold_seconds, price, currency, declared, available, fence FROM products JOIN stock ON product_id = id \
     WHERE deleted_at IS NULL AND id = $1";

/// Their fences, so that no node keeps a value of before.
pub(crate) const DELETED_PRODUCTS: &str =
    "SELECT product_id, fence FROM stock WHERE deleted_at IS NOT NULL";

/// A [`crate::orders::types::UnitRow`] for each product and state of orders, and for each product on sale. One statement, so
/// both are of one moment.
pub(crate) const COUNT_UNITS: &str = concat!(
    "SELECT product_id, state, CAST(SUM(quantity) AS BIGINT), \
     CAST(SUM(CASE WHEN expires_at_ms IS NULL THEN quantity ELSE 0 END) AS BIGINT) FROM orders WHERE ",
    kept!(),
    " GROUP BY product_id, state UNION ALL \
     SELECT product_id, NULL, declared, CAST(0 AS BIGINT) FROM stock WHERE deleted_at IS NULL"
);

pub(crate) const ORDER_BY_KEY: &str = "SELECT id, product_id, buyer, quantity, idempotency_key, \
     (SELECT count(*) FROM orders l WHERE l.id = o.id) AS lines, unit_price, currency \
     FROM orders o WHERE buyer = $1 AND idempotency_key = $2 AND line = 0";

/// Installs a token, before anything is read, and returns the units left; nothing for a token that
/// is not above all that came before, or a product that was deleted.
pub(crate) const FENCE: &str = "UPDATE stock SET fence = $2 \
     WHERE product_id = $1 AND fence < $2 AND deleted_at IS NULL RETURNING available";

pub(crate) const FENCE_SEEN: &str =
    "SELECT fence FROM stock WHERE product_id = $1 AND deleted_at IS NULL";

/// As `FENCE`, for a change of the product, which may have been deleted.
pub(crate) const FENCE_TO_CHANGE: &str = "UPDATE stock SET fence = $2 \
     WHERE product_id = $1 AND fence < $2 \
     RETURNING declared, restocked, available, deleted_at IS NOT NULL AS deleted";

/// As `FENCE`, for orders: those of a deleted product can be cancelled.
pub(crate) const FENCE_FOR_ORDERS: &str = "UPDATE stock SET fence = $2 \
     WHERE product_id = $1 AND fence < $2 RETURNING available, deleted_at IS NOT NULL";

pub(crate) const FENCE_OF_ANY: &str = "SELECT fence FROM stock WHERE product_id = $1";

pub(crate) const MAX_PER_BUYER: &str = "SELECT max_per_buyer FROM products WHERE id = $1";

/// What an order must have of its product.
pub(crate) const PRICE: &str = "SELECT price, currency FROM products WHERE id = $1";

/// Takes units, if they are there and no later holder has come.
pub(crate) const TAKE: &str = "UPDATE stock SET available = available - $2 \
     WHERE product_id = $1 AND available >= $2 AND fence = $3";

pub(crate) const DECLARE_PRODUCT: &str = "INSERT INTO products \
     (id, name, max_per_buyer, wait_timeout_ms, lease_time_ms, hold_seconds, price, currency) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
     ON CONFLICT (id) DO UPDATE SET name = excluded.name, max_per_buyer = excluded.max_per_buyer, \
     wait_timeout_ms = excluded.wait_timeout_ms, lease_time_ms = excluded.lease_time_ms, \
     hold_seconds = excluded.hold_seconds, price = excluded.price, currency = excluded.currency";

pub(crate) const CREATE_STOCK: &str = "INSERT INTO stock (product_id, declared, available) \
     VALUES ($1, 0, 0) ON CONFLICT (product_id) DO NOTHING";

pub(crate) const REVISE_PRODUCT: &str = "UPDATE products SET name = $2, max_per_buyer = $3, \
     wait_timeout_ms = $4, lease_time_ms = $5, hold_seconds = $6, price = $7, currency = $8 WHERE id = $1";

/// Writes what was decided about a row whose fence is ours.
pub(crate) const SET_STOCK: &str = "UPDATE stock SET declared = $2, restocked = $3, \
     available = $4, deleted_at = CASE WHEN $5 THEN CURRENT_TIMESTAMP END WHERE product_id = $1";

/// PostgreSQL's own time, in milliseconds since 1970: all replicas have the same. The subquery is evaluated once, so an
/// index can be searched for it; the function alone would be compared with each row.
macro_rules! postgres_now {
    () => {
        "(SELECT (extract(epoch FROM clock_timestamp()) * 1000)::BIGINT)"
    };
}
pub(crate) use postgres_now;

/// The time of the process that has the SQLite database.
macro_rules! sqlite_now {
    () => {
        "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
    };
}
pub(crate) use sqlite_now;

/// Columns of an [`crate::Order`], of the rows `o`.
macro_rules! keyed_columns {
    () => {
        "o.id, o.product_id, o.buyer, o.quantity, o.idempotency_key, \
         (SELECT count(*) FROM orders l WHERE l.id = o.id) AS lines, o.unit_price, o.currency"
    };
}
pub(crate) use keyed_columns;

/// For PostgreSQL: the orders of these buyers ($1) under these keys ($2).
pub(crate) const ORDERS_BY_KEYS: &str = concat!(
    // LATERAL with OFFSET: one look into the index for each, whatever the planner thinks of the table.
    "SELECT ",
    keyed_columns!(),
    " FROM unnest($1::TEXT[], $2::TEXT[]) AS asked (buyer, key) CROSS JOIN LATERAL \
     (SELECT * FROM orders WHERE buyer = asked.buyer AND idempotency_key = asked.key \
      AND line = 0 OFFSET 0) o"
);
