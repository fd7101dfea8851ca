//! The statement that places all orders of a batch, or none: `postgres/at_once.rs` sends it.

use crate::limit_key::units_of_person;
use crate::sql::{self, postgres_now};

/// Takes units ($3) of a product ($1) for a token ($2) and writes the orders, unless the fence is not below the token or
/// changes meanwhile, too few units are left, or somebody would have more than the limit: a buyer ($4, with the units
/// asked for in $5) or a person ($6 and $7). Keys are not looked up: one that was used before violates the orders'
/// constraint and undoes the statement.
///
/// All but the row of the stock is read from one snapshot. Each transaction that changes the units of a product's buyers,
/// its limit or its price moves the fence, so `fence = seen` refuses what is older than the row. An erasure alone does not:
/// it moves units from a buyer to the buyer's pseudonym, and a person keeps them.
pub(crate) const PLACE_AT_ONCE: &str = concat!(
    "WITH seen AS MATERIALIZED (\
       SELECT fence AS seen, coalesce(price, 0) AS unit_price, currency, ",
    postgres_now!(),
    " AS now_ms, max_per_buyer IS NULL OR (\
         NOT EXISTS (SELECT FROM unnest($4::TEXT[], $5::BIGINT[]) AS asked (name, units) \
           WHERE units + (SELECT coalesce(sum(o.quantity), 0) FROM orders o \
             WHERE o.buyer = asked.name AND o.product_id = $1 AND o.",
    sql::kept!(),
    ") > max_per_buyer) \
         AND NOT EXISTS (SELECT FROM unnest($6::TEXT[], $7::BIGINT[]) AS asked (name, units) \
           WHERE asked.units + (SELECT coalesce(sum(of_person.units), 0) FROM (",
    units_of_person!("asked.name", "$1"),
    ") of_person) > max_per_buyer)) AS is_within_limit \
       FROM stock JOIN products ON id = product_id \
       WHERE product_id = $1 AND fence < $2 AND deleted_at IS NULL), \
     taken AS (\
       UPDATE stock SET fence = $2, available = available - $3 FROM seen \
       WHERE product_id = $1 AND fence = seen AND available >= $3 AND deleted_at IS NULL \
         AND is_within_limit \
       RETURNING available, unit_price, currency, now_ms), \
     placed AS (\
       INSERT INTO orders (id, product_id, buyer, quantity, idempotency_key, fence, state, expires_at_ms, \
         unit_price, currency, limit_key) \
       SELECT id, $1, buyer, quantity, key, $2, state, now_ms + hold_ms, unit_price, currency, person \
       FROM unnest($8::UUID[], $9::TEXT[], $10::BIGINT[], $11::TEXT[], $12::TEXT[], $13::BIGINT[], $14::TEXT[]) \
         AS asked (id, buyer, quantity, key, state, hold_ms, person) CROSS JOIN taken \
       ORDER BY buyer, key) \
     SELECT available, unit_price, currency, now_ms FROM taken"
);
