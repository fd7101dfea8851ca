//! The waiting list: units that come back go to who waits first, before anybody else can buy them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use ledger::orders::{Change, NewOrder, OrderLine, OrderState, Settled, Task};
use ledger::waitlist::{Joined, NewWaiter};
use serde_json::{Value, json};

use crate::common::{Answer, BOTH, Buyer, Database, SaleSpec, TestSale, eventually};

const PATH: &str = "/v1/products/1/waitlist";

async fn sale(database: Database, replicas: usize, stock: i64) -> TestSale {
    let products = json!([{"id": "1", "name": "Console", "stock": stock, "max_per_buyer": 3}]);
    let settings = vec![("HOLD_SECONDS", "3600".to_owned())];
    let spec = SaleSpec { nodes: 1, replicas, products, settings, ..SaleSpec::on(database) };
    TestSale::start(spec).await
}

async fn order(buyer: &Buyer<'_>, units: i64) -> String {
    let body = json!({"items": [{"product_id": "1", "quantity": units}]});
    buyer.call("POST", "/v1/orders", Some(&body)).await.order().to_owned()
}

async fn join(buyer: &Buyer<'_>, units: i64) -> Answer {
    buyer.call("POST", PATH, Some(&json!({"quantity": units}))).await
}

/// The caller's place; 0: the caller does not wait.
async fn place(buyer: &Buyer<'_>) -> i64 {
    let answer = buyer.call("GET", PATH, None).await;
    if answer.status == 404 {
        assert_eq!(answer.problem(), (404, "not_waiting"));
        return 0;
    }
    answer.body["position"].as_i64().unwrap()
}

