//! What is read to find the first who wait.

use sqlx::{AssertSqlSafe, Row as _};

use super::*;
use crate::Ledger;
use crate::testing::{on_postgres, plan, pool_of};

/// 400 wait for each of 50 products, each third of them for one unit.
const OTHERS: &str = "INSERT INTO waitlist (product_id, buyer, quantity, hold_ms) \
     WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 20000) \
     SELECT 'p' || (n % 50), 'b' || n, 1 + n % 3, 1000 FROM numbers";

#[tokio::test]
async fn the_first_who_wait_are_found_by_the_index_of_their_product_on_postgres() {
    let (_server, ledger) = on_postgres(2).await;
    let prepare = AssertSqlSafe(format!("{OTHERS}; ANALYZE waitlist"));
    sqlx::raw_sql(prepare).execute(pool_of(&ledger)).await.unwrap();
    let plan = plan(pool_of(&ledger), WAITING_ON_POSTGRES).await;
    assert!(plan.contains("waitlist_places"), "{plan}");
    assert!(!plan.contains("Seq Scan") && !plan.contains("waitlist_pkey"), "{plan}");
}

#[tokio::test]
async fn the_first_who_wait_are_found_by_the_index_of_their_product_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("sale.db").display());
    let ledger = Ledger::connect_lazy(&url, 1).unwrap();
    ledger.migrate().await.unwrap();
    let Ledger::Sqlite(sqlite) = &ledger else { panic!("it is SQLite") };
    let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {WAITING_ON_SQLITE}"));
    let rows = sqlx::raw_sql(explain).fetch_all(&sqlite.readers).await.unwrap();
    let plan: String = rows.iter().map(|row| row.get::<String, _>("detail") + "\n").collect();
    assert!(plan.contains("INDEX waitlist_places"), "{plan}");
    assert!(!plan.contains("TEMP B-TREE"), "it sorts nothing: {plan}");
}
