//! Reads the sale's database. All SQL of the load tool is here and in the child modules.

pub mod export;
pub mod totals;

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{PgPool, SqlitePool};

use crate::observed::{DatabaseState, Order};

// One text for both databases: PostgreSQL's ids are of type UUID, SQLite's are TEXT.
const ORDERS: &str =
    "SELECT CAST(id AS TEXT), buyer, quantity, state FROM orders WHERE product_id = $1";
const STOCK: &str = "SELECT declared, available FROM stock WHERE product_id = $1";
const ISSUES: &str = "SELECT CAST(id AS TEXT), buyer, CAST(1 AS BIGINT), 'issued' FROM coupon_issues WHERE coupon_id = $1";
const COUPON: &str = "SELECT quantity, quantity - issued FROM coupons WHERE id = $1";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

type OrderRow = (String, String, i64, String);

/// The sale's database, read only.
#[derive(Debug)]
pub enum SaleDatabase {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

impl SaleDatabase {
    /// Connects at the first query; with a file of authorities over TLS.
    pub fn connect_lazy(url: &str, ca_file: Option<&Path>) -> sqlx::Result<Self> {
        if url.starts_with("sqlite:") {
            // No `read_only`: SQLite needs to write to its index of the write-ahead log.
            let options = SqliteConnectOptions::from_str(url)?.create_if_missing(false);
            let pool = SqlitePoolOptions::new().max_connections(1).acquire_timeout(CONNECT_TIMEOUT);
            Ok(Self::Sqlite(pool.connect_lazy_with(options)))
        } else {
            let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT_TIMEOUT);
            let options = PgConnectOptions::from_str(url)?;
            let options = match ca_file {
                Some(file) => options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert(file),
                None => options,
            };
            Ok(Self::Postgres(pool.connect_lazy_with(options)))
        }
    }

    /// The units left of a product and its orders; an error when the product does not exist.
    pub async fn state(&self, product: &str) -> sqlx::Result<DatabaseState> {
        self.read(STOCK, ORDERS, product).await
    }

    /// The coupons that are left, and those that were issued; an error when the coupon does not exist.
    pub async fn coupon(&self, id: &str) -> sqlx::Result<DatabaseState> {
        self.read(COUPON, ISSUES, id).await
    }

    async fn read(
        &self,
        units: &'static str,
        orders: &'static str,
        id: &str,
    ) -> sqlx::Result<DatabaseState> {
        let ((declared, available), rows): ((i64, i64), Vec<OrderRow>) = match self {
            Self::Postgres(pool) => (
                sqlx::query_as(units).bind(id).fetch_one(pool).await?,
                sqlx::query_as(orders).bind(id).fetch_all(pool).await?,
            ),
            Self::Sqlite(pool) => (
                sqlx::query_as(units).bind(id).fetch_one(pool).await?,
                sqlx::query_as(orders).bind(id).fetch_all(pool).await?,
            ),
        };
        let order = |(id, buyer, quantity, state)| Order { id, buyer, quantity, state };
        Ok(DatabaseState { declared, available, orders: rows.into_iter().map(order).collect() })
    }
}
