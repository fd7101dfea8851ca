//! What becomes of orders: paid, cancelled, payment failed; units come back once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};

use futures::future::join_all;
use ledger::orders::{Change, NewOrder, OrderLine, OrderState, Settled, Task};
use serde_json::{Value, json};
use sqlx::Connection;

use crate::common::{Answer, BOTH, Buyer, Database, SaleSpec, TestSale, eventually};

async fn sale(database: Database, replicas: usize, stock: i64) -> TestSale {
    let product = |id: &str| json!({"id": id, "name": id, "stock": stock});
    let products = json!([product("A"), product("B")]);
    TestSale::start(SaleSpec { replicas, products, ..SaleSpec::on(database) }).await
}

async fn order(buyer: &Buyer<'_>, products: &[&str]) -> String {
    let items = products.iter().map(|product| json!({"product_id": product}));
    let body = json!({"items": items.collect::<Vec<_>>()});
    buyer.send(0, ("POST", "/v1/orders"), Some(&body), None).await.order().to_owned()
}

async fn pay(buyer: &Buyer<'_>, replica: usize, id: &str, report: Value) -> Answer {
    buyer.send(replica, ("POST", &format!("/v1/orders/{id}/payment")), Some(&report), None).await
}

async fn get(buyer: &Buyer<'_>, path: &str) -> Answer {
    buyer.send(0, ("GET", path), None, None).await
}

#[tokio::test]
async fn an_order_goes_from_pending_to_one_final_state_and_stays_there() {
    for database in BOTH {
        let sale = sale(database, 1, 10).await;
        let (ann, admin) = (sale.buyer("ann"), sale.admin("shop"));
        let paid = json!({"result": "paid", "reference": "p1"});
        let failed = json!({"result": "failed"});

        let id = order(&ann, &["A", "B"]).await;
        assert_eq!(get(&ann, &format!("/v1/orders/{id}")).await.state(), (200, "pending"));
        let answer = pay(&admin, 0, &id, paid.clone()).await;
        assert_eq!((answer.state(), answer.is_replayed()), ((200, "paid"), false));
        assert_eq!(answer.body["payment_reference"], "p1");
        let again = pay(&admin, 0, &id, paid.clone()).await;
        assert_eq!((again.state(), again.is_replayed()), ((200, "paid"), true));
        let second = json!({"result": "paid", "reference": "p2"});
        for refused in [
            ann.cancel(0, &id).await,
            pay(&admin, 0, &id, failed.clone()).await,
            pay(&admin, 0, &id, second).await,
        ] {
            assert_eq!(refused.problem(), (409, "order_state"));
            assert_eq!(refused.body["state"], "paid");
        }

        let id = order(&ann, &["A", "B"]).await;
        let answer = ann.cancel(0, &id).await;
        assert_eq!((answer.state(), answer.is_replayed()), ((200, "cancelled"), false));
        assert!(ann.cancel(0, &id).await.is_replayed());
        let late = pay(&admin, 0, &id, paid).await;
        assert_eq!(
            (late.problem(), &late.body["state"]),
            ((409, "order_state"), &json!("cancelled"))
        );

        let id = order(&ann, &["A", "B"]).await;
        assert_eq!(pay(&admin, 0, &id, failed.clone()).await.state(), (200, "payment_failed"));
        assert!(pay(&admin, 0, &id, failed).await.is_replayed());
        assert_eq!(ann.cancel(0, &id).await.problem(), (409, "order_state"));

        let bought = ann.buy("A", 2, None).await;
        let purchase = bought.order();
        let shown = get(&ann, &format!("/v1/orders/{purchase}")).await;
        assert_eq!(shown.state(), (200, "confirmed"));
        assert_eq!(shown.body["items"], json!([{"product_id": "A", "quantity": 2}]));
        assert!(shown.body["created_at"].as_str().unwrap().starts_with("20"));
        assert_eq!(ann.cancel(0, purchase).await.state(), (200, "cancelled"));
        assert_eq!(sale.sold().await[0]["sold"], 1, "the order that was paid");
        sale.await_stock_on_nodes("A", "9").await;
        sale.await_stock_on_nodes("B", "9").await;
    }
}

