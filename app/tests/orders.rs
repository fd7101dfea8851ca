//! Several products in one request: all or nothing, in order, without deadlock.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use redlock::{Policy, QueueDiscipline};
use serde_json::{Value, json};

use crate::common::{Answer, BOTH, Buyer, Database, SaleSpec, TestSale, eventually};

const DISTRIBUTED: (&str, &str) = ("PATCH", "/v1/stocks/locks/distributed");
const FAIR: (&str, &str) = ("PATCH", "/v1/stocks/locks/fair");
const ORDERS: (&str, &str) = ("POST", "/v1/orders");

async fn sale(database: Database, replicas: usize, stock: i64) -> TestSale {
    let product = |id: &str| json!({"id": id, "name": id, "stock": stock});
    let products = json!([product("A"), product("B"), product("C")]);
    TestSale::start(SaleSpec { replicas, products, ..SaleSpec::on(database) }).await
}

/// One of each, as the S3 calls or `POST /v1/orders` want it.
fn body((_, path): (&str, &str), products: &[&str]) -> Value {
    if path == ORDERS.1 {
        let items = products.iter().map(|product| json!({"product_id": product, "quantity": 1}));
        return json!({"items": items.collect::<Vec<_>>()});
    }
    let orders = products.iter().map(|product| json!({"product": product, "quantity": 1}));
    json!({"orders": orders.collect::<Vec<_>>()})
}

async fn order(
    buyer: &Buyer<'_>,
    replica: usize,
    call: (&str, &str),
    products: &[&str],
    key: Option<&str>,
) -> Answer {
    buyer.send(replica, call, Some(&body(call, products)), key).await
}

async fn sold(sale: &TestSale) -> Vec<i64> {
    let products = sale.sold().await;
    products.as_array().unwrap().iter().map(|product| product["sold"].as_i64().unwrap()).collect()
}

fn is_done(answer: &Answer) -> bool {
    [200, 201].contains(&answer.status)
}

