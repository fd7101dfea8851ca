//! By what the sale limits buyers: by their account or, where it names a claim of access tokens, by the person for whom
//! that claim stands. No account and no person has more than `max_per_buyer` units of a product.

use crate::calls::bounded;
use crate::error::LedgerError;
use crate::ledger::{Ledger, either};
use crate::limit_key::LimitBy;
use crate::postgres::PostgresLedger;
use crate::sqlite::SqliteLedger;

/// The migration that brings limit keys: an app that does not know it would sell without them.
const MIGRATION: i64 = 28;

const READ: &str = "SELECT limit_claim, coalesce(erasure_salt, '') FROM installation WHERE limit_claim IS NOT NULL";

/// A sale with a claim needs an app that knows limit keys, and only such a sale does.
const SET: &str = "UPDATE installation SET limit_claim = $1, needs_migration = CASE \
     WHEN CAST($1 AS TEXT) IS NOT NULL AND needs_migration < $2 THEN $2 \
     WHEN CAST($1 AS TEXT) IS NULL AND needs_migration = $2 THEN 0 ELSE needs_migration END";

impl Ledger {
    /// The claim by which the sale limits buyers; `None`: by their account.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn limit_by(&self) -> Result<Option<LimitBy>, LedgerError> {
        let row = bounded(async { either!(self, ledger => ledger.limit_by()) }).await?;
        Ok(row.map(|(claim, salt)| LimitBy { claim, salt }))
    }

    /// Limits buyers by this claim from now on; `None`: by their account. Every replica knows it within a second;
    /// replicas of a release that does not know limit keys stop selling.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_limit_claim(&self, claim: Option<&str>) -> Result<(), LedgerError> {
        bounded(async { either!(self, ledger => ledger.set_limit_claim(claim)) }).await
    }
}

/// One text for two databases.
macro_rules! on {
    ($ledger:ty, $read:ident, $write:ident) => {
        impl $ledger {
            async fn limit_by(&self) -> Result<Option<(String, String)>, LedgerError> {
                Ok(sqlx::query_as(READ).fetch_optional(&self.$read).await?)
            }

            async fn set_limit_claim(&self, claim: Option<&str>) -> Result<(), LedgerError> {
                let set = sqlx::query(SET).bind(claim).bind(MIGRATION);
                set.execute(&self.$write).await?;
                Ok(())
            }
        }
    };
}

on!(PostgresLedger, pool, pool);
on!(SqliteLedger, readers, writer);

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Row};

    use super::*;
    use crate::limit_key::BOUGHT_BY_NAMES;
    use crate::testing::{on_postgres, plan, pool_of};
    use crate::{lookups, sqlite, waitlist};

    /// What the database would do, a step a line.
    async fn plan_on_sqlite(ledger: &SqliteLedger, statement: &str) -> Vec<String> {
        let explain = sqlx::raw_sql(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")));
        let rows = explain.fetch_all(&ledger.readers).await.unwrap();
        rows.iter().map(|row| row.get("detail")).collect()
    }

    #[tokio::test]
    async fn no_read_of_limits_reads_all_orders() {
        let both = [lookups::UNITS_AFTER, lookups::UNITS_OF, waitlist::DEMAND];
        let (_server, ledger) = on_postgres(2).await;
        for statement in both.into_iter().chain([lookups::BOUGHT, BOUGHT_BY_NAMES]) {
            let plan = plan(pool_of(&ledger), statement).await;
            assert!(!plan.contains("Seq Scan on orders"), "{statement}\n{plan}");
            assert!(plan.contains("orders_limit_key"), "{plan}");
        }
        let plan = plan(pool_of(&ledger), waitlist::DEMAND).await;
        assert!(plan.contains("orders_held_products"), "{plan}");
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("sale.db").display());
        let ledger = Ledger::connect_lazy(&url, 2).unwrap();
        ledger.migrate().await.unwrap();
        let Ledger::Sqlite(sqlite) = &ledger else { panic!("it is SQLite") };
        let own = [sqlite::sell::BOUGHT_BY_PERSONS, sqlite::sell::BOUGHT_BY_NAME];
        for statement in both.into_iter().chain(own) {
            let plan = plan_on_sqlite(sqlite, statement).await;
            let reads_all =
                |line: &String| ["SCAN orders", "SCAN o", "SCAN h"].contains(&line.as_str());
            assert!(!plan.iter().any(reads_all), "{statement}\n{plan:#?}");
            assert!(plan.iter().any(|line| line.contains("orders_limit_key")), "{plan:#?}");
        }
        let plan = plan_on_sqlite(sqlite, waitlist::DEMAND).await;
        assert!(plan.iter().any(|line| line.contains("orders_held_products")), "{plan:#?}");
    }
}