#[tokio::test]
async fn money_for_an_order_that_is_over_waits_for_an_administrator() {
    for database in BOTH {
        let sale = sale(database, 1, 10).await;
        let (ann, admin) = (sale.buyer("ann"), sale.admin("shop"));
        let report =
            |result: &str, reference: &str| json!({"result": result, "reference": reference});
        let cancelled = order(&ann, &["A"]).await;
        assert_eq!(ann.cancel(0, &cancelled).await.state(), (200, "cancelled"));
        let failed = order(&ann, &["A"]).await;
        let answer = pay(&admin, 0, &failed, report("failed", "p2")).await;
        assert_eq!(answer.state(), (200, "payment_failed"));
        let paid = order(&ann, &["A"]).await;
        assert_eq!(pay(&admin, 0, &paid, report("paid", "p3")).await.state(), (200, "paid"));
        // The last two are about no money.
        for (id, result, reference) in [
            (&cancelled, "paid", "p1"),
            (&failed, "paid", "p2"),
            (&paid, "paid", "p4"),
            (&cancelled, "failed", "p5"),
            (&paid, "failed", "p3"),
        ] {
            for _ in 0..2 {
                let refused = pay(&admin, 0, id, report(result, reference)).await;
                assert_eq!(refused.problem(), (409, "order_state"), "{database:?} {reference}");
            }
        }
        let open = async || {
            let found = get(&admin, "/v1/admin/payments?open=true").await;
            found.body["events"].as_array().unwrap().clone()
        };
        let events = open().await;
        let fields = ["provider", "kind", "order_id", "reference", "outcome"];
        let shown = |event: &Value| fields.map(|field| event[field].clone());
        let expected = [(&paid, "p4"), (&failed, "p2"), (&cancelled, "p1")];
        let expected = expected.map(|(id, reference)| {
            ["report", "paid", id.as_str(), reference, "order_state"].map(Value::from)
        });
        assert_eq!(events.iter().map(shown).collect::<Vec<_>>(), expected, "{database:?}");
        eventually("it is measured", async || {
            sale.metrics().await.contains("flashsale_payment_events_open 3")
        })
        .await;

        let path = format!("/v1/admin/payments/{}/resolve", events[0]["id"].as_str().unwrap());
        assert_eq!(admin.send(0, ("POST", &path), None, None).await.status, 200);
        let again = pay(&admin, 0, &paid, report("paid", "p4")).await;
        assert_eq!(again.problem(), (409, "order_state"));
        assert_eq!(open().await.len(), 2, "it stays resolved");
    }
}

#[tokio::test]
async fn orders_are_their_buyers_and_payments_the_administrators() {
    let sale = sale(Database::Sqlite, 1, 10).await;
    let (ann, bob, admin) = (sale.buyer("ann"), sale.buyer("bob"), sale.admin("shop"));
    let id = order(&ann, &["A"]).await;
    let path = format!("/v1/orders/{id}");
    let paid = json!({"result": "paid"});
    assert_eq!(get(&bob, &path).await.problem(), (404, "unknown_order"));
    assert_eq!(bob.cancel(0, &id).await.problem(), (404, "unknown_order"));
    assert_eq!(pay(&ann, 0, &id, paid.clone()).await.problem(), (403, "forbidden"));
    assert_eq!(get(&admin, &path).await.body["buyer"], "ann");
    for nothing in ["nope", "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00", "%00"] {
        assert_eq!(admin.cancel(0, nothing).await.problem(), (404, "unknown_order"));
        assert_eq!(pay(&admin, 0, nothing, paid.clone()).await.problem(), (404, "unknown_order"));
    }
    for report in [
        json!({}),
        json!({"result": "maybe"}),
        json!({"result": "paid", "reference": ""}),
        json!({"result": "paid", "reference": "a\u{0}b"}),
        json!({"result": "paid", "reference": "x".repeat(256)}),
    ] {
        assert_eq!(pay(&admin, 0, &id, report).await.problem(), (422, "invalid_request"));
    }
    assert_eq!(get(&ann, &path).await.state(), (200, "pending"));
    assert_eq!(admin.cancel(0, &id).await.state(), (200, "cancelled"));
}

