//! Orders hold their units until a time: then these are for sale again, and a payment that comes later takes
//! them again or must be given back.

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};

use crate::common::process::Process;
use crate::common::{Answer, BOTH, Buyer, Database, SaleSpec, TestSale, eventually, value};

const LOCK: &str = "lock:stores:holds";
/// The shortest hold that is allowed.
const HOLD: Duration = Duration::from_secs(5);
const PAID: (&str, Option<&str>) = ("paid", Some("p1"));

/// Holds that end only where a test ends them.
fn long() -> Vec<(&'static str, String)> {
    vec![("HOLD_SECONDS", "3600".to_owned())]
}

fn spec(database: Database, replicas: usize, stock: i64) -> SaleSpec {
    let product = |id: &str| json!({"id": id, "name": id, "stock": stock});
    let products = json!([product("A"), product("B")]);
    let settings = vec![("HOLD_SECONDS", "5".to_owned())];
    SaleSpec { replicas, products, settings, ..SaleSpec::on(database) }
}

async fn sale(database: Database, replicas: usize, stock: i64) -> TestSale {
    TestSale::start(spec(database, replicas, stock)).await
}

async fn order(buyer: &Buyer<'_>, products: &[&str]) -> Answer {
    let items = products.iter().map(|product| json!({"product_id": product}));
    let body = json!({"items": items.collect::<Vec<_>>()});
    buyer.send(0, ("POST", "/v1/orders"), Some(&body), None).await
}

async fn get(buyer: &Buyer<'_>, id: &str) -> Answer {
    buyer.send(0, ("GET", &format!("/v1/orders/{id}")), None, None).await
}

async fn report(
    admin: &Buyer<'_>,
    replica: usize,
    id: &str,
    (result, reference): (&str, Option<&str>),
) -> Answer {
    let path = format!("/v1/orders/{id}/payment");
    let report = json!({"result": result, "reference": reference});
    admin.send(replica, ("POST", &path), Some(&report), None).await
}

async fn await_state(buyer: &Buyer<'_>, id: &str, expected: &str) {
    eventually(expected, async || get(buyer, id).await.body["state"] == expected).await;
}

/// The value of a metric at each replica.
async fn counted(sale: &TestSale, name: &str) -> Vec<u64> {
    let mut counted = Vec::new();
    for replica in 0..sale.replicas.len() {
        counted.push(value(&sale.metrics_of(replica).await, name).unwrap());
    }
    counted
}

