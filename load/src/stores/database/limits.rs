//! Buyers with more units than a product allows: accounts and, where the sale has `limitBy`, persons. A database that no
//! release with limit keys has migrated has no column for persons.

use super::SaleDatabase;

/// Accounts and persons above a limit that are listed; the others are counted up to [`MAX_COUNTED`].
pub const MAX_LISTED: usize = 10;
/// Accounts and persons above a limit that are read.
pub const MAX_COUNTED: usize = 1000;

/// Units of cancelled orders and of failed payments are back in stock.
const BY_ACCOUNTS: &str = "SELECT product_id, buyer AS name, quantity AS units, CAST(0 AS BIGINT) AS person \
     FROM orders WHERE state NOT IN ('cancelled', 'payment_failed')";
/// What erased accounts of a person had counts as well. A coupon is no product.
const BY_PERSONS: &str = "SELECT product_id, limit_key, quantity, CAST(1 AS BIGINT) \
     FROM orders WHERE limit_key IS NOT NULL AND state NOT IN ('cancelled', 'payment_failed') \
     UNION ALL SELECT item, limit_key, units, CAST(1 AS BIGINT) FROM erased_units";

/// Who has more units than the limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AboveLimit {
    /// The product
    pub product: String,
    /// The subject of the buyer's token, or the limit key of a person
    pub name: String,
    /// Whether it is a person
    pub is_person: bool,
    /// Units of the orders
    pub units: i64,
    /// The product's limit
    pub limit: i64,
}

/// Product, name, units, limit, and 1 for a person.
pub(super) type Row = (String, String, i64, i64, i64);

impl From<Row> for AboveLimit {
    fn from((product, name, units, limit, person): Row) -> Self {
        Self { product, name, is_person: person != 0, units, limit }
    }
}

/// The statement that gives a [`Row`] for each of them, at most [`MAX_COUNTED`].
pub(super) fn above_limit(has_limit_keys: bool) -> String {
    let persons = if has_limit_keys { format!(" UNION ALL {BY_PERSONS}") } else { String::new() };
    format!(
        "SELECT had.product_id, had.name, CAST(SUM(had.units) AS BIGINT), p.max_per_buyer, had.person \
         FROM ({BY_ACCOUNTS}{persons}) had JOIN products p ON p.id = had.product_id \
         WHERE p.max_per_buyer IS NOT NULL \
         GROUP BY had.product_id, had.name, had.person, p.max_per_buyer \
         HAVING SUM(had.units) > p.max_per_buyer \
         ORDER BY had.product_id, had.person, had.name LIMIT {MAX_COUNTED}"
    )
}

impl SaleDatabase {
    /// Whether orders have limit keys.
    pub(super) async fn has_limit_keys(&self) -> sqlx::Result<bool> {
        self.has_column("limit_key").await
    }
}
