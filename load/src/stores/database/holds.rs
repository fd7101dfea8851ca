//! Holds of unpaid orders. A database that no release with holds has migrated has no columns for them.

use super::SaleDatabase;

const POSTGRES_COLUMN: &str = "SELECT count(*) FROM information_schema.columns \
     WHERE table_schema = current_schema() AND table_name = 'orders' AND column_name = 'ended_as'";
const SQLITE_COLUMN: &str =
    "SELECT count(*) FROM pragma_table_info('orders') WHERE name = 'ended_as'";

/// A hold that ended this long ago should not be open: another replica takes over within 5 s.
const GRACE_MS: i64 = 10_000;

/// Open holds, and those of them that should have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holds {
    /// Orders that hold units until a time
    pub open: i64,
    /// Those whose time has passed
    pub overdue: i64,
    /// The units of these
    pub overdue_units: i64,
}

/// The counts, with the database's time.
pub(super) fn counts(now_ms: &str) -> String {
    let overdue = format!("expires_at_ms + {GRACE_MS} < {now_ms}");
    format!(
        "SELECT CAST(count(DISTINCT id) AS BIGINT), \
         CAST(count(DISTINCT CASE WHEN {overdue} THEN id END) AS BIGINT), \
         CAST(coalesce(sum(CASE WHEN {overdue} THEN quantity END), 0) AS BIGINT) \
         FROM orders WHERE state = 'pending' AND expires_at_ms IS NOT NULL"
    )
}

/// The expression of an order's state.
pub(super) const fn state_column(has_holds: bool) -> &'static str {
    if has_holds { "coalesce(ended_as, state)" } else { "state" }
}

impl SaleDatabase {
    /// Whether orders have holds.
    pub(super) async fn has_holds(&self) -> sqlx::Result<bool> {
        let columns: i64 = match self {
            Self::Postgres(pool) => sqlx::query_scalar(POSTGRES_COLUMN).fetch_one(pool).await?,
            Self::Sqlite(pool) => sqlx::query_scalar(SQLITE_COLUMN).fetch_one(pool).await?,
        };
        Ok(columns > 0)
    }

    /// The expression of an order's state.
    pub(super) async fn state_column(&self) -> sqlx::Result<&'static str> {
        Ok(state_column(self.has_holds().await?))
    }

    pub(super) fn now_ms(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
            Self::Sqlite(_) => "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
        }
    }
}
