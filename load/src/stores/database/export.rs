//! Reads all orders, one after the other: no more than a row is in memory.

use futures::TryFutureExt;
use futures::stream::BoxStream;
use sqlx::AssertSqlSafe;

use super::SaleDatabase;

// By the primary key, so that the database sorts nothing. Ids begin with the time of the order.
const POSTGRES: &str = "SELECT CAST(id AS TEXT) AS id, CAST(line AS BIGINT) AS line, product_id AS product, buyer, \
     quantity, STATE AS state, payment_reference, \
     to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') AS created_at, AMOUNT \
     FROM orders ORDER BY orders.id, orders.line";
const SQLITE: &str = "SELECT id, line, product_id AS product, buyer, quantity, STATE AS state, payment_reference, \
     created_at, AMOUNT FROM orders ORDER BY orders.id, orders.line";

// Of a database that no release with prices has migrated, and of any other.
const NO_AMOUNT: &str = "CAST(NULL AS BIGINT) AS amount, CAST(NULL AS TEXT) AS currency";
const AMOUNT: &str =
    "CASE WHEN currency IS NOT NULL THEN unit_price * quantity END AS amount, currency";
const REFUNDED: &str =
    "CASE WHEN refunded_at_ms IS NULL THEN coalesce(ended_as, orders.state) ELSE 'refunded' END";

const POSTGRES_COLUMN: &str = "SELECT count(*) FROM information_schema.columns \
     WHERE table_schema = current_schema() AND table_name = 'orders' AND column_name = 'refunded_at_ms'";
const SQLITE_COLUMN: &str =
    "SELECT count(*) FROM pragma_table_info('orders') WHERE name = 'refunded_at_ms'";

/// One product of an order.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, sqlx::FromRow)]
pub struct OrderLine {
    /// Id of the order; all lines of an order have the same
    pub id: String,
    /// Number of the line, from 0
    pub line: i64,
    /// The product
    pub product: String,
    /// The subject of the buyer's token
    pub buyer: String,
    /// Units
    pub quantity: i64,
    /// `pending`, `confirmed`, `paid`, `cancelled`, `payment_failed`, `expired`, `refund_required` or `refunded`
    pub state: String,
    /// Reference of the reported payment
    pub payment_reference: Option<String>,
    /// Time of the order, RFC 3339 in UTC
    pub created_at: String,
    /// What the units cost when they were sold, in the smallest unit of the currency
    pub amount: Option<i64>,
    /// ISO 4217
    pub currency: Option<String>,
}

impl SaleDatabase {
    /// All lines of all orders at one moment, by order.
    pub fn order_lines(&self) -> BoxStream<'_, sqlx::Result<OrderLine>> {
        let lines = async move {
            let has_prices = self.has_prices().await?;
            let state = if has_prices { REFUNDED } else { self.state_column().await? };
            let amount = if has_prices { AMOUNT } else { NO_AMOUNT };
            let query = |text: &str| text.replace("STATE", state).replace("AMOUNT", amount);
            let lines: BoxStream<'_, sqlx::Result<OrderLine>> = match self {
                Self::Postgres(pool) => sqlx::query_as(AssertSqlSafe(query(POSTGRES))).fetch(pool),
                Self::Sqlite(pool) => sqlx::query_as(AssertSqlSafe(query(SQLITE))).fetch(pool),
            };
            sqlx::Result::Ok(lines)
        };
        Box::pin(lines.try_flatten_stream())
    }

    /// Whether orders have prices and refunds.
    async fn has_prices(&self) -> sqlx::Result<bool> {
        let columns: i64 = match self {
            Self::Postgres(pool) => sqlx::query_scalar(POSTGRES_COLUMN).fetch_one(pool).await?,
            Self::Sqlite(pool) => sqlx::query_scalar(SQLITE_COLUMN).fetch_one(pool).await?,
        };
        Ok(columns > 0)
    }
}
