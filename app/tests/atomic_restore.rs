//! `STRATEGY=Atomic`: a database that lost orders or changes, because a backup was restored or a failover
//! lost commits, while Redis still has them.

use std::ops::Range;

use futures::future::join_all;
use serde_json::json;
use sqlx::{Connection, PgConnection};

use crate::common::{BOTH, Database, SaleSpec, TestSale, eventually, value};

async fn sale(database: Database) -> TestSale {
    let products = json!([
        {"id": "1", "name": "Console", "stock": 100, "max_per_buyer": 1},
        {"id": "2", "name": "Game", "stock": 100},
    ]);
    let settings =
        vec![("STRATEGY", "Atomic".to_owned()), ("LOCK_TIMEOUT_SECONDS", "1".to_owned())];
    let spec = SaleSpec { products, settings, nodes: 1, replicas: 2, ..SaleSpec::on(database) };
    TestSale::start(spec).await
}

/// Each of these buyers asks for one unit of product 1. Returns how many got one; the others were told that it
/// is sold out.
async fn buy(sale: &TestSale, buyers: Range<usize>) -> usize {
    let answers = join_all(buyers.map(async |i| {
        let (buyer, key) = (format!("buyer-{i}"), format!("key-{i}"));
        sale.buyer(&buyer).buy_from(i % 2, "1", 1, Some(&key)).await
    }))
    .await;
    let (sold, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.status == 201);
    assert!(refused.iter().all(|it| it.problem() == (409, "sold_out")), "{refused:?}");
    sold.len()
}

/// Waits until the database has this number of orders of product 1, and no order waits to be recorded.
async fn await_recorded(sale: &TestSale, orders: usize) {
    let count = "SELECT CAST(count(*) AS TEXT) FROM orders WHERE product_id = '1'";
    eventually("all is recorded", async || {
        sale.query(count).await == [Some(orders.to_string())]
            && sale.nodes[0].command("XLEN orders:1").unwrap() == ":0\r\n"
    })
    .await;
}

fn field(sale: &TestSale, field: &str) -> String {
    let answer = sale.nodes[0].command(&format!("HGET sale:1 {field}")).unwrap();
    answer.lines().nth(1).unwrap_or_default().to_owned()
}

/// How often the replicas found that the database had lost something.
async fn losses(sale: &TestSale) -> i64 {
    let metric = "flashsale_store_drift_total{kind=\"database_older\"}";
    let mut losses = 0;
    for replica in 0..sale.replicas.len() {
        losses += value::<i64>(&sale.metrics_of(replica).await, metric).unwrap();
    }
    losses
}

/// Waits until each replica has compared the stores some times more.
async fn await_comparisons(sale: &TestSale) {
    let metric = "flashsale_store_runs_total{job=\"compare\"}";
    for replica in 0..sale.replicas.len() {
        let runs =
            async || value::<i64>(&sale.metrics_of(replica).await, metric).unwrap_or_default();
        let until = runs().await + 3;
        eventually("the stores are compared", async || runs().await >= until).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn units_of_orders_that_the_database_lost_are_for_sale_again() {
    for database in BOTH {
        let sale = sale(database).await;
        assert_eq!(buy(&sale, 0..20).await, 20);
        let kept = sale.buyer("buyer-1").buy("1", 1, Some("key-1")).await;
        await_recorded(&sale, 20).await;
        let lost = sale.buyer("late").buy("1", 1, Some("key")).await.order().to_owned();
        assert_eq!(buy(&sale, 20..100).await, 79);
        await_recorded(&sale, 100).await;
        sale.await_stock_on_nodes("1", "0").await;

        // The backup has twenty orders.
        let old = (0..20).map(|i| format!("'buyer-{i}'")).collect::<Vec<_>>().join(", ");
        sale.execute(&format!(
            "BEGIN; DELETE FROM orders WHERE product_id = '1' AND buyer NOT IN ({old}); \
             UPDATE stock SET available = 80, recorded = 20 WHERE product_id = '1'; COMMIT"
        ))
        .await;
        for replica in 0..2 {
            let call = ("GET", "/v1/products/1/stock");
            eventually("buyers see the units", async || {
                sale.buyer("ann").send(replica, call, None, None).await.body["remaining"] == 80
            })
            .await;
        }
        assert_eq!(losses(&sale).await, 1, "{database:?}");

        // Its order is lost, and with it the key and the unit that counted for the limit.
        let late = sale.buyer("late");
        let again = late.buy("1", 1, Some("key")).await;
        assert_ne!(again.order(), lost, "{database:?}");
        let path = format!("/v1/orders/{}", again.order());
        eventually("it is found", async || late.call("GET", &path, None).await.status == 200).await;
        assert_eq!(late.buy("1", 1, None).await.problem(), (409, "limit_reached"));
        let early = sale.buyer("buyer-1");
        assert_eq!(early.buy("1", 1, Some("key-1")).await.order(), kept.order());
        assert_eq!(early.buy("1", 1, None).await.problem(), (409, "limit_reached"));
        assert_eq!(sale.buyer("late").buy("2", 1, None).await.status, 201);

        assert_eq!(buy(&sale, 100..250).await, 79, "{database:?}");
        await_recorded(&sale, 100).await;
        assert_eq!(sale.nodes[0].command("XLEN orders-refused:1").unwrap(), ":0\r\n");
        assert_eq!(losses(&sale).await, 1, "it is made anew once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn units_that_the_database_lost_are_not_sold() {
    for database in BOTH {
        let sale = sale(database).await;
        assert_eq!(buy(&sale, 0..10).await, 10);
        await_recorded(&sale, 10).await;
        let fence =
            sale.query("SELECT CAST(fence AS TEXT) FROM stock WHERE product_id = '1'").await;
        let fence = fence[0].as_deref().unwrap();
        let restock = json!({"add": 10});
        let admin = sale.admin("shop");
        let restocked = admin.call("POST", "/v1/products/1/restock", Some(&restock)).await;
        assert_eq!(restocked.status, 200, "{database:?}: {restocked:?}");
        eventually("Redis has the units", async || field(&sale, "available") == "100").await;

        // The backup is from before that.
        sale.execute(&format!(
            "UPDATE stock SET declared = 100, restocked = 0, available = 90, fence = {fence} \
             WHERE product_id = '1'"
        ))
        .await;
        eventually("Redis has them no more", async || field(&sale, "available") == "90").await;
        assert_eq!(buy(&sale, 10..150).await, 90, "{database:?}");
        await_recorded(&sale, 100).await;
        assert_eq!(sale.nodes[0].command("XLEN orders-refused:1").unwrap(), ":0\r\n");
        assert_eq!(losses(&sale).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_wait_to_be_recorded_are_not_taken_for_lost_ones() {
    let sale = sale(Database::Postgres).await;
    assert_eq!(buy(&sale, 0..1).await, 1);
    let incarnation = field(&sale, "incarnation");
    let mut database = PgConnection::connect(&sale.database_url()).await.unwrap();
    // Others may read and not write: nothing is recorded.
    let lock = "BEGIN; LOCK TABLE orders IN EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut database).await.unwrap();
    assert_eq!(buy(&sale, 1..20).await, 19);
    await_comparisons(&sale).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut database).await.unwrap();
    assert_eq!(buy(&sale, 20..150).await, 80);
    await_recorded(&sale, 100).await;
    await_comparisons(&sale).await;
    assert_eq!((losses(&sale).await, field(&sale, "incarnation")), (0, incarnation));
}
