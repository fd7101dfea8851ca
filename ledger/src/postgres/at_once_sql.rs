//! The statements that sell at once: `at_once.rs` sends them.

use crate::limit_key::units_of_person;
use crate::sql;

/// Decides the purchases of each product that has enough units for all that are granted. A product is
/// left out, and nothing of it is changed, if its fence is not below the token or changes meanwhile, or
/// if too few units are left.
///
/// All is read from one snapshot. A statement that waited for another transaction sees what that one
/// changed in `stock`, though not its orders. Each transaction that changes the units of a product's buyers, or uses
/// a key for it, moves the product's fence, so `fence = seen` refuses. A key that was used for another product
/// meanwhile violates the orders' constraint and undoes the statement, and so does every used key that is
/// not looked up: without $12, only keys of buyers at their limit are.
///
/// Each part has one plan only, whatever the planner thinks of the tables: `OFFSET 0` makes the
/// look-ups loops over an index, and a product's purchases are slices of the arrays, not a join.
///
/// The last arguments: the units that a buyer has; then the column of limit keys and the array of its values, or
/// nothing.
macro_rules! sell_at_once {
    ($units_of_the_buyer:literal, $looks_up_key:literal, $had:expr, $limit_key:literal, $limit_keys:literal) => {
        concat!(
            "WITH demand AS MATERIALIZED (\
               SELECT number, product_id, fence AS seen, fence = known_fence AS is_known, \
                 max_per_buyer, coalesce(price, 0) AS unit_price, currency, first, last \
               FROM unnest($1::TEXT[], $2::BIGINT[], $3::INT[], $4::INT[], $5::BOOLEAN[], \
                 $10::BIGINT[]) WITH ORDINALITY \
                 AS asked (product, token, first, last, is_simple, known_fence, number) \
               JOIN stock ON product_id = product JOIN products ON products.id = product \
               WHERE fence < token AND deleted_at IS NULL \
                 AND (is_simple OR max_per_buyer IS NULL)), \
             judged AS MATERIALIZED (\
               SELECT number, seen, max_per_buyer, demand.unit_price, demand.currency, wanted.place + first - 1 AS place, wanted.id, wanted.buyer",
            $limit_key,
            ", wanted.quantity, wanted.key, known.id AS known_id, \
                 known.product_id AS known_product, known.quantity AS known_quantity, lines, \
                 known.unit_price AS known_price, known.currency AS known_currency, \
                 units AS read_units, known.id IS NULL AND (max_per_buyer IS NULL OR \
                   coalesce(units, CASE WHEN is_known THEN known_units END, 0) + ",
            $units_of_the_buyer,
            " <= max_per_buyer) AS granted \
               FROM demand CROSS JOIN LATERAL \
                 unnest(($6::UUID[])[first:last], ($7::TEXT[])[first:last], \
                   ($8::BIGINT[])[first:last], ($9::TEXT[])[first:last], \
                   ($11::BIGINT[])[first:last]",
            $limit_keys,
            ") WITH ORDINALITY AS wanted (id, buyer, quantity, key, known_units",
            $limit_key,
            ", place) LEFT JOIN LATERAL (",
            $had,
            ") had ON TRUE \
               LEFT JOIN LATERAL (\
                 SELECT o.id, o.product_id, o.quantity, o.unit_price, o.currency, \
                   (SELECT count(*) FROM orders l WHERE l.id = o.id) AS lines \
                 FROM orders o WHERE ($12 OR ",
            $looks_up_key,
            ") AND o.buyer = wanted.buyer AND o.idempotency_key = wanted.key \
                   AND o.line = 0 OFFSET 0) known ON TRUE), \
             taken AS (\
               UPDATE stock SET fence = ($2::BIGINT[])[number::INT], available = available - units \
               FROM (SELECT number, min(seen) AS seen, min(max_per_buyer) AS max_per_buyer, \
                       min(unit_price) AS unit_price, min(currency) AS currency, \
                       coalesce(sum(quantity) FILTER (WHERE granted), 0)::BIGINT AS units \
                     FROM judged GROUP BY number) decided \
               WHERE product_id = ($1::TEXT[])[number::INT] AND fence = seen AND available >= units \
                 AND deleted_at IS NULL \
               RETURNING number, available, CASE WHEN max_per_buyer IS NOT NULL THEN seen END AS seen, \
                 unit_price, currency), \
             sold AS (\
               INSERT INTO orders \
                 (id, product_id, buyer, quantity, idempotency_key, fence, unit_price, currency",
            $limit_key,
            ") SELECT id, ($1::TEXT[])[number::INT], buyer, quantity, key, ($2::BIGINT[])[number::INT], \
                 unit_price, currency",
            $limit_key,
            " FROM judged WHERE granted AND number = ANY(ARRAY(SELECT number FROM taken)) \
               ORDER BY buyer, key) \
             SELECT number, available, seen, NULL::BIGINT AS place, FALSE AS granted, \
               NULL::BIGINT AS units, NULL::UUID AS known_id, NULL::TEXT AS known_product, \
               NULL::BIGINT AS known_quantity, NULL::BIGINT AS lines, unit_price, currency FROM taken \
             UNION ALL SELECT number, NULL, NULL, place, granted, read_units, known_id, \
               known_product, known_quantity, lines, known_price, known_currency FROM judged \
             WHERE (NOT granted OR read_units IS NOT NULL) \
               AND number = ANY(ARRAY(SELECT number FROM taken))"
        )
    };
}

