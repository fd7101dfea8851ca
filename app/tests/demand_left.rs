//! The end of a sale with demand left: buyers cancel, do not pay, or pay too late, and others wait. In the end somebody has
//! paid for each unit, none is on sale or held, and some still wait.

use std::ops::Range;

use futures::future::join_all;
use serde_json::{Value, json};

use crate::common::{BOTH, Buyer, Database, SaleSpec, TestSale, eventually};

const UNITS: usize = 20;
const LIST: &str = "/v1/products/1/waitlist";

async fn sale(database: Database) -> TestSale {
    let products = json!([{"id": "1", "name": "Console", "stock": UNITS, "max_per_buyer": 1}]);
    let settings = vec![("HOLD_SECONDS", "3600".to_owned())];
    let spec = SaleSpec { nodes: 1, replicas: 2, products, settings, ..SaleSpec::on(database) };
    TestSale::start(spec).await
}

async fn order(buyer: &Buyer<'_>, replica: usize) -> String {
    let body = json!({"items": [{"product_id": "1"}]});
    buyer.send(replica, ("POST", "/v1/orders"), Some(&body), None).await.order().to_owned()
}

/// Changes an order. Returns its state.
async fn change(caller: &Buyer<'_>, order: &str, what: &str, body: &Value) -> String {
    let answer = caller.call("POST", &format!("/v1/orders/{order}/{what}"), Some(body)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["state"].as_str().unwrap().to_owned()
}

async fn pay(admin: &Buyer<'_>, order: &str) -> String {
    change(admin, order, "payment", &json!({"result": "paid", "reference": order})).await
}

async fn join(sale: &TestSale, numbers: Range<usize>) {
    for number in numbers {
        let waiter = sale.buyer(&format!("waiter-{number}"));
        let joined = waiter.call("POST", LIST, Some(&json!({}))).await;
        assert_eq!(joined.status, 201, "{joined:?}");
    }
}

async fn await_waiting(sale: &TestSale, expected: usize) {
    let waiting = "SELECT buyer FROM waitlist";
    eventually(&format!("{expected} wait"), async || sale.query(waiting).await.len() == expected)
        .await;
}

/// The orders in a state, the oldest first.
async fn in_state(sale: &TestSale, state: &str) -> Vec<String> {
    let orders = format!(
        "SELECT CAST(id AS TEXT) FROM orders WHERE coalesce(ended_as, state) = '{state}' ORDER BY id"
    );
    sale.query(&orders).await.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_end_every_unit_is_paid_for_while_some_still_wait() {
    for database in BOTH {
        let sale = sale(database).await;
        let admin = sale.admin("shop");
        let buyers: Vec<_> = (0..UNITS).map(|i| sale.buyer(&format!("buyer-{i}"))).collect();
        let placed = buyers.iter().enumerate().map(|(i, buyer)| order(buyer, i % 2));
        let orders = join_all(placed).await;
        join(&sale, 0..UNITS).await;

        // A quarter of them each: paid, cancelled, not paid, and over.
        for (number, order) in orders.iter().enumerate() {
            match number % 4 {
                0 => assert_eq!(pay(&admin, order).await, "paid"),
                1 => {
                    let state = change(&buyers[number], order, "cancel", &Value::Null).await;
                    assert_eq!(state, "cancelled");
                }
                2 => {
                    let failed = json!({"result": "failed"});
                    let state = change(&admin, order, "payment", &failed).await;
                    assert_eq!(state, "payment_failed");
                }
                _ => {
                    let end = format!("UPDATE orders SET expires_at_ms = 1 WHERE id = '{order}'");
                    assert_eq!(sale.execute(&end).await, 1);
                }
            }
        }
        // What came back is held by those who waited first, so whoever pays too late gets the money back.
        await_waiting(&sale, UNITS / 4).await;
        let expired = in_state(&sale, "expired").await;
        assert_eq!(expired.len(), UNITS / 4, "{database:?}");
        for order in &expired {
            assert_eq!(pay(&admin, order).await, "refund_required", "{database:?}");
            let refunded = change(&admin, order, "refund", &json!({"units_back": true})).await;
            assert_eq!(refunded, "refunded");
        }

        // Of those who were served, some do not pay either. More come to wait than there are units.
        join(&sale, UNITS..UNITS + 10).await;
        let served = in_state(&sale, "pending").await;
        assert_eq!(served.len(), 3 * UNITS / 4, "{database:?}");
        for order in &served[5..] {
            assert_eq!(pay(&admin, order).await, "paid");
        }
        assert_eq!(sale.end_all_holds().await, 5);
        await_waiting(&sale, UNITS / 4 + 5).await;
        for order in in_state(&sale, "pending").await {
            assert_eq!(pay(&admin, &order).await, "paid");
        }

        assert_eq!(in_state(&sale, "paid").await.len(), UNITS, "{database:?}");
        assert!(in_state(&sale, "pending").await.is_empty(), "{database:?}");
        let left = "SELECT CAST(available AS TEXT) FROM stock";
        assert_eq!(sale.query(left).await, [Some("0".to_owned())], "{database:?}");
        sale.await_stock_on_nodes("1", "0").await;
        await_waiting(&sale, UNITS / 4 + 5).await;
        let late = sale.buyer("late").call("POST", LIST, Some(&json!({}))).await;
        assert_eq!(late.problem(), (409, "sold_out"), "nothing is held any more");
        for metric in
            ["waitlist_servable{product=\"1\"} 0", "holds_open 0", "hold_overdue_seconds 0"]
        {
            let line = format!("\nflashsale_{metric}\n");
            eventually(metric, async || sale.metrics().await.contains(&line)).await;
        }
    }
}
