//! The statements that record what Redis decided.

/// The rows of products that were not deleted.
macro_rules! rows {
    ($which:literal) => {
        concat!(
            "SELECT product_id, available, fence, incarnation, recorded FROM stock \
             WHERE deleted_at IS NULL ",
            $which
        )
    };
}
pub(super) const ROWS: &str = rows!("ORDER BY product_id");
pub(super) const ROW: &str = rows!("AND product_id = $1");

/// Begins a Redis stock made from this row.
pub(super) const REINCARNATE: &str = "UPDATE stock SET fence = $2, incarnation = $2, recorded = 0 \
     WHERE product_id = $1 AND fence < $2 AND deleted_at IS NULL RETURNING available";

pub(super) const TAKE_RECORDED: &str = "UPDATE stock SET available = available - $2, \
     recorded = recorded + CASE WHEN incarnation = $3 THEN $2 ELSE 0 END WHERE product_id = $1";

/// `ON CONFLICT` would nearly double what a row costs, and all are new but for those of a replica
/// that died. The arguments, of this and the next: the column of limit keys, and the array of its values, or nothing.
macro_rules! insert_new {
    ($limit_key:literal, $limit_keys:literal) => {
        concat!(
            "INSERT INTO orders \
             (id, product_id, buyer, quantity, idempotency_key, fence, unit_price, currency",
            $limit_key,
            ") SELECT unnest($3::UUID[]), $1, unnest($4::TEXT[]), unnest($5::BIGINT[]), unnest($6::TEXT[]), $2, \
             unnest($7::BIGINT[]), unnest($8::TEXT[])",
            $limit_keys
        )
    };
}
pub(super) const INSERT_NEW: &str = insert_new!("", "");
pub(super) const INSERT_NEW_BY_LIMIT_KEY: &str = insert_new!(", limit_key", ", unnest($9::TEXT[])");

/// Returns the quantities of those that were not there.
macro_rules! insert_unknown {
    ($limit_key:literal, $limit_keys:literal) => {
        concat!(
            "INSERT INTO orders \
             (id, product_id, buyer, quantity, idempotency_key, fence, unit_price, currency",
            $limit_key,
            ") SELECT id, $1, buyer, quantity, key, $2, price, currency",
            $limit_key,
            " FROM unnest($3::UUID[], $4::TEXT[], $5::BIGINT[], $6::TEXT[], $7::BIGINT[], $8::TEXT[]",
            $limit_keys,
            ") AS decided (id, buyer, quantity, key, price, currency",
            $limit_key,
            ") ORDER BY id ON CONFLICT DO NOTHING RETURNING quantity"
        )
    };
}
pub(super) const INSERT_UNKNOWN: &str = insert_unknown!("", "");
pub(super) const INSERT_UNKNOWN_BY_LIMIT_KEY: &str = insert_unknown!(", limit_key", ", $9::TEXT[]");
