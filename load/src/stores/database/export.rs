//! Reads all orders, one after the other: no more than a row is in memory.

use futures::stream::BoxStream;
use futures::{TryFutureExt, TryStreamExt};
use sqlx::AssertSqlSafe;

use super::SaleDatabase;

// By the primary key, so that the database sorts nothing. Ids begin with the time of the order.
const POSTGRES: &str = "SELECT CAST(id AS TEXT), CAST(line AS BIGINT), product_id, buyer, quantity, STATE, \
     payment_reference, to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') \
     FROM orders ORDER BY orders.id, orders.line";
const SQLITE: &str = "SELECT id, line, product_id, buyer, quantity, STATE, payment_reference, created_at \
     FROM orders ORDER BY id, line";

type Row = (String, i64, String, String, i64, String, Option<String>, String);

/// One product of an order.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
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
    /// `pending`, `confirmed`, `paid`, `cancelled`, `payment_failed`, `expired` or `refund_required`
    pub state: String,
    /// Reference of the reported payment
    pub payment_reference: Option<String>,
    /// Time of the order, RFC 3339 in UTC
    pub created_at: String,
}

impl SaleDatabase {
    /// All lines of all orders at one moment, by order.
    pub fn order_lines(&self) -> BoxStream<'_, sqlx::Result<OrderLine>> {
        let line = |row: Row| {
            let (id, line, product, buyer, quantity, state, payment_reference, created_at) = row;
            OrderLine { id, line, product, buyer, quantity, state, payment_reference, created_at }
        };
        let lines = async move {
            let state = self.state_column().await?;
            let lines: BoxStream<'_, sqlx::Result<Row>> = match self {
                Self::Postgres(pool) => {
                    sqlx::query_as(AssertSqlSafe(POSTGRES.replace("STATE", state))).fetch(pool)
                }
                Self::Sqlite(pool) => {
                    sqlx::query_as(AssertSqlSafe(SQLITE.replace("STATE", state))).fetch(pool)
                }
            };
            sqlx::Result::Ok(lines.map_ok(line))
        };
        Box::pin(lines.try_flatten_stream())
    }
}
