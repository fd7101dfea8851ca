//! Buyers who wait for units. A database that no release with waiting lists has migrated has no table of them.

use std::collections::BTreeMap;

use super::SaleDatabase;

const POSTGRES_TABLE: &str = "SELECT count(*) FROM information_schema.tables \
     WHERE table_schema = current_schema() AND table_name = 'waitlist'";
const SQLITE_TABLE: &str = "SELECT count(*) FROM sqlite_schema WHERE name = 'waitlist'";

/// Who waits for no more units of a product than are left, in the order of the list.
const SERVABLE: &str = "SELECT w.product_id, s.available, w.quantity \
     FROM waitlist w JOIN stock s ON s.product_id = w.product_id \
     WHERE s.deleted_at IS NULL AND w.quantity <= s.available ORDER BY w.product_id, w.place";

impl SaleDatabase {
    /// Units on sale that the first who wait would get, by product; products without such units are not in it.
    /// `None`: the database is older than waiting lists.
    pub async fn unserved(&self) -> sqlx::Result<Option<BTreeMap<String, i64>>> {
        let tables: i64 = match self {
            Self::Postgres(pool) => sqlx::query_scalar(POSTGRES_TABLE).fetch_one(pool).await?,
            Self::Sqlite(pool) => sqlx::query_scalar(SQLITE_TABLE).fetch_one(pool).await?,
        };
        if tables == 0 {
            return Ok(None);
        }
        let rows: Vec<(String, i64, i64)> = match self {
            Self::Postgres(pool) => sqlx::query_as(SERVABLE).fetch_all(pool).await?,
            Self::Sqlite(pool) => sqlx::query_as(SERVABLE).fetch_all(pool).await?,
        };
        Ok(Some(unserved(rows)))
    }
}

/// Serves who waits first, as the sale does: who waits for more than is left by then is passed over.
fn unserved(rows: Vec<(String, i64, i64)>) -> BTreeMap<String, i64> {
    let mut units = BTreeMap::<String, i64>::new();
    for (product, available, quantity) in rows {
        let taken = units.entry(product).or_default();
        if *taken + quantity <= available {
            *taken += quantity;
        }
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_more_than_is_left_is_passed_over() {
        let row = |product: &str, available, quantity| (product.to_owned(), available, quantity);
        let rows = vec![row("1", 5, 4), row("1", 5, 2), row("1", 5, 1), row("2", 9, 3)];
        let units = [("1", 5), ("2", 3)].map(|(product, units)| (product.to_owned(), units));
        assert_eq!(unserved(rows), BTreeMap::from(units));
    }
}