/// A long wait for one lock, without order.
fn patient() -> Policy {
    let wait_timeout = Duration::from_secs(20);
    Policy {
        wait_timeout,
        lease_time: Duration::from_secs(2),
        discipline: QueueDiscipline::Unordered,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_users_at_once_exactly_ninety_get_all_three_products() {
    for (database, call) in
        [(Database::Postgres, DISTRIBUTED), (Database::Postgres, FAIR), (Database::Sqlite, ORDERS)]
    {
        let sale = sale(database, 3, 90).await;
        let buyers: Vec<_> = (0..100).map(|i| sale.buyer(&format!("buyer-{i}"))).collect();
        let asked = buyers.iter().enumerate();
        let asked = asked.map(|(i, buyer)| order(buyer, i % 3, call, &["C", "A", "B"], None));
        let answers = join_all(asked).await;

        let (done, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| is_done(answer));
        let ids: HashSet<&str> =
            done.iter().map(|answer| answer.body["order_id"].as_str().unwrap()).collect();
        assert_eq!((done.len(), ids.len()), (90, 90), "{database:?} {call:?}");
        assert!(refused.iter().all(|answer| answer.problem() == (409, "sold_out")));
        assert_eq!(sold(&sale).await, [90, 90, 90]);
        for product in ["A", "B", "C"] {
            sale.await_stock_on_nodes(product, "0").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_the_fair_lock_the_ten_latest_to_have_asked_fail() {
    let product = |id: &str| json!({"id": id, "name": id, "stock": 90});
    let products = json!([product("A"), product("B"), product("C")]);
    let settings = vec![("LOCK_WAIT_SECONDS", "60".to_owned())];
    let spec = SaleSpec { replicas: 3, products, settings, ..SaleSpec::on(Database::Postgres) };
    let sale = TestSale::start(spec).await;
    let blocker = sale.redlock().await.acquire("stock:A", patient()).await.unwrap();
    blocker.keep_extended();
    let buyers: Vec<_> = (0..100).map(|i| sale.buyer(&format!("buyer-{i}"))).collect();
    let asking = async {
        let mut waiting = futures::stream::FuturesOrdered::new();
        for (i, buyer) in buyers.iter().enumerate() {
            let mut next = Box::pin(order(buyer, i % 3, FAIR, &["A", "B", "C"], None));
            // Only then may the next one ask.
            let has_ticket = eventually("it has a ticket", async || {
                let has_it = |node: &&testkit::RedisServer| {
                    let ticket = node.get("ticket:stock:A").unwrap();
                    ticket.is_some_and(|ticket| ticket.parse::<usize>().unwrap() > i)
                };
                // One that is slow may be left out of the votes.
                sale.nodes.iter().filter(has_it).count() >= 3
            });
            tokio::select! {
                answer = &mut next => panic!("nobody has the lock: {answer:?}"),
                () = has_ticket => waiting.push_back(next),
            }
        }
        blocker.release().await;
        futures::StreamExt::collect::<Vec<_>>(waiting).await
    };
    let answers = asking.await;
    let done: Vec<usize> = (0..100).filter(|i| is_done(&answers[*i])).collect();
    assert_eq!(done, (0..90).collect::<Vec<_>>());
    assert!(answers[90..].iter().all(|answer| answer.problem() == (409, "sold_out")));
}

#[tokio::test(flavor = "multi_thread")]
async fn opposite_orders_do_not_wait_for_each_other() {
    for (database, service) in [(Database::Postgres, "Unordered"), (Database::Sqlite, "Fair")] {
        let product = |id: &str| json!({"id": id, "name": id, "stock": 1000});
        let products = json!([product("A"), product("B"), product("C")]);
        let settings = vec![("LOCK_ORDER", service.to_owned())];
        let sale =
            TestSale::start(SaleSpec { replicas: 2, products, settings, ..SaleSpec::on(database) })
                .await;
        let buyer = sale.buyer("ann");
        let buyer = &buyer;
        let baskets = [["A", "B"], ["B", "A"], ["B", "C"], ["C", "A"]];
        let calls = [DISTRIBUTED, FAIR, ORDERS];
        let orders = (0..120).map(async |i| {
            if i % 5 == 0 {
                return buyer.buy_from(i % 2, "B", 1, None).await;
            }
            order(buyer, i % 2, calls[i % 3], &baskets[i % 4], None).await
        });
        let answers = join_all(orders).await;
        assert!(answers.iter().all(is_done), "{service} {answers:?}");
        let units = sold(&sale).await;
        assert_eq!(units.iter().sum::<i64>(), 24 + 96 * 2);
        for (product, units) in ["A", "B", "C"].iter().zip(units) {
            sale.await_stock_on_nodes(product, &(1000 - units).to_string()).await;
        }
    }
}

#[tokio::test]
async fn locks_taken_in_opposite_orders_deadlock() {
    let sale = sale(Database::Sqlite, 0, 1).await;
    let (one, other) = (sale.redlock().await, sale.redlock().await);
    let short = Policy { wait_timeout: Duration::from_millis(200), ..patient() };
    let (a, b) =
        (one.acquire("stock:A", patient()).await, other.acquire("stock:B", patient()).await);
    let both = tokio::join!(one.acquire("stock:B", short), other.acquire("stock:A", short));
    assert!(both.0.is_err() && both.1.is_err(), "what sorting is for");
    drop((a, b));
}

#[tokio::test]
async fn an_order_that_is_short_of_one_product_takes_nothing_of_the_others() {
    for database in BOTH {
        let sale = sale(database, 1, 2).await;
        let buyer = sale.buyer("ann");
        assert_eq!(buyer.buy("B", 1, None).await.status, 201);
        for call in [DISTRIBUTED, FAIR, ORDERS] {
            let short = json!({"items": [{"product_id": "A"}, {"product_id": "B", "quantity": 2}]});
            let short_s3 = json!({"orders": [{"product": "A"}, {"product": "B", "quantity": 2}]});
            let body = if call == ORDERS { &short } else { &short_s3 };
            let answer = buyer.send(0, call, Some(body), None).await;
            assert_eq!(answer.problem(), (409, "sold_out"));
            assert_eq!(answer.body["detail"], "product B: sold out");
        }
        assert_eq!(sold(&sale).await, [0, 1, 0]);
        assert_eq!(order(&buyer, 0, DISTRIBUTED, &["A", "B"], None).await.status, 200);
        assert_eq!(sold(&sale).await, [1, 2, 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_orders_once_whatever_replica_and_call_it_comes_by() {
    for database in BOTH {
        let sale = sale(database, 2, 50).await;
        let ann = sale.buyer("ann");
        let calls = [DISTRIBUTED, FAIR, ORDERS];
        let at_once = (0..12).map(|i| order(&ann, i % 2, calls[i % 3], &["A", "B"], Some("k")));
        let purchase = ann.buy_from(0, "A", 1, Some("k"));
        let (answers, purchase) = tokio::join!(join_all(at_once), purchase);
        let orders: HashSet<&str> =
            answers.iter().filter_map(|answer| answer.body["order_id"].as_str()).collect();
        // The first request decides what the key stands for.
        let by_purchase = purchase.status == 201;
        assert_eq!(orders.len(), usize::from(!by_purchase), "{database:?} {answers:?}");
        let expected = if by_purchase { [1, 0, 0] } else { [1, 1, 0] };
        assert_eq!(sold(&sale).await, expected);

        let first = order(&ann, 0, ORDERS, &["A", "B"], Some("k2")).await;
        assert_eq!((first.status, &first.body["state"]), (201, &json!("pending")));
        let again = order(&ann, 1, ORDERS, &["B", "A"], Some("k2")).await;
        assert_eq!(again.body, first.body, "the order of the products means nothing");
        assert_eq!(again.headers["idempotent-replayed"], "true");
        for other in [&["A"] as &[&str], &["A", "B", "B"], &["A", "B", "C"]] {
            let answer = order(&ann, 0, ORDERS, other, Some("k2")).await;
            assert_eq!(answer.problem(), (422, "idempotency_key_reused"), "{other:?}");
        }
        for product in ["A", "B"] {
            let purchase = ann.buy(product, 1, Some("k2")).await;
            assert_eq!(purchase.problem(), (422, "idempotency_key_reused"));
        }
        let bobs = order(&sale.buyer("bob"), 0, ORDERS, &["A", "B"], Some("k2")).await;
        assert_ne!(bobs.body["order_id"], first.body["order_id"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_key_is_answered_when_all_is_sold() {
    let sale = sale(Database::Postgres, 1, 1).await;
    let ann = sale.buyer("ann");
    let first = order(&ann, 0, FAIR, &["A", "B"], Some("k")).await;
    let again = order(&ann, 0, FAIR, &["A", "B"], Some("k")).await;
    assert_eq!((again.status, &again.body), (200, &first.body));
    let other = order(&ann, 0, FAIR, &["A"], Some("k")).await;
    assert_eq!(other.problem(), (422, "idempotency_key_reused"));
    assert_eq!(order(&ann, 0, FAIR, &["A"], Some("l")).await.problem(), (409, "sold_out"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_each_product_holds_for_orders_and_purchases_together() {
    for database in BOTH {
        let products = json!([
            {"id": "A", "name": "A", "stock": 50},
            {"id": "B", "name": "B", "stock": 50, "max_per_buyer": 2},
        ]);
        let sale =
            TestSale::start(SaleSpec { replicas: 2, products, ..SaleSpec::on(database) }).await;
        let ann = sale.buyer("ann");
        let ann = &ann;
        let asked = (0..10).map(async |i| {
            if i % 2 == 0 {
                return ann.buy_from(0, "B", 1, None).await;
            }
            order(ann, 1, DISTRIBUTED, &["A", "B"], None).await
        });
        let answers = join_all(asked).await;
        assert_eq!(answers.iter().filter(|answer| is_done(answer)).count(), 2, "{database:?}");
        let refused = answers.iter().filter(|answer| !is_done(answer));
        assert!(refused.clone().all(|answer| answer.problem() == (409, "limit_reached")));
        assert_eq!(order(&sale.buyer("bob"), 0, ORDERS, &["B", "B"], None).await.status, 201);
    }
}

#[tokio::test]
async fn bad_orders_are_refused_with_a_stable_code_and_take_nothing() {
    let sale = sale(Database::Sqlite, 1, 5).await;
    let ann = sale.buyer("ann");
    let many = json!({"items": vec![json!({"product_id": "A"}); 21]});
    let invalid = [
        json!({"items": []}),
        json!({}),
        json!({"items": [{"product_id": "A", "quantity": 0}]}),
        json!({"items": [{"product_id": "A", "quantity": -1}]}),
        json!({"items": [{"product_id": "A", "quantity": "1"}]}),
        json!({"items": [{"product_id": "A", "quantity": 1_000_001}]}),
        json!({"items": [{"product": "A"}]}),
        json!({"items": [{"product_id": "A".repeat(64)}]}),
        json!({"orders": [{"product_id": "A"}]}),
        many,
    ];
    for body in invalid {
        let answer = ann.send(0, ORDERS, Some(&body), None).await;
        assert_eq!(answer.problem(), (422, "invalid_request"), "{body}");
    }
    let unknown = order(&ann, 0, FAIR, &["A", "nope"], None).await;
    assert_eq!(unknown.problem(), (404, "unknown_product"));
    let key = order(&ann, 0, DISTRIBUTED, &["A"], Some("a b")).await;
    assert_eq!(key.problem(), (422, "invalid_request"));
    assert_eq!(sold(&sale).await, [0, 0, 0]);
    let twice = json!({"orders": [{"product": "A"}, {"product": "A", "quantity": 2}]});
    let merged = ann.send(0, DISTRIBUTED, Some(&twice), None).await;
    assert_eq!(merged.body["items"], json!([{"product_id": "A", "quantity": 3}]));
}

#[tokio::test]
async fn nothing_is_ordered_outside_the_window() {
    let settings = vec![("SALE_STARTS_AT", "2999-01-01T00:00:00Z".to_owned())];
    let sale =
        TestSale::start(SaleSpec { nodes: 1, settings, ..SaleSpec::on(Database::Sqlite) }).await;
    for call in [DISTRIBUTED, FAIR, ORDERS] {
        let answer = order(&sale.buyer("ann"), 0, call, &["1"], None).await;
        assert_eq!(answer.problem(), (403, "sale_not_open"));
        assert!(answer.headers.contains_key("retry-after"));
    }
    assert_eq!(sold(&sale).await, [0]);
}
