//! What is read to find the holds that are due.

use sqlx::{AssertSqlSafe, Row as _};

use super::*;
use crate::testing::{on_postgres, plan_without_rows, pool_of};

const OTHERS: i64 = 50_000;

#[tokio::test]
async fn due_holds_are_found_by_their_index_among_many_orders_on_postgres() {
    let (_server, ledger) = on_postgres(2).await;
    let at_first = plan_without_rows(pool_of(&ledger), "orders", DUE_ON_POSTGRES).await;
    assert!(at_first.contains("Index Cond: (id = orders.id)"), "{at_first}");
    let insert = format!(
        "INSERT INTO orders (id, product_id, buyer, quantity, fence, state, expires_at_ms) \
         SELECT gen_random_uuid(), '1', 'ann', 1, 1, CASE n % 100 WHEN 0 THEN 'pending' ELSE 'confirmed' END, \
         CASE n % 100 WHEN 0 THEN n END FROM generate_series(1, {OTHERS}) n; ANALYZE orders"
    );
    sqlx::raw_sql(AssertSqlSafe(insert)).execute(pool_of(&ledger)).await.unwrap();
    for statement in [DUE_ON_POSTGRES, COUNTS_ON_POSTGRES] {
        let mut explained = sqlx::query(AssertSqlSafe(format!("EXPLAIN {statement}")));
        if statement == DUE_ON_POSTGRES {
            explained = explained.bind(i64::MIN).bind(Uuid::nil()).bind(100_i64);
        }
        let plan = explained.fetch_all(pool_of(&ledger)).await.unwrap();
        let plan: String = plan.iter().map(|row| row.get::<String, _>(0) + "\n").collect();
        assert!(plan.contains("orders_open_holds"), "{plan}");
        assert!(!plan.contains("Seq Scan"), "{plan}");
        // The open holds that are not due are not read.
        let ends_there =
            |line: &str| line.contains("Index Cond") && line.contains("expires_at_ms <=");
        assert!(statement != DUE_ON_POSTGRES || plan.lines().any(ends_there), "{plan}");
    }
    let first = ledger.due_holds(None, 400).await.unwrap();
    let last = first.last().map(|last| (last.expires_at_ms, last.id));
    let rest = ledger.due_holds(last, 400).await.unwrap();
    let ends: Vec<i64> = first.iter().chain(&rest).map(|hold| hold.expires_at_ms).collect();
    assert_eq!(
        ends,
        (1..=OTHERS / 100).map(|n| n * 100).collect::<Vec<_>>(),
        "none twice, in order"
    );
    assert_eq!(ledger.hold_counts().await.unwrap().open, OTHERS / 100);
}

#[tokio::test]
async fn due_holds_are_found_by_their_index_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("sale.db").display());
    let ledger = Ledger::connect_lazy(&url, 1).unwrap();
    ledger.migrate().await.unwrap();
    let Ledger::Sqlite(sqlite) = &ledger else { unreachable!() };
    for statement in [DUE_ON_SQLITE, COUNTS_ON_SQLITE] {
        let mut explained = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")));
        if statement == DUE_ON_SQLITE {
            explained = explained.bind(0_i64).bind(String::new()).bind(1_i64).bind(0_i64);
        }
        let plan = explained.fetch_all(&sqlite.readers).await.unwrap();
        let plan: String = plan.iter().map(|row| row.get::<String, _>("detail") + "\n").collect();
        assert!(plan.contains("INDEX orders_open_holds"), "{plan}");
        assert!(!plan.contains("SCAN orders\n"), "{plan}");
    }
}