/// States and units of a buyer's orders, newest first.
async fn orders(buyer: &Buyer<'_>) -> Vec<(String, i64)> {
    let listed = buyer.call("GET", "/v1/orders", None).await.body;
    let order = |order: &Value| {
        let units = order["items"][0]["quantity"].as_i64().unwrap();
        (order["state"].as_str().unwrap().to_owned(), units)
    };
    listed["orders"].as_array().unwrap().iter().map(order).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn units_of_an_ended_hold_go_to_who_waits_first_whoever_hammers() {
    for database in BOTH {
        let sale = sale(database, 2, 2).await;
        let (ann, bob, eve, dan) =
            (sale.buyer("ann"), sale.buyer("bob"), sale.buyer("eve"), sale.buyer("dan"));
        let (held, other) = (order(&ann, 1).await, order(&ann, 1).await);
        assert_eq!(join(&bob, 1).await.body["position"], 1);
        assert_eq!(join(&dan, 1).await.body["position"], 2);
        let over = AtomicBool::new(false);
        let hammering = async |replica: usize| {
            let mut sold = 0;
            while !over.load(Ordering::Relaxed) {
                let body = json!({"items": [{"product_id": "1"}]});
                let ordered = eve.send(replica, ("POST", "/v1/orders"), Some(&body), None).await;
                let bought = eve.buy_from(replica, "1", 1, None).await;
                sold += [ordered, bought].iter().filter(|answer| answer.status == 201).count();
            }
            sold
        };
        let serving = async {
            sale.execute(&format!("UPDATE orders SET expires_at_ms = 1 WHERE id = '{held}'")).await;
            eventually("bob is served", async || place(&bob).await == 0).await;
            assert_eq!(orders(&bob).await, [("pending".to_owned(), 1)]);
            assert_eq!(place(&dan).await, 1, "dan is the next");
            let cancel = format!("/v1/orders/{other}/cancel");
            assert_eq!(ann.call("POST", &cancel, None).await.status, 200);
            assert_eq!(place(&dan).await, 0, "in the transaction of the cancel");
            assert_eq!(orders(&dan).await, [("pending".to_owned(), 1)]);
            over.store(true, Ordering::Relaxed);
        };
        let (first, second, ()) = tokio::join!(hammering(0), hammering(1), serving);
        assert_eq!((first, second), (0, 0), "{database:?}: eve had units of those who waited");
        assert_eq!(sale.sold().await[0]["sold"], 2);
        let shown = bob.call("GET", "/v1/orders", None).await.body;
        assert!(shown["orders"][0]["expires_at"].is_string(), "a hold with an end of its own");
    }
}

const HOUR_MS: i64 = 3_600_000;

/// Somebody asks for one unit, at the ledger itself.
fn asks(buyer: &str) -> Task {
    Task::Place(NewOrder {
        buyer: buyer.to_owned(),
        lines: vec![OrderLine { product_id: "1".to_owned(), quantity: 1 }],
        idempotency_key: None,
        state: OrderState::Pending,
        hold_ms: Some(HOUR_MS),
        limit_key: None,
    })
}

/// A unit comes back while somebody waits, and another buyer asks for it: in the transaction that serves the list, or by
/// statements that know of no list, as those of the release before.
#[tokio::test]
async fn without_the_list_in_the_transaction_who_asks_next_has_the_unit() {
    for (database, serves_the_list) in [
        (Database::Postgres, true),
        (Database::Postgres, false),
        (Database::Sqlite, true),
        (Database::Sqlite, false),
    ] {
        // No replica hands units out meanwhile.
        let sale = sale(database, 0, 1).await;
        let ledger = sale.ledger();
        let tokens = |token: i64| BTreeMap::from([("1".to_owned(), token)]);
        let placed = ledger.settle(&tokens(1_000), &[&asks("ann")]).await.unwrap();
        let Settled::Done(held) = &placed.outcomes[0] else { panic!("{placed:?}") };
        let waiter = NewWaiter {
            product_id: "1".to_owned(),
            buyer: "bob".to_owned(),
            quantity: 1,
            hold_ms: HOUR_MS,
            limit_key: None,
        };
        let joined = ledger.join_waitlist(&waiter).await.unwrap();
        assert!(matches!(joined, Joined::Waits(_)), "{joined:?}");

        let (eve, back) =
            (asks("eve"), Task::GiveBack { id: held.id, change: Change::Cancel, actor: None });
        let mut tasks = vec![&eve];
        if serves_the_list {
            tasks.push(&back);
        } else {
            sale.execute(
                "UPDATE orders SET state = 'cancelled'; UPDATE stock SET available = available + 1",
            )
            .await;
        }
        let settled = ledger.settle(&tokens(1_001), &tasks).await.unwrap();
        let eve_has_it = matches!(settled.outcomes[0], Settled::Done(_));
        assert_eq!(eve_has_it, !serves_the_list, "{database:?} {settled:?}");
        let bob_waits = ledger.waitlist_place("1", "bob").await.unwrap().is_some();
        assert_eq!(bob_waits, !serves_the_list, "{database:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn units_of_a_failed_payment_and_of_a_refund_go_to_who_waits() {
    for database in BOTH {
        let sale = sale(database, 1, 3).await;
        let (ann, bob, dan, admin) =
            (sale.buyer("ann"), sale.buyer("bob"), sale.buyer("dan"), sale.admin("shop"));
        let (failing, paid) = (order(&ann, 1).await, order(&ann, 1).await);
        order(&sale.buyer("carl"), 1).await;
        let report = |id: &str| format!("/v1/orders/{id}/payment");
        admin.call("POST", &report(&paid), Some(&json!({"result": "paid"}))).await;
        for buyer in [&bob, &dan] {
            assert_eq!(join(buyer, 1).await.status, 201);
        }
        admin.call("POST", &report(&failing), Some(&json!({"result": "failed"}))).await;
        assert_eq!((place(&bob).await, place(&dan).await), (0, 1), "{database:?}");
        let refund = format!("/v1/orders/{paid}/refund");
        let kept = admin.call("POST", &refund, Some(&json!({"units_back": true}))).await;
        assert_eq!(kept.status, 200, "{kept:?}");
        assert_eq!(place(&dan).await, 0);
        assert_eq!(sale.sold().await[0]["sold"], 3);
        // Who is served and does not pay gives the unit to the next.
        let eve = sale.buyer("eve");
        join(&eve, 1).await;
        sale.execute(
            "UPDATE orders SET expires_at_ms = 1 WHERE state = 'pending' AND buyer = 'bob'",
        )
        .await;
        eventually("eve is served", async || place(&eve).await == 0).await;
        assert_eq!(orders(&bob).await, [("expired".to_owned(), 1)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_waits_once_and_may_leave() {
    for database in BOTH {
        let sale = sale(database, 1, 1).await;
        let (ann, bob, dan) = (sale.buyer("ann"), sale.buyer("bob"), sale.buyer("dan"));
        assert_eq!(join(&bob, 1).await.problem(), (409, "units_left"));
        let held = order(&ann, 1).await;
        let first = join(&bob, 1).await;
        assert_eq!(first.status, 201);
        let again = join(&bob, 1).await;
        assert_eq!((again.status, &again.body), (201, &first.body));
        assert!(again.is_replayed());
        // As many may wait as there are units.
        assert_eq!(join(&dan, 1).await.problem(), (409, "waitlist_full"));
        for _ in 0..2 {
            assert_eq!(bob.call("DELETE", PATH, None).await.status, 204);
            assert_eq!(place(&bob).await, 0);
        }
        assert_eq!(join(&dan, 1).await.body["position"], 1);
        ann.call("POST", &format!("/v1/orders/{held}/cancel"), None).await;
        assert_eq!((orders(&bob).await.len(), orders(&dan).await.len()), (0, 1), "{database:?}");
        // All of it is paid: nothing comes back by itself.
        let id = dan.call("GET", "/v1/orders", None).await.body["orders"][0]["order_id"].clone();
        let path = format!("/v1/orders/{}/payment", id.as_str().unwrap());
        sale.admin("shop").call("POST", &path, Some(&json!({"result": "paid"}))).await;
        assert_eq!(join(&bob, 1).await.problem(), (409, "sold_out"));
        for wrong in [json!({"quantity": 0}), json!({"quantity": 1_000_001}), json!({"units": 1})] {
            let refused = bob.call("POST", PATH, Some(&wrong)).await;
            assert_eq!(refused.problem(), (422, "invalid_request"));
        }
        let nothing = bob.call("POST", "/v1/products/9/waitlist", Some(&json!({}))).await;
        assert_eq!(nothing.problem(), (404, "unknown_product"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_product_that_is_deleted_may_leave() {
    for database in BOTH {
        let sale = sale(database, 1, 1).await;
        let (ann, bob, dan) = (sale.buyer("ann"), sale.buyer("bob"), sale.buyer("dan"));
        order(&ann, 1).await;
        assert_eq!(join(&bob, 1).await.status, 201);
        let deleted = sale.admin("shop").call("DELETE", "/v1/products/1", None).await;
        assert_eq!(deleted.status, 204, "{deleted:?}");
        eventually("the product is gone", async || join(&dan, 1).await.status == 404).await;
        assert_eq!(place(&bob).await, 1, "{database:?}");
        assert_eq!(bob.call("DELETE", PATH, None).await.status, 204, "{database:?}");
        assert_eq!(place(&bob).await, 0);
        for nothing in ["9", "%00"] {
            let path = format!("/v1/products/{nothing}/waitlist");
            let unknown = bob.call("DELETE", &path, None).await;
            assert_eq!(unknown.problem(), (404, "unknown_product"), "{database:?} {nothing}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_for_who_waits_and_large_wishes_are_passed_over() {
    for database in BOTH {
        let sale = sale(database, 1, 5).await;
        let (ann, bob, dan, eve) =
            (sale.buyer("ann"), sale.buyer("bob"), sale.buyer("dan"), sale.buyer("eve"));
        let one = order(&ann, 1).await;
        let two = order(&ann, 2).await;
        order(&bob, 2).await;
        assert_eq!(join(&ann, 1).await.problem(), (409, "limit_reached"));
        assert_eq!(join(&bob, 2).await.problem(), (409, "limit_reached"));
        assert_eq!(join(&dan, 2).await.status, 201);
        assert_eq!(join(&eve, 1).await.status, 201);
        ann.call("POST", &format!("/v1/orders/{one}/cancel"), None).await;
        assert_eq!(
            (place(&dan).await, place(&eve).await),
            (1, 0),
            "one unit is too little for dan"
        );
        ann.call("POST", &format!("/v1/orders/{two}/cancel"), None).await;
        assert_eq!(place(&dan).await, 0);
        assert_eq!(orders(&dan).await, [("pending".to_owned(), 2)]);
        // Who has as many as allowed by the time of the turn is not served.
        sale.execute("INSERT INTO waitlist (product_id, buyer, quantity, hold_ms) VALUES ('1', 'bob', 2, 9000)",
        )
        .await;
        let id = eve.call("GET", "/v1/orders", None).await.body["orders"][0]["order_id"].clone();
        let path = format!("/v1/orders/{}/cancel", id.as_str().unwrap());
        sale.execute("UPDATE waitlist SET quantity = 2").await;
        eve.call("POST", &path, None).await;
        assert_eq!(sale.sold().await[0]["sold"], 4, "{database:?}");
        assert_eq!(orders(&bob).await.len(), 1);
    }
}

/// More who wait than one read of the list returns, for two units each.
const MANY_FOR_TWO: &str = "INSERT INTO waitlist (product_id, buyer, quantity, hold_ms) \
     WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 600) \
     SELECT '1', 'many-' || n, 2, 3600000 FROM numbers";

#[tokio::test(flavor = "multi_thread")]
async fn many_who_want_more_than_there_is_hide_nobody_behind_them() {
    for database in BOTH {
        let sale = sale(database, 1, 4).await;
        let (ann, bob, dan, eve) =
            (sale.buyer("ann"), sale.buyer("bob"), sale.buyer("dan"), sale.buyer("eve"));
        let (one, three) = (order(&ann, 1).await, order(&bob, 3).await);
        sale.execute(MANY_FOR_TWO).await;
        let waits = async |buyer: &str| {
            sale.execute(&format!(
                "INSERT INTO waitlist (product_id, buyer, quantity, hold_ms) \
                 VALUES ('1', '{buyer}', 1, 3600000)"
            ))
            .await;
        };
        waits("dan").await;
        assert_eq!(place(&dan).await, 601);
        ann.call("POST", &format!("/v1/orders/{one}/cancel"), None).await;
        assert_eq!(place(&dan).await, 0, "{database:?}: one unit is too little for all before");
        assert_eq!(orders(&dan).await, [("pending".to_owned(), 1)]);
        // The first takes two of three units, which leaves too few for those between.
        waits("eve").await;
        bob.call("POST", &format!("/v1/orders/{three}/cancel"), None).await;
        assert_eq!(place(&eve).await, 0, "{database:?}: in the same transaction");
        assert_eq!(orders(&eve).await, [("pending".to_owned(), 1)]);
        assert_eq!(orders(&sale.buyer("many-1")).await, [("pending".to_owned(), 2)]);
        assert!(orders(&sale.buyer("many-2")).await.is_empty());
        assert_eq!(sale.sold().await[0]["sold"], 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restocked_units_are_handed_out_and_the_page_hears_of_it() {
    for database in BOTH {
        let sale = sale(database, 1, 1).await;
        let (ann, bob, admin) = (sale.buyer("ann"), sale.buyer("bob"), sale.admin("shop"));
        order(&ann, 1).await;
        assert_eq!(join(&bob, 1).await.status, 201);
        let mut events = ann.request(0, "GET", "/v1/sale/events").send().await.unwrap();
        let mut seen = String::new();
        let mut next = async |until: &str| {
            while !seen.contains(until) {
                let event = events.chunk().await.unwrap().unwrap();
                seen.push_str(std::str::from_utf8(&event).unwrap());
            }
            seen.clear();
        };
        next("\"waiting\":1").await;
        let metrics = sale.metrics().await;
        for gauge in ["waiting{product=\"1\"} 1", "servable{product=\"1\"} 0"] {
            assert!(metrics.contains(&format!("\nflashsale_waitlist_{gauge}\n")), "{gauge}");
        }
        let restock = json!({"add": 1});
        admin.call("POST", "/v1/products/1/restock", Some(&restock)).await;
        eventually("bob is served", async || place(&bob).await == 0).await;
        next("\"waiting\":0").await;
        assert_eq!(sale.sold().await[0]["sold"], 2, "{database:?}");
        eventually("it is counted", async || {
            sale.metrics().await.contains("flashsale_waitlist_served_total 1")
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_buyer_can_see_what_is_held_and_is_erased() {
    for database in BOTH {
        let sale = sale(database, 1, 1).await;
        let (ann, bob, admin) = (sale.buyer("ann"), sale.buyer("bob"), sale.admin("shop"));
        let held = order(&ann, 1).await;
        join(&bob, 1).await;
        let export = admin.call("GET", "/v1/buyers/bob/export", None).await.body;
        assert_eq!(export["waits"], json!([{"product_id": "1", "quantity": 1}]));
        let erased = admin.call("DELETE", "/v1/buyers/bob", None).await;
        assert_eq!(erased.status, 200, "{erased:?}");
        ann.call("POST", &format!("/v1/orders/{held}/cancel"), None).await;
        assert_eq!(sale.sold().await[0]["sold"], 0, "{database:?}: an erased buyer is not served");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_that_redis_decides_has_no_waiting_list() {
    let settings = vec![("STRATEGY", "Atomic".to_owned())];
    let spec = SaleSpec { nodes: 1, settings, ..SaleSpec::on(Database::Sqlite) };
    let sale = TestSale::start(spec).await;
    assert_eq!(join(&sale.buyer("ann"), 1).await.problem(), (409, "not_with_atomic"));
}