/// What a buyer has, unless it is known.
macro_rules! units_of_buyer {
    () => {
        concat!(
            "SELECT sum(o.quantity)::BIGINT AS units FROM orders o \
             WHERE max_per_buyer IS NOT NULL AND NOT (is_known AND known_units IS NOT NULL) \
               AND o.buyer = wanted.buyer AND o.product_id = demand.product_id AND o.",
            sql::kept!(),
        )
    };
}

/// What a buyer has or what the person has for whom the buyer's limit key stands, whichever is more: neither may
/// exceed the limit.
macro_rules! units_of_buyer_or_person {
    () => {
        concat!(
            "SELECT greatest(\
               (SELECT sum(o.quantity) FROM orders o WHERE o.buyer = wanted.buyer \
                  AND o.product_id = demand.product_id AND o.",
            sql::kept!(),
            "), (SELECT sum(units) FROM (",
            units_of_person!("wanted.limit_key", "demand.product_id"),
            ") of_person))::BIGINT AS units WHERE max_per_buyer IS NOT NULL"
        )
    };
}

/// No product has two purchases of one buyer.
pub(super) const SELL_AT_ONCE: &str = sell_at_once!(
    "wanted.quantity",
    "coalesce(units, CASE WHEN is_known THEN known_units END, 0) + wanted.quantity > max_per_buyer",
    units_of_buyer!(),
    "",
    ""
);

/// As [`SELL_AT_ONCE`] for a sale that limits by a claim ($13: the limit keys). No product with a limit has two
/// purchases of one buyer or person. What is known of buyers says nothing about persons, so it is not used.
pub(super) const SELL_BY_LIMIT_KEY: &str = sell_at_once!(
    "wanted.quantity",
    "coalesce(units, 0) + wanted.quantity > max_per_buyer",
    units_of_buyer_or_person!(),
    ", limit_key",
    ", ($13::TEXT[])[first:last]"
);

/// Counts the earlier purchases of a buyer in the batch as well. Those that repeat a known key take
/// nothing. If one is refused, so is every later one of the same quantity.
pub(super) const SELL_REPEATED_AT_ONCE: &str = sell_at_once!(
    "(sum(wanted.quantity) FILTER (WHERE known.id IS NULL) \
     OVER (PARTITION BY number, wanted.buyer ORDER BY wanted.place))::BIGINT",
    "TRUE",
    units_of_buyer!(),
    "",
    ""
);
