//! What the sale's database says, read past the app: the count that answers are compared with.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use sqlx::{PgPool, SqlitePool};

/// Every product with what was taken of it, what is left, and the orders for it. One statement, so
/// that it is one moment.
const PRODUCTS: &str = "SELECT s.product_id, s.declared - s.available, s.available, \
     coalesce(o.orders, 0), CAST(coalesce(o.units, 0) AS BIGINT) FROM stock s LEFT JOIN \
     (SELECT product_id, count(*) AS orders, sum(quantity) AS units FROM orders \
      GROUP BY product_id) o ON o.product_id = s.product_id";

/// Of product `$1`, `$2` of them, and the units that they took.
const FILL: &str = "WITH filled AS (\
     INSERT INTO orders (id, product_id, buyer, quantity, idempotency_key, fence) \
     SELECT ('00000000-0000-7000-8000-' || lpad($1, 4, '0') || lpad(n::TEXT, 8, '0'))::UUID, $1, \
     'filled-' || n, 1, 'filled-' || $1 || '-' || n, 1 FROM generate_series(1, $2) n) \
     UPDATE stock SET available = available - $2 WHERE product_id = $1";

/// Of product `$1`, `$2` of it for every second of the buyers, one order each.
const FILL_BUYERS: &str = "WITH filled AS (\
     INSERT INTO orders (id, product_id, buyer, quantity, fence) \
     SELECT gen_random_uuid(), $1, 'buyer-' || n, $2, 1 FROM generate_series(0, $3, 2) n \
     RETURNING quantity) \
     UPDATE stock SET available = available - (SELECT sum(quantity) FROM filled)::BIGINT \
     WHERE product_id = $1";

/// Of 16 MiB: more than the longest load writes.
const LOG_FILES: usize = 24;

/// A connection to it.
#[derive(Debug)]
pub(super) enum Ledger {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

/// All products at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Books {
    pub(super) orders: u64,
    /// Units left, by product.
    pub(super) available: BTreeMap<String, i64>,
}

/// The id of order `number` of those that [`Ledger::fill`] puts there.
pub(super) fn order_id(product: &str, number: u32) -> String {
    format!("00000000-0000-7000-8000-{product:0>4}{number:08}")
}

/// Its buyer.
pub(super) fn order_buyer(number: u32) -> String {
    format!("filled-{number}")
}

type Row = (String, i64, i64, i64, i64);

impl Ledger {
    pub(super) async fn connect(url: &str) -> Result<Self> {
        let ledger = if url.starts_with("sqlite:") {
            Self::Sqlite(SqlitePool::connect(url).await?)
        } else {
            Self::Postgres(PgPool::connect(url).await?)
        };
        Ok(ledger)
    }

    /// Makes PostgreSQL's log files for what a load writes, as a server has them that was in use for
    /// a while. Filling a new one with zeros keeps every commit waiting for some 40 ms.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn make_log_files(&self) -> Result<()> {
        let Self::Postgres(pool) = self else {
            return Ok(());
        };
        for _file in 0..LOG_FILES {
            let fill = "SELECT pg_logical_emit_message(false, 'bench', ''), pg_switch_wal()";
            sqlx::raw_sql(fill).execute(pool).await?;
        }
        // From here on they are used again.
        sqlx::raw_sql("CHECKPOINT").execute(pool).await?;
        Ok(())
    }

    /// Reads all products.
    ///
    /// # Errors
    /// When the database fails, or the orders for a product are not the units taken of it.
    pub(super) async fn books(&self) -> Result<Books> {
        let rows: Vec<Row> = match self {
            Self::Postgres(pool) => sqlx::query_as(PRODUCTS).fetch_all(pool).await,
            Self::Sqlite(pool) => sqlx::query_as(PRODUCTS).fetch_all(pool).await,
        }
        .context("cannot read the sale's database")?;
        balance(rows)
    }

    /// Puts `orders` orders of one unit into PostgreSQL, each with a key and a buyer of its own, as if
    /// they had been sold. Their ids and buyers are [`order_id`] and [`order_buyer`] of 1, 2, ...
    ///
    /// # Errors
    /// When the database fails, is SQLite, or has less left.
    pub(super) async fn fill(&self, product: &str, orders: u32) -> Result<()> {
        let Self::Postgres(pool) = self else {
            bail!("orders can be put into PostgreSQL only");
        };
        sqlx::query(FILL).bind(product).bind(i64::from(orders)).execute(pool).await?;
        Ok(())
    }

    /// Gives `units` units to every second one of `buyers` buyers: `buyer-0`, `buyer-2`, ...
    ///
    /// # Errors
    /// As [`Ledger::fill`].
    pub(super) async fn fill_every_second_buyer(
        &self,
        product: &str,
        units: u32,
        buyers: usize,
    ) -> Result<()> {
        let Self::Postgres(pool) = self else {
            bail!("orders can be put into PostgreSQL only");
        };
        let last = i32::try_from(buyers)? - 1;
        let fill = sqlx::query(FILL_BUYERS).bind(product).bind(i64::from(units)).bind(last);
        fill.execute(pool).await?;
        Ok(())
    }

    /// What PostgreSQL has written to its log so far; 0 for SQLite.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn log_bytes(&self) -> Result<f64> {
        let Self::Postgres(pool) = self else {
            return Ok(0.0);
        };
        let query = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8";
        Ok(sqlx::query_scalar(query).fetch_one(pool).await?)
    }
}

fn balance(rows: Vec<Row>) -> Result<Books> {
    let mut books = Books { orders: 0, available: BTreeMap::new() };
    for (product, taken, available, orders, units) in rows {
        ensure!(
            taken == units,
            "product {product}: orders for {units} units, and {taken} were taken from the stock"
        );
        books.orders += u64::try_from(orders)?;
        books.available.insert(product, available);
    }
    Ok(books)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_must_be_what_was_taken() {
        let good = vec![("1".to_owned(), 3, 7, 2, 3), ("2".to_owned(), 0, 10, 0, 0)];
        let books = balance(good).unwrap();
        assert_eq!((books.orders, books.available["1"]), (2, 7));
        assert!(balance(vec![("1".to_owned(), 3, 7, 2, 2)]).is_err());
        assert!(balance(vec![("1".to_owned(), 0, 7, 1, 1)]).is_err());
    }
}