#[tokio::test]
async fn a_buyers_orders_are_listed_newest_first_in_pages() {
    for database in BOTH {
        let sale = sale(database, 1, 100).await;
        let (ann, bob) = (sale.buyer("ann"), sale.buyer("bob"));
        let mut made = Vec::new();
        for _ in 0..5 {
            made.push(order(&ann, &["B", "A"]).await);
            order(&bob, &["A"]).await;
        }
        made.reverse();
        let (mut listed, mut path) = (Vec::new(), "/v1/orders?limit=2".to_owned());
        loop {
            let page = get(&ann, &path).await.body;
            let orders = page["orders"].as_array().unwrap().clone();
            assert!((1..=2).contains(&orders.len()));
            for order in &orders {
                let items = json!([
                    {"product_id": "A", "quantity": 1},
                    {"product_id": "B", "quantity": 1},
                ]);
                assert_eq!((&order["buyer"], &order["items"]), (&json!("ann"), &items));
                listed.push(order["order_id"].as_str().unwrap().to_owned());
            }
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/v1/orders?limit=2&after={next}");
        }
        assert_eq!(listed, made, "{database:?}");
        let all = get(&ann, "/v1/orders").await.body;
        assert_eq!((all["orders"].as_array().unwrap().len(), &all["next"]), (5, &Value::Null));
        for query in ["limit=0", "limit=101", "limit=x", "after=x", "a=b"] {
            let answer = get(&ann, &format!("/v1/orders?{query}")).await;
            assert_eq!(answer.problem(), (422, "invalid_request"), "{query}");
        }
    }
}

