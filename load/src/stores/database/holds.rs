//! Holds of unpaid orders. A database that no release with holds has migrated has no columns for them.

use super::SaleDatabase;

/// A hold that ended this long ago should not be open: another replica takes over within 5 s.
const GRACE_MS: i64 = 10_000;

/// Unpaid orders: open holds, those of them that should have ended, and orders without an end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holds {
    /// Orders that hold units until a time
    pub open: i64,
    /// Those whose time has passed
    pub overdue: i64,
    /// The units of these
    pub overdue_units: i64,
    /// Orders that hold units without an end, as a release before holds made them
    pub endless: i64,
    /// The units of these
    pub endless_units: i64,
}

/// The columns of [`counts`].
pub(super) type Row = (i64, i64, i64, i64, i64);

impl From<Row> for Holds {
    fn from((open, overdue, overdue_units, endless, endless_units): Row) -> Self {
        Self { open, overdue, overdue_units, endless, endless_units }
    }
}

/// The counts, with the database's time.
pub(super) fn counts(now_ms: &str) -> String {
    let overdue = format!("expires_at_ms + {GRACE_MS} < {now_ms}");
    format!(
        "SELECT CAST(count(DISTINCT CASE WHEN expires_at_ms IS NOT NULL THEN id END) AS BIGINT), \
         CAST(count(DISTINCT CASE WHEN {overdue} THEN id END) AS BIGINT), \
         CAST(coalesce(sum(CASE WHEN {overdue} THEN quantity END), 0) AS BIGINT), \
         CAST(count(DISTINCT CASE WHEN expires_at_ms IS NULL THEN id END) AS BIGINT), \
         CAST(coalesce(sum(CASE WHEN expires_at_ms IS NULL THEN quantity END), 0) AS BIGINT) \
         FROM orders WHERE state = 'pending'"
    )
}

/// The expression of an order's state.
pub(super) const fn state_column(has_holds: bool) -> &'static str {
    if has_holds { "coalesce(ended_as, state)" } else { "state" }
}

impl SaleDatabase {
    /// Whether orders have holds.
    pub(super) async fn has_holds(&self) -> sqlx::Result<bool> {
        self.has_column("ended_as").await
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
