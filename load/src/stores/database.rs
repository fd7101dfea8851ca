//! Reads the sale's database. All SQL of the load tool is here and in the child modules.

pub mod export;
pub mod holds;
pub mod limits;
pub mod totals;
pub mod waitlist;

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{TryFutureExt, TryStreamExt};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, PgPool, SqlitePool};

use crate::observed::Order;

// One text for both databases: PostgreSQL's ids are of type UUID, SQLite's are TEXT.
const ORDERS: &str =
    "SELECT CAST(id AS TEXT), buyer, quantity, STATE FROM orders WHERE product_id = $1";
const STOCK: &str = "SELECT declared, available FROM stock WHERE product_id = $1";
const ISSUES: &str = "SELECT CAST(id AS TEXT), buyer, CAST(1 AS BIGINT), 'issued' FROM coupon_issues WHERE coupon_id = $1";
const COUPON: &str = "SELECT quantity, quantity - issued FROM coupons WHERE id = $1";

const POSTGRES_COLUMN: &str = "SELECT count(*) FROM information_schema.columns \
     WHERE table_schema = current_schema() AND table_name = 'orders' AND CAST(column_name AS TEXT) = $1";
const SQLITE_COLUMN: &str = "SELECT count(*) FROM pragma_table_info('orders') WHERE name = $1";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

type OrderRow = (String, String, i64, String);

/// What is sold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goods {
    Product,
    Coupon,
}

/// The units of a product or a coupon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Units {
    /// Ever put on sale
    pub declared: i64,
    /// Left
    pub available: i64,
}

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

    /// Whether orders have a column of this name, which a release may have brought.
    async fn has_column(&self, name: &str) -> sqlx::Result<bool> {
        let columns: i64 = match self {
            Self::Postgres(pool) => {
                sqlx::query_scalar(POSTGRES_COLUMN).bind(name).fetch_one(pool).await?
            }
            Self::Sqlite(pool) => {
                sqlx::query_scalar(SQLITE_COLUMN).bind(name).fetch_one(pool).await?
            }
        };
        Ok(columns > 0)
    }

    /// The units of a product or a coupon; an error when it does not exist.
    pub async fn units(&self, goods: Goods, id: &str) -> sqlx::Result<Units> {
        let units = match goods {
            Goods::Product => STOCK,
            Goods::Coupon => COUPON,
        };
        let (declared, available) = match self {
            Self::Postgres(pool) => sqlx::query_as(units).bind(id).fetch_one(pool).await?,
            Self::Sqlite(pool) => sqlx::query_as(units).bind(id).fetch_one(pool).await?,
        };
        Ok(Units { declared, available })
    }

    /// The orders of a product, or the issues of a coupon, one after the other: no more than a few are in memory.
    pub fn orders(&self, goods: Goods, id: &str) -> BoxStream<'_, sqlx::Result<Order>> {
        let order = |(id, buyer, quantity, state): OrderRow| Order { id, buyer, quantity, state };
        let id = id.to_owned();
        let orders = async move {
            let query = match goods {
                Goods::Product => ORDERS.replace("STATE", self.state_column().await?),
                Goods::Coupon => ISSUES.to_owned(),
            };
            let query = AssertSqlSafe(query);
            let rows: BoxStream<'_, sqlx::Result<OrderRow>> = match self {
                Self::Postgres(pool) => sqlx::query_as(query).bind(id).fetch(pool),
                Self::Sqlite(pool) => sqlx::query_as(query).bind(id).fetch(pool),
            };
            sqlx::Result::Ok(rows.map_ok(order))
        };
        Box::pin(orders.try_flatten_stream())
    }
}
