//! Orders of several products when locks are held, lost or gone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use ledger::orders::{NewOrder, OrderLine, OrderState, Settled, Task};
use ledger::{Demand, LedgerError, Outcome, Purchase};
use serde_json::{Value, json};

use crate::common::{BOTH, Database, SaleSpec, TestSale, eventually, value};

const DISTRIBUTED: (&str, &str) = ("PATCH", "/v1/stocks/locks/distributed");

fn one_of_each(products: &[&str]) -> Value {
    let orders = products.iter().map(|product| json!({"product": product, "quantity": 1}));
    json!({"orders": orders.collect::<Vec<_>>()})
}

fn a_and_b() -> Value {
    one_of_each(&["A", "B"])
}

async fn sale(database: Database, settings: &[(&'static str, &str)]) -> TestSale {
    sale_of(&["A", "B"], database, settings).await
}

async fn sale_of(
    products: &[&str],
    database: Database,
    settings: &[(&'static str, &str)],
) -> TestSale {
    let product = |id: &&str| json!({"id": id, "name": id, "stock": 10});
    let products = products.iter().map(product).collect();
    let settings = settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    TestSale::start(SaleSpec { products, settings, ..SaleSpec::on(database) }).await
}

#[tokio::test]
async fn a_lock_that_is_held_for_the_whole_wait_fails_the_order_and_frees_the_others() {
    let sale = sale(Database::Sqlite, &[("LOCK_WAIT_SECONDS", "3")]).await;
    let ann = sale.buyer("ann");
    let blocker = sale.block("stock:B").await;
    let answer = ann.send(0, DISTRIBUTED, Some(&a_and_b()), None).await;
    assert_eq!(answer.problem(), (423, "lock_timeout"));
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(ann.buy("A", 1, None).await.status, 201, "the lock of A is free");
    blocker.release().await;
    assert_eq!(ann.send(0, DISTRIBUTED, Some(&a_and_b()), None).await.status, 200);
    assert_eq!(sale.sold().await[0]["sold"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn held_locks_are_extended_while_others_are_waited_for() {
    let sale = sale(Database::Sqlite, &[("LOCK_TIMEOUT_SECONDS", "2")]).await;
    let ann = sale.buyer("ann");
    let blocker = sale.block("stock:B").await;
    let body = a_and_b();
    let ordering = ann.send(0, DISTRIBUTED, Some(&body), None);
    let blocking = async {
        let held = || sale.nodes[0].get("lock:stock:A").unwrap();
        eventually("A is held", async || held().is_some()).await;
        let owner = held();
        // Longer than a lease: without extension it would be over.
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(held(), owner, "held by the same");
        blocker.release().await;
    };
    let (answer, ()) = tokio::join!(ordering, blocking);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(sale.metrics().await.contains("flashsale_lock_leases_lost_total 0"));
}

#[tokio::test]
async fn locks_that_are_free_are_taken_and_given_back_together() {
    let products: Vec<String> = (0..20).map(|number| format!("p{number:02}")).collect();
    let products: Vec<&str> = products.iter().map(String::as_str).collect();
    let sale = sale_of(&products, Database::Sqlite, &[]).await;
    let ann = sale.buyer("ann");
    let order = one_of_each(&products);
    let node = &sale.nodes[0];
    for setting in ["slowlog-log-slower-than 0", "slowlog-max-len 100000"] {
        node.command(&format!("CONFIG SET {setting}")).unwrap();
    }
    assert_eq!(ann.send(0, DISTRIBUTED, Some(&order), None).await.status, 200);
    for product in products {
        sale.await_stock_on_nodes(product, "9").await;
    }
    // The first product, all others, and both releases; one by one it would be 40. The tasks of the replica
    // call scripts too, the more the longer this takes.
    let log = node.command("SLOWLOG GET 100000").unwrap();
    let calls = log.split("\r\nEVALSHA\r\n").skip(1);
    let made = calls.filter(|call| call.contains("lock:stock:p")).count();
    assert!((2..20).contains(&made), "{made} calls of scripts");
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_that_are_not_free_together_are_taken_one_by_one() {
    let sale = sale_of(&["A", "B", "C"], Database::Sqlite, &[]).await;
    let ann = sale.buyer("ann");
    let blocker = sale.block("stock:C").await;
    let body = one_of_each(&["A", "B", "C"]);
    let ordering = ann.send(0, DISTRIBUTED, Some(&body), None);
    let blocking = async {
        let held = || sale.nodes[0].get("lock:stock:B").unwrap();
        eventually("B is held while C is waited for", async || held().is_some()).await;
        blocker.release().await;
    };
    let (answer, ()) = tokio::join!(ordering, blocking);
    assert_eq!(answer.status, 200, "{answer:?}");
    let metrics = sale.metrics().await;
    let timeouts = r#"flashsale_lock_acquisitions_total{outcome="timeout"}"#;
    let counted: Option<String> = value(&metrics, timeouts);
    assert!(
        counted.as_ref().is_none_or(|count| count == "0"),
        "an order that was placed: {counted:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_in_turn_and_purchases_in_any_order_go_on_beside_each_other() {
    let products = json!([{"id": "1", "name": "Console", "stock": 1_000_000}]);
    // Who is passed over is so for as long as the others go on.
    let settings = vec![("LOCK_ORDER", "Unordered".to_owned())];
    let spec = SaleSpec { products, settings, replicas: 2, ..SaleSpec::on(Database::Sqlite) };
    let sale = TestSale::start(spec).await;
    for counter in ["ticket:stock:1 20000", "fence:stock:1 400000"] {
        for node in &sale.nodes {
            node.command(&format!("SET {counter}")).unwrap();
        }
        let bought = AtomicBool::new(false);
        let buying = (0..12).map(async |i| {
            let buyer = sale.buyer(&format!("buyer-{i}"));
            while !bought.load(Ordering::Relaxed) {
                let answer = buyer.buy_from(i % 2, "1", 1, None).await;
                assert_eq!(answer.status, 201, "{answer:?}");
            }
        });
        let in_turn = async {
            let ann = sale.buyer("ann");
            for i in 0..20 {
                let order = one_of_each(&["1"]);
                let answer =
                    ann.send(i % 2, ("PATCH", "/v1/stocks/locks/fair"), Some(&order), None);
                let answer = answer.await;
                assert_eq!(answer.status, 200, "call {i}: {answer:?}");
            }
            bought.store(true, Ordering::Relaxed);
        };
        tokio::join!(join_all(buying), in_turn);
    }
}

#[tokio::test]
async fn a_holder_with_a_token_too_low_tries_again_above_it() {
    for database in BOTH {
        let sale = sale(database, &[]).await;
        // As if the nodes had forgotten what the ledger has seen.
        let later = Demand { product_id: "B", token: 1_000, purchases: Vec::new() };
        sale.ledger().sell(&[later]).await.unwrap();
        let answer = sale.buyer("ann").send(0, DISTRIBUTED, Some(&a_and_b()), None).await;
        assert_eq!(answer.status, 200, "{database:?} {answer:?}");
        sale.await_stock_on_nodes("B", "9").await;
        let fence = sale.ledger().products().await.unwrap()[1].fence;
        assert!(fence > 1_000, "{fence}");
    }
}

#[tokio::test]
async fn one_token_that_is_too_low_refuses_all_products_of_a_transaction() {
    for database in BOTH {
        let sale = sale(database, &[]).await;
        let ledger = sale.ledger();
        let order = Task::Place(NewOrder {
            buyer: "ann".to_owned(),
            lines: ["A", "B"]
                .map(|product| OrderLine { product_id: product.to_owned(), quantity: 1 })
                .to_vec(),
            idempotency_key: None,
            state: OrderState::Confirmed,
            hold_ms: None,
            limit_key: None,
        });
        let tokens = |a: i64, b: i64| BTreeMap::from([("A".to_owned(), a), ("B".to_owned(), b)]);
        let done = ledger.settle(&tokens(100, 100), &[&order]).await.unwrap();
        assert!(matches!(done.outcomes[..], [Settled::Done(_)]));
        for (a, b, stale) in [(101, 100, "B"), (100, 101, "A"), (101, 99, "B")] {
            let late = ledger.settle(&tokens(a, b), &[&order]).await;
            let Err(LedgerError::StaleTokens(seen)) = late else { panic!("{late:?}") };
            assert_eq!(seen, [(stale.to_owned(), 100)], "{database:?}");
        }
        let unknown = BTreeMap::from([("A".to_owned(), 101), ("nope".to_owned(), 1)]);
        let unknown = ledger.settle(&unknown, &[&order]).await;
        assert!(matches!(unknown, Err(LedgerError::UnknownProduct(_))), "{unknown:?}");
        let products = ledger.products().await.unwrap();
        assert!(products.iter().all(|product| (product.available, product.fence) == (9, 100)));
    }
}

/// Under different locks, so only the database can tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_used_for_other_products_at_the_same_moment_orders_once() {
    for database in BOTH {
        let sale = sale(database, &[]).await;
        let ledger = sale.ledger();
        for round in 0..10 {
            let (key, token) = (format!("k{round}"), 100 + round);
            let purchase = Purchase {
                buyer: "ann".to_owned(),
                quantity: 1,
                idempotency_key: Some(key.clone()),
                limit_key: None,
            };
            let order = Task::Place(NewOrder {
                buyer: "ann".to_owned(),
                lines: vec![OrderLine { product_id: "B".to_owned(), quantity: 1 }],
                idempotency_key: Some(key),
                state: OrderState::Confirmed,
                hold_ms: None,
                limit_key: None,
            });
            let tokens = BTreeMap::from([("B".to_owned(), token)]);
            let demand = [Demand { product_id: "A", token, purchases: vec![&purchase] }];
            let order = [&order];
            let (bought, ordered) =
                tokio::join!(ledger.sell(&demand), ledger.settle(&tokens, &order));
            let bought = bought.unwrap().remove(0).unwrap();
            let bought = matches!(bought.outcomes[..], [Outcome::Sold(_)]);
            let ordered = matches!(ordered.unwrap().outcomes[..], [Settled::Done(_)]);
            assert!(bought != ordered, "{database:?}: bought {bought}, ordered {ordered}");
        }
        let left: i64 = ledger.products().await.unwrap().iter().map(|p| p.available).sum();
        assert_eq!(left, 10, "ten units for ten keys");
    }
}

#[tokio::test]
async fn without_a_quorum_orders_fail_cleanly() {
    let mut sale = sale(Database::Sqlite, &[("LOCK_WAIT_SECONDS", "0.5")]).await;
    for node in &mut sale.nodes[..3] {
        node.kill().unwrap();
    }
    eventually("they are missed", async || {
        sale.metrics().await.contains("flashsale_lock_nodes_voting 2")
    })
    .await;
    let answer = sale.buyer("ann").send(0, DISTRIBUTED, Some(&a_and_b()), None).await;
    assert_eq!(answer.problem(), (503, "quorum_unavailable"));
    assert_eq!(sale.sold().await[0]["sold"], 0);
}

#[tokio::test]
async fn a_product_whose_lock_cannot_be_had_does_not_delay_the_holds_of_others() {
    const WAIT: Duration = Duration::from_secs(20);
    let sale = sale(Database::Sqlite, &[("LOCK_WAIT_SECONDS", "20")]).await;
    let ann = sale.buyer("ann");
    let order = async |product: &str| {
        let body = json!({"items": [{"product_id": product}]});
        ann.call("POST", "/v1/orders", Some(&body)).await.order().to_owned()
    };
    let [of_a, of_b, later_of_b] = [order("A").await, order("B").await, order("B").await];
    let blocker = sale.block("stock:A").await;
    let end = async |order: &str| {
        sale.execute(&format!("UPDATE orders SET expires_at_ms = 1 WHERE id = '{order}'")).await;
    };
    let is = async |order: &str, state: &str| {
        ann.call("GET", &format!("/v1/orders/{order}"), None).await.body["state"] == state
    };
    end(&of_a).await;
    end(&of_b).await;
    eventually("the replica is ending both", async || is(&of_b, "expired").await).await;
    let began = Instant::now();
    end(&later_of_b).await;
    eventually("it has ended", async || is(&later_of_b, "expired").await).await;
    assert!(began.elapsed() < WAIT / 2, "it waited for the lock of the other product");
    assert!(is(&of_a, "pending").await);
    blocker.release().await;
    eventually("the other one has ended too", async || is(&of_a, "expired").await).await;
}
