//! Holds: pending orders have their units until a time of the database, and are found by it. Nothing in
//! memory counts down, and no statement reads other orders.

use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;
use uuid::fmt::Hyphenated;

use crate::calls::{COUNT_TIMEOUT, bounded, bounded_by};
use crate::error::LedgerError;
use crate::ledger::{Ledger, either};
use crate::postgres::PostgresLedger;
use crate::sql::postgres_now;
use crate::sqlite::SqliteLedger;

/// The condition of the index `orders_open_holds`.
macro_rules! open_hold {
    () => {
        "state = 'pending' AND line = 0 AND expires_at_ms IS NOT NULL"
    };
}

/// The first holds that end before a time, behind an end and an id, with their products. `$lines` finds those of a hold.
macro_rules! due {
    ($now:expr, $after:literal, $id:literal, $limit:literal, $lines:literal) => {
        concat!(
            "SELECT due.expires_at_ms, o.id, o.product_id FROM (SELECT expires_at_ms, id FROM orders WHERE ",
            open_hold!(),
            " AND expires_at_ms <= ",
            $now,
            " AND (expires_at_ms, id) > (",
            $after,
            ", ",
            $id,
            ") ORDER BY expires_at_ms, id LIMIT ",
            $limit,
            ") due JOIN ",
            $lines,
            " ORDER BY due.expires_at_ms, o.id, o.line"
        )
    };
}

/// `OFFSET 0`: one look into the index for each, though the plan may be of a time when there were no orders.
const DUE_ON_POSTGRES: &str = due!(
    postgres_now!(),
    "$1",
    "$2",
    "$3",
    "LATERAL (SELECT id, product_id, line FROM orders WHERE id = due.id OFFSET 0) o ON TRUE"
);
const DUE_ON_SQLITE: &str = due!("$4", "$1", "$2", "$3", "orders o ON o.id = due.id");

/// Open holds, and the end of the first one.
macro_rules! counts {
    () => {
        concat!("SELECT count(*), min(expires_at_ms) FROM orders WHERE ", open_hold!())
    };
}

const COUNTS_ON_POSTGRES: &str =
    concat!("SELECT *, ", postgres_now!(), " FROM (", counts!(), ") AS open");
const COUNTS_ON_SQLITE: &str = counts!();

/// The clock of the machine, in milliseconds since 1970; SQLite has the same.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A hold whose time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueHold {
    /// When it ended, in milliseconds since 1970.
    pub expires_at_ms: i64,
    /// The order.
    pub id: Uuid,
    /// Its products, by id.
    pub products: Vec<String>,
}

/// The holds of a sale at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HoldCounts {
    /// Orders that hold units until a time.
    pub open: i64,
    /// How long ago the first of them should have ended; 0: none should.
    pub overdue_ms: i64,
}

impl HoldCounts {
    fn new(open: i64, first_end: Option<i64>, now_ms: i64) -> Self {
        let overdue_ms = first_end.map_or(0, |end| now_ms.saturating_sub(end)).max(0);
        Self { open, overdue_ms }
    }
}

impl Ledger {
    /// The first holds whose time has come, by their ends: at most `limit`, behind the hold `after`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn due_holds(
        &self,
        after: Option<(i64, Uuid)>,
        limit: i64,
    ) -> Result<Vec<DueHold>, LedgerError> {
        let after = after.unwrap_or((i64::MIN, Uuid::nil()));
        let rows = bounded(async { either!(self, ledger => ledger.due_holds(after, limit)) });
        let mut holds = Vec::<DueHold>::new();
        for (expires_at_ms, id, product) in rows.await? {
            match holds.last_mut() {
                Some(last) if last.id == id => last.products.push(product),
                _ => holds.push(DueHold { expires_at_ms, id, products: vec![product] }),
            }
        }
        Ok(holds)
    }

    /// Counts the open holds, by their index.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn hold_counts(&self) -> Result<HoldCounts, LedgerError> {
        bounded_by(COUNT_TIMEOUT, async { either!(self, ledger => ledger.hold_counts()) }).await
    }
}

impl PostgresLedger {
    async fn due_holds(
        &self,
        (after, id): (i64, Uuid),
        limit: i64,
    ) -> Result<Vec<(i64, Uuid, String)>, LedgerError> {
        let due = sqlx::query_as(DUE_ON_POSTGRES).bind(after).bind(id).bind(limit);
        Ok(due.fetch_all(&self.pool).await?)
    }

    async fn hold_counts(&self) -> Result<HoldCounts, LedgerError> {
        let counts: (i64, Option<i64>, i64) =
            sqlx::query_as(COUNTS_ON_POSTGRES).fetch_one(&self.pool).await?;
        Ok(HoldCounts::new(counts.0, counts.1, counts.2))
    }
}

impl SqliteLedger {
    async fn due_holds(
        &self,
        (after, id): (i64, Uuid),
        limit: i64,
    ) -> Result<Vec<(i64, Uuid, String)>, LedgerError> {
        let due = sqlx::query_as(DUE_ON_SQLITE)
            .bind(after)
            .bind(id.hyphenated())
            .bind(limit)
            .bind(now_ms());
        let rows: Vec<(i64, Hyphenated, String)> = due.fetch_all(&self.readers).await?;
        Ok(rows.into_iter().map(|(end, id, product)| (end, id.into_uuid(), product)).collect())
    }

    async fn hold_counts(&self) -> Result<HoldCounts, LedgerError> {
        let counts: (i64, Option<i64>) =
            sqlx::query_as(COUNTS_ON_SQLITE).fetch_one(&self.readers).await?;
        Ok(HoldCounts::new(counts.0, counts.1, now_ms()))
    }
}

#[cfg(test)]
mod tests;