async fn sold(sale: &TestSale) -> Vec<i64> {
    let products = sale.sold().await;
    products.as_array().unwrap().iter().map(|product| product["sold"].as_i64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn units_of_an_unpaid_order_are_for_sale_again_in_both_stores_within_a_second_of_its_end() {
    for database in BOTH {
        let sale = sale(database, 2, 1).await;
        let (ann, bob) = (sale.buyer("ann"), sale.buyer("bob"));
        let began = Instant::now();
        let held = order(&ann, &["A", "B"]).await;
        assert_eq!(held.state(), (201, "pending"));
        let ends = held.body["expires_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let id = held.order();
        assert_eq!(order(&bob, &["A"]).await.problem(), (409, "sold_out"));
        await_state(&ann, id, "expired").await;
        let (took, late) = (began.elapsed(), jiff::Timestamp::now().duration_since(ends));
        assert!(took >= HOLD && late.as_secs_f64() < 1.0, "{database:?}: {took:?}, {late}");
        for product in ["A", "B"] {
            sale.await_stock_on_nodes(product, "1").await;
        }
        eventually("it can be bought", async || order(&bob, &["A", "B"]).await.status == 201).await;
        assert_eq!(get(&ann, id).await.body["expires_at"], held.body["expires_at"]);
        assert_eq!(ann.cancel(0, id).await.problem(), (409, "order_state"));
        assert_eq!(ann.cancel(0, id).await.body["state"], "expired");
        let metrics = sale.metrics().await;
        assert!(metrics.contains("flashsale_hold_overdue_seconds 0"), "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_tell_that_units_are_back() {
    let sale = sale(Database::Sqlite, 1, 1).await;
    let ann = sale.buyer("ann");
    order(&ann, &["A"]).await;
    let mut events = ann.request(0, "GET", "/v1/products/A/events").send().await.unwrap();
    let mut seen = String::new();
    let back = r#""remaining":1,"state":"open""#;
    let mut next = async |until: &str| {
        while !seen.contains(until) {
            let event = events.chunk().await.unwrap().unwrap();
            seen.push_str(std::str::from_utf8(&event).unwrap());
        }
    };
    next(r#""remaining":0,"state":"sold_out""#).await;
    next(back).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_after_the_end_takes_the_units_again_or_a_refund_is_due() {
    for database in BOTH {
        let sale = sale(database, 2, 1).await;
        let (ann, bob, admin) = (sale.buyer("ann"), sale.buyer("bob"), sale.admin("shop"));
        let late = order(&ann, &["A", "B"]).await;
        let late = late.order();
        sale.end_all_holds().await;
        await_state(&ann, late, "expired").await;
        let refused = report(&admin, 0, late, ("failed", None)).await;
        assert_eq!(
            (refused.problem(), &refused.body["state"]),
            ((409, "order_state"), &json!("expired"))
        );
        let paid = report(&admin, 0, late, PAID).await;
        assert_eq!((paid.state(), paid.is_replayed()), ((200, "paid"), false), "{database:?}");
        assert_eq!(sold(&sale).await, [1, 1]);
        sale.await_stock_on_nodes("A", "0").await;
        assert!(report(&admin, 1, late, PAID).await.is_replayed());

        let product = |id: &str| json!({"id": id, "name": id, "stock": 2});
        sale.seed(&json!([product("A"), product("B")])).await.unwrap();
        sale.await_stock_on_nodes("B", "1").await;
        let unlucky = eventually_order(&ann, &["A", "B"]).await;
        sale.end_all_holds().await;
        await_state(&ann, &unlucky, "expired").await;
        eventually("bob is faster", async || bob.buy("B", 1, None).await.status == 201).await;
        let reports = (0..12).map(|i| report(&admin, i % 2, &unlucky, PAID));
        let answers = join_all(reports).await;
        for answer in &answers {
            assert_eq!(answer.state(), (200, "refund_required"), "{database:?} {answer:?}");
        }
        assert_eq!(answers.iter().filter(|answer| !answer.is_replayed()).count(), 1);
        assert_eq!(sold(&sale).await, [1, 2], "nothing of A was taken either");
        let other = report(&admin, 0, &unlucky, ("paid", Some("p2"))).await;
        assert_eq!(other.problem(), (409, "order_state"));
        assert_eq!(get(&ann, &unlucky).await.body["payment_reference"], "p1");
        let refunds = r#"flashsale_orders_total{outcome="refund_required"}"#;
        assert_eq!(counted(&sale, refunds).await.iter().sum::<u64>(), 1);
    }
}

async fn eventually_order(buyer: &Buyer<'_>, products: &[&str]) -> String {
    loop {
        let answer = order(buyer, products).await;
        if answer.status == 201 {
            return answer.order().to_owned();
        }
        assert_eq!(answer.problem(), (409, "sold_out"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_payment_keeps_the_limit_of_the_buyer() {
    for database in BOTH {
        let products = json!([{"id": "A", "name": "A", "stock": 9, "max_per_buyer": 1}]);
        let sale =
            TestSale::start(SaleSpec { products, settings: long(), ..spec(database, 1, 9) }).await;
        let (ann, admin) = (sale.buyer("ann"), sale.admin("shop"));
        let first = order(&ann, &["A"]).await;
        assert_eq!(order(&ann, &["A"]).await.problem(), (409, "limit_reached"));
        sale.end_all_holds().await;
        await_state(&ann, first.order(), "expired").await;
        assert_eq!(order(&ann, &["A"]).await.status, 201, "expired units count for no limit");
        let late = report(&admin, 0, first.order(), PAID).await;
        assert_eq!(late.state(), (200, "refund_required"), "{database:?}");
        assert_eq!(sold(&sale).await, [1]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_has_a_hold_of_its_own_and_an_order_the_shortest() {
    let products = json!([
        {"id": "A", "name": "A", "stock": 9, "hold_seconds": 60},
        {"id": "B", "name": "B", "stock": 9},
    ]);
    let spec = SaleSpec { products, settings: long(), ..SaleSpec::on(Database::Sqlite) };
    let sale = TestSale::start(spec).await;
    let (ann, admin) = (sale.buyer("ann"), sale.admin("shop"));
    let held = async |products: &[&str]| {
        let answer = order(&ann, products).await;
        let ends: jiff::Timestamp = answer.body["expires_at"].as_str().unwrap().parse().unwrap();
        let begins: jiff::Timestamp = answer.body["created_at"].as_str().unwrap().parse().unwrap();
        ends.duration_since(begins).as_secs_f64().round()
    };
    for (products, seconds) in [(["A"].as_slice(), 60.0), (&["B"], 3600.0), (&["A", "B"], 60.0)] {
        assert!((held(products).await - seconds).abs() < 2.0, "{products:?}");
    }
    let terms = json!({"name": "B", "hold_seconds": 30});
    let answer = admin.send(0, ("PUT", "/v1/products/B"), Some(&terms), None).await;
    assert_eq!((answer.status, &answer.body["hold_seconds"]), (200, &json!(30)));
    assert!((held(&["B"]).await - 30.0).abs() < 2.0);
    for seconds in [4, 86_401, -1] {
        let terms = json!({"name": "B", "hold_seconds": seconds});
        let answer = admin.send(0, ("PUT", "/v1/products/B"), Some(&terms), None).await;
        assert_eq!(answer.problem(), (422, "invalid_request"));
        assert!(answer.body["detail"].as_str().unwrap().contains("hold_seconds"), "{answer:?}");
    }
    // What is bought at once has no end.
    let bought = ann.buy("A", 1, None).await;
    let shown = get(&ann, bought.order()).await;
    assert_eq!((shown.state(), &shown.body["expires_at"]), ((200, "confirmed"), &Value::Null));
    sale.end_all_holds().await;
    eventually("only holds end", async || sold(&sale).await == [1, 0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paid_and_cancelled_orders_and_orders_without_an_end_do_not_expire() {
    for database in BOTH {
        let spec = SaleSpec { settings: long(), ..spec(database, 1, 9) };
        let sale = TestSale::start(spec).await;
        let (ann, admin) = (sale.buyer("ann"), sale.admin("shop"));
        let mut ids = Vec::new();
        for _ in 0..4 {
            ids.push(order(&ann, &["A"]).await.order().to_owned());
        }
        assert_eq!(report(&admin, 0, &ids[0], PAID).await.status, 200);
        assert_eq!(ann.cancel(0, &ids[1]).await.status, 200);
        // As a replica of the release before makes it.
        let unlimited = format!("UPDATE orders SET expires_at_ms = NULL WHERE id = '{}'", ids[2]);
        sale.execute(&unlimited).await;
        sale.execute("UPDATE orders SET expires_at_ms = 1 WHERE expires_at_ms > 0").await;
        await_state(&ann, &ids[3], "expired").await;
        for (id, expected) in ids.iter().zip(["paid", "cancelled", "pending", "expired"]) {
            assert_eq!(get(&ann, id).await.body["state"], expected, "{database:?}");
        }
        assert_eq!(sold(&sale).await, [2, 0]);
    }
}

/// A replica of the release before reads orders by `state`, counts those as kept that are neither cancelled
/// nor failed, and changes those that are pending or confirmed.
#[tokio::test(flavor = "multi_thread")]
async fn the_release_before_understands_what_is_written() {
    for database in BOTH {
        let spec = SaleSpec { settings: long(), ..spec(database, 1, 1) };
        let sale = TestSale::start(spec).await;
        let (ann, admin) = (sale.buyer("ann"), sale.admin("shop"));
        let id = order(&ann, &["A"]).await.order().to_owned();
        sale.end_all_holds().await;
        await_state(&ann, &id, "expired").await;
        let touch = |ended: &str| {
            format!(
                "UPDATE orders SET line = line WHERE state = 'cancelled' AND ended_as = '{ended}'"
            )
        };
        assert_eq!(sale.execute(&touch("expired")).await, 1);
        assert_eq!(eventually_order(&sale.buyer("bob"), &["A"]).await.len(), id.len());
        assert_eq!(report(&admin, 0, &id, PAID).await.state(), (200, "refund_required"));
        assert_eq!(sale.execute(&touch("refund_required")).await, 1);
    }
}

/// If both ended holds, they would do so in turn: who has just ended some pauses, and the other one looks next.
#[tokio::test(flavor = "multi_thread")]
async fn one_replica_ends_all_holds_while_it_lives() {
    for database in BOTH {
        let spec = SaleSpec { nodes: 1, settings: long(), ..spec(database, 2, 200) };
        let sale = TestSale::start(spec).await;
        let ann = sale.buyer("ann");
        let placed = join_all((0..200).map(|_| order(&ann, &["A"]))).await;
        let ids: Vec<&str> = placed.iter().map(Answer::order).collect();
        let open = "SELECT state FROM orders WHERE state = 'pending'";
        for (round, ids) in (1..).zip(ids.chunks(10)) {
            let ids = ids.join("', '");
            let end = format!("UPDATE orders SET expires_at_ms = 1 WHERE id IN ('{ids}')");
            assert_eq!(sale.execute(&end).await, 10);
            let left = 200 - 10 * round;
            eventually("ten have ended", async || sale.query(open).await.len() == left).await;
        }
        let expired = async || counted(&sale, "flashsale_holds_expired_total").await;
        eventually("all are counted", async || expired().await.iter().sum::<u64>() == 200).await;
        let mut expired = expired().await;
        expired.sort_unstable();
        assert_eq!(expired, [0, 200], "{database:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_ends_the_holds_within_five_seconds_of_a_kill() {
    let mut sale =
        TestSale::start(SaleSpec { settings: long(), ..spec(Database::Postgres, 0, 9) }).await;
    let mut first = Process::start(&sale);
    let has_lock = async || {
        let has_it = |node: &&testkit::RedisServer| node.get(LOCK).unwrap().is_some();
        sale.nodes.iter().filter(has_it).count() >= 3
    };
    eventually("the only replica has the lock", has_lock).await;
    sale.add_replica().await;
    sale.await_ready(0).await;
    let ann = sale.buyer("ann");
    for _ in 0..9 {
        assert_eq!(order(&ann, &["A", "B"]).await.status, 201);
    }
    assert_eq!(sold(&sale).await, [9, 9]);
    first.kill();
    let killed = Instant::now();
    sale.end_all_holds().await;
    eventually("all holds have ended", async || sold(&sale).await == [0, 0]).await;
    assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", killed.elapsed());
}