#[tokio::test]
async fn cancelled_units_can_be_bought_again_and_count_for_no_limit() {
    for database in BOTH {
        let products = json!([{"id": "1", "name": "Console", "stock": 2, "max_per_buyer": 2}]);
        let sale =
            TestSale::start(SaleSpec { replicas: 2, products, ..SaleSpec::on(database) }).await;
        let (ann, bob) = (sale.buyer("ann"), sale.buyer("bob"));
        let bought = ann.buy("1", 2, Some("k")).await;
        assert_eq!(bob.buy("1", 1, None).await.problem(), (409, "sold_out"));
        assert_eq!(ann.cancel(1, bought.order()).await.status, 200);
        sale.await_stock_on_nodes("1", "2").await;
        eventually("every replica knows of it", async || {
            bob.buy_from(0, "1", 1, Some("k")).await.status == 201
        })
        .await;
        assert_eq!(ann.buy("1", 1, None).await.status, 201, "the limit counts what she has");
        assert_eq!(ann.buy("1", 2, Some("k")).await.order(), bought.order(), "the key stays used");
        assert_eq!(sale.sold().await[0]["sold"], 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn units_come_back_once_however_many_cancel_and_report_at_once() {
    for (database, service) in [(Database::Postgres, "Unordered"), (Database::Sqlite, "Fair")] {
        let product = |id: &str| json!({"id": id, "name": id, "stock": 30});
        let products = json!([product("A"), product("B")]);
        let settings = vec![("LOCK_ORDER", service.to_owned())];
        let spec = SaleSpec { replicas: 2, products, settings, ..SaleSpec::on(database) };
        let sale = TestSale::start(spec).await;
        let (ann, bob, admin) = (sale.buyer("ann"), sale.buyer("bob"), sale.admin("shop"));
        let mut ids = Vec::new();
        for _ in 0..15 {
            ids.push(order(&ann, &["A", "B"]).await);
        }
        let callers = ids.iter().flat_map(|id| (0..9).map(move |i| (id, i)));
        let (ann, admin) = (&ann, &admin);
        let calls = callers.map(async |(id, i)| match i % 3 {
            0 => ann.cancel(i % 2, id).await,
            1 => pay(admin, i % 2, id, json!({"result": "failed"})).await,
            _ => pay(admin, i % 2, id, json!({"result": "paid"})).await,
        });
        let buying = (0..20).map(|i| bob.buy_from(i % 2, "A", 1, None));
        let (answers, bought) = tokio::join!(join_all(calls), join_all(buying));

        let mut live = 0;
        for (id, answers) in ids.iter().zip(answers.chunks(9)) {
            let changed = answers.iter().filter(|answer| answer.status == 200);
            let first = changed.clone().filter(|answer| !answer.is_replayed()).count();
            assert_eq!(first, 1, "one of them changed it: {answers:?}");
            let shown = get(ann, &format!("/v1/orders/{id}")).await;
            for answer in answers {
                if answer.status != 200 {
                    assert_eq!(answer.problem(), (409, "order_state"));
                }
                assert_eq!(answer.body["state"], shown.body["state"]);
            }
            live += i64::from(shown.body["state"] == "paid");
        }
        let bobs = i64::try_from(bought.iter().filter(|answer| answer.status == 201).count());
        let (a, b) = (live + bobs.unwrap(), live);
        let products = sale.sold().await;
        assert_eq!((&products[0]["sold"], &products[1]["sold"]), (&json!(a), &json!(b)));
        sale.await_stock_on_nodes("A", &(30 - a).to_string()).await;
        sale.await_stock_on_nodes("B", &(30 - b).to_string()).await;
    }
}

/// Gives the units of one order back many times at once, behind the lock's back.
#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_alone_gives_units_back_once() {
    for database in BOTH {
        let sale = sale(database, 0, 10).await;
        let ledger = sale.ledger();
        let lines = ["A", "B"].map(|id| OrderLine { product_id: id.to_owned(), quantity: 2 });
        let new = |_| {
            Task::Place(NewOrder {
                buyer: "ann".to_owned(),
                lines: lines.to_vec(),
                idempotency_key: None,
                state: OrderState::Pending,
                hold_ms: None,
                limit_key: None,
            })
        };
        let placing: Vec<Task> = (0..3).map(new).collect();
        let next_token = AtomicI64::new(100);
        let tokens = || {
            let token = next_token.fetch_add(1, Ordering::SeqCst);
            BTreeMap::from([("A".to_owned(), token), ("B".to_owned(), token)])
        };
        let placed = ledger.settle(&tokens(), &placing.iter().collect::<Vec<_>>()).await.unwrap();
        let Settled::Done(order) = &placed.outcomes[0] else { panic!("{placed:?}") };
        let change = |i: usize| match i % 2 {
            0 => Change::Cancel,
            _ => Change::FailPayment { reference: None },
        };
        let calls = (0..30).map(async |i| {
            if i % 10 == 9 {
                return vec![ledger.pay(order.id, None, Some("admin")).await.unwrap()];
            }
            let task = Task::GiveBack { id: order.id, change: change(i), actor: None };
            loop {
                // Twice in one transaction, too.
                if let Ok(done) = ledger.settle(&tokens(), &[&task, &task]).await {
                    return done.outcomes;
                }
            }
        });
        let outcomes: Vec<Settled> = join_all(calls).await.into_iter().flatten().collect();
        let done = outcomes.iter().filter(|outcome| matches!(outcome, Settled::Done(_))).count();
        assert_eq!(done, 1, "{database:?}");
        let state = ledger.placed(order.id).await.unwrap().unwrap().state;
        let left = if state == OrderState::Paid { 4 } else { 6 };
        let available = ledger.products().await.unwrap();
        assert_eq!(available.iter().map(|p| p.available).collect::<Vec<_>>(), [left, left]);
    }
}

/// The same, by statements that do not ask for the state: what the condition is for.
#[tokio::test]
async fn without_the_condition_units_come_back_twice() {
    let sale = sale(Database::Postgres, 1, 10).await;
    let bought = sale.buyer("ann").buy("A", 4, None).await;
    sale.buyer("bob").buy("A", 4, None).await;
    let mut database = sqlx::PgConnection::connect(&sale.database_url()).await.unwrap();
    for _ in 0..2 {
        let changed = "UPDATE orders SET state = 'cancelled' WHERE id = $1::UUID";
        let changed =
            sqlx::query(changed).bind(bought.order()).execute(&mut database).await.unwrap();
        let back = "UPDATE stock SET available = available + $1 WHERE product_id = 'A'";
        let units = i64::try_from(changed.rows_affected()).unwrap() * 4;
        sqlx::query(back).bind(units).execute(&mut database).await.unwrap();
    }
    assert_eq!(sale.ledger().products().await.unwrap()[0].available, 10, "bob's are sold again");
}
