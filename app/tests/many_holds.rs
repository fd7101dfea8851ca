//! A hundred thousand open holds: one more ends in time beside them, and all of them end while buyers buy.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::common::{Database, SaleSpec, TestSale, eventually};

const HOLDS: i64 = 100_000;
const HOUR: i64 = 3_600_000;
const BUYERS: usize = 16;

async fn sale(database: Database, replicas: usize) -> TestSale {
    let products = json!([{"id": "1", "name": "Console", "stock": 2 * HOLDS}]);
    let settings = vec![("HOLD_SECONDS", "5".to_owned())];
    TestSale::start(SaleSpec { replicas, products, settings, ..SaleSpec::on(database) }).await
}

/// An order that nobody pays ends within a second of its time.
async fn ends_in_time(sale: &TestSale) {
    let ann = sale.buyer("ann");
    let body = json!({"items": [{"product_id": "1"}]});
    let placed = ann.send(0, ("POST", "/v1/orders"), Some(&body), None).await;
    let ends: jiff::Timestamp = placed.body["expires_at"].as_str().unwrap().parse().unwrap();
    let path = format!("/v1/orders/{}", placed.order());
    eventually("it has expired", async || {
        ann.send(0, ("GET", &path), None, None).await.body["state"] == "expired"
    })
    .await;
    let late = jiff::Timestamp::now().duration_since(ends).as_secs_f64();
    assert!(late < 1.0, "{late} s late");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_ends_in_time_beside_a_hundred_thousand_on_sqlite() {
    let sale = sale(Database::Sqlite, 1).await;
    let held = format!(
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {HOLDS}) \
         INSERT INTO orders (id, product_id, buyer, quantity, fence, state, expires_at_ms, unit_price) \
         SELECT printf('%08x-0000-7000-8000-000000000000', n), '1', 'b' || n, 1, 1, 'pending', {} + n, 0 \
         FROM numbers; \
         UPDATE stock SET available = available - {HOLDS}",
        jiff::Timestamp::now().as_millisecond() + HOUR
    );
    sale.execute(&held).await;
    ends_in_time(&sale).await;
    let open = "SELECT CAST(count(*) AS TEXT) FROM orders WHERE state = 'pending'";
    assert_eq!(sale.query(open).await, [Some(HOLDS.to_string())], "the others are not over");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_ends_in_time_beside_a_hundred_thousand_and_all_end_while_buyers_buy() {
    let sale = sale(Database::Postgres, 2).await;
    let mut database = PgConnection::connect(&sale.database_url()).await.unwrap();
    let now = jiff::Timestamp::now().as_millisecond();
    let held = format!(
        "INSERT INTO orders (id, product_id, buyer, quantity, fence, state, expires_at_ms) \
         SELECT gen_random_uuid(), '1', 'b' || n, 1, 1, 'pending', {} + n FROM generate_series(1, {HOLDS}) n; \
         UPDATE stock SET available = available - {HOLDS}",
        now + HOUR
    );
    sqlx::raw_sql(AssertSqlSafe(held)).execute(&mut database).await.unwrap();

    ends_in_time(&sale).await;

    // All at once, with buyers of the same product at work.
    let (over, bought) = (AtomicBool::new(false), AtomicU32::new(0));
    let buyers: Vec<_> = (0..BUYERS).map(|i| sale.buyer(&format!("buyer-{i}"))).collect();
    let buying = join_all(buyers.iter().map(async |buyer| {
        while !over.load(Ordering::Relaxed) {
            assert_eq!(buyer.buy("1", 1, None).await.status, 201);
            bought.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let ending = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let before = bought.load(Ordering::Relaxed);
        sqlx::raw_sql(AssertSqlSafe(format!(
            "UPDATE orders SET expires_at_ms = expires_at_ms - {}",
            2 * HOUR
        )))
        .execute(&mut database)
        .await
        .unwrap();
        let (began, at) = (Instant::now(), bought.load(Ordering::Relaxed));
        let open = "SELECT count(*) FROM orders WHERE state = 'pending'";
        while sqlx::query_scalar::<_, i64>(open).fetch_one(&mut database).await.unwrap() > 0 {
            assert!(began.elapsed() < Duration::from_mins(2));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let (took, meanwhile) = (began.elapsed(), bought.load(Ordering::Relaxed) - at);
        over.store(true, Ordering::Relaxed);
        let rates = (f64::from(before) / 3.0, f64::from(meanwhile) / took.as_secs_f64());
        eprintln!("{HOLDS} holds ended in {took:?}; purchases/s before and meanwhile: {rates:?}");
    };
    tokio::join!(buying, ending);
    let sold = i64::from(bought.into_inner());
    assert_eq!(sale.sold().await[0]["sold"], sold);
    sale.await_stock_on_nodes("1", &(2 * HOLDS - sold).to_string()).await;
}
