//! Events of orders: each change reaches the receiver, signed, in the order of the order's changes, and failures are
//! repeated, given up and replayed.

mod given_up;
mod states;
mod without;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Answer, BOTH, Buyer, Database, SaleSpec, TestSale, eventually, value};
use crate::receiver::{KEY, NEXT_KEY, Receiver, Reply, TAKEN, Webhook, verified};

async fn sale(database: Database, receiver: &Receiver, more: &[(&'static str, &str)]) -> TestSale {
    sale_of(3, database, receiver, more).await
}

async fn sale_of(
    stock: u32,
    database: Database,
    receiver: &Receiver,
    more: &[(&'static str, &str)],
) -> TestSale {
    let product = |id: &str| json!({"id": id, "name": id, "stock": stock});
    let products = json!([product("A"), product("B")]);
    let mut settings = receiver.settings();
    settings.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    TestSale::start(SaleSpec { nodes: 1, products, settings, ..SaleSpec::on(database) }).await
}

async fn order(buyer: &Buyer<'_>, products: &[&str]) -> String {
    let items = products.iter().map(|product| json!({"product_id": product}));
    let body = json!({"items": items.collect::<Vec<_>>()});
    buyer.call("POST", "/v1/orders", Some(&body)).await.order().to_owned()
}

async fn bought_soon(sale: &TestSale, product: &str, quantity: i64) -> String {
    loop {
        let answer = sale.buyer("carl").buy(product, quantity, None).await;
        if answer.status == 201 {
            return answer.order().to_owned();
        }
        assert_eq!(answer.problem(), (409, "sold_out"));
    }
}

async fn cancel(buyer: &Buyer<'_>, order: &str) {
    let answer = buyer.call("POST", &format!("/v1/orders/{order}/cancel"), None).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn report(sale: &TestSale, order: &str, result: &str) -> Value {
    let path = format!("/v1/orders/{order}/payment");
    let report = json!({"result": result, "reference": "p1"});
    let answer = sale.admin("shop").call("POST", &path, Some(&report)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["state"].clone()
}

async fn admin(sale: &TestSale, method: &str, path: &str) -> Answer {
    sale.admin("shop").call(method, &format!("/v1/admin/events/{path}"), None).await
}

fn of<'a>(webhooks: &'a [Webhook], order: &str, kind: &str) -> &'a Webhook {
    let found = webhooks.iter().find(|it| it.order() == order && it.kind() == kind);
    found.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_an_order_reaches_the_receiver_signed_and_in_order() {
    for database in BOTH {
        let receiver = Receiver::start().await;
        let sale = sale(database, &receiver, &[("SALE_NAME", "shop/spring")]).await;
        let (ann, bob) = (sale.buyer("ann"), sale.buyer("bob"));
        let bought = ann.buy("A", 1, None).await.order().to_owned();
        let cancelled = order(&ann, &["A", "B"]).await;
        cancel(&ann, &cancelled).await;
        let paid = order(&bob, &["B"]).await;
        report(&sale, &paid, "paid").await;
        let failed = order(&bob, &["A"]).await;
        report(&sale, &failed, "failed").await;
        let expired = order(&ann, &["A", "B"]).await;
        sale.end_all_holds().await;
        receiver.await_kinds(&expired, &["pending", "expired"]).await;
        // The nodes have the units a moment later than the database.
        let late = bought_soon(&sale, "B", 2).await;
        assert_eq!(report(&sale, &expired, "paid").await, "refund_required");
        let erased = sale.admin("shop").call("DELETE", "/v1/buyers/ann", None).await;
        assert_eq!(erased.status, 200, "{erased:?}");
        let pseudonym = &erased.body["pseudonym"];

        let erasure = "buyer_erased";
        for (order, kinds) in [
            (&bought, &["confirmed", erasure][..]),
            (&cancelled, &["pending", "cancelled", erasure][..]),
            (&paid, &["pending", "paid"][..]),
            (&failed, &["pending", "payment_failed"][..]),
            (&expired, &["pending", "expired", "refund_required", erasure][..]),
            (&late, &["confirmed"][..]),
        ] {
            receiver.await_kinds(order, kinds).await;
        }
        let webhooks = receiver.all();
        let ids: HashSet<&str> = webhooks.iter().map(Webhook::id).collect();
        assert_eq!((ids.len(), webhooks.len()), (14, 14), "{database:?}: each once");
        for webhook in &webhooks {
            let event = &webhook.event;
            assert_eq!(webhook.headers["content-type"], "application/cloudevents+json");
            assert_eq!(webhook.headers["webhook-id"], webhook.id());
            assert_eq!(
                (&event["specversion"], &event["source"]),
                (&json!("1.0"), &json!("/sales/shop/spring"))
            );
            event["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        }
        let data = &of(&webhooks, &paid, "paid").event["data"];
        assert_eq!(data["items"], json!([{"product_id": "B", "quantity": 1}]));
        assert_eq!((&data["buyer"], &data["payment_reference"]), (&json!("bob"), &json!("p1")));
        assert_eq!((&data["order_id"], &data["state"]), (&json!(paid), &json!("paid")));
        let data = &of(&webhooks, &expired, erasure).event["data"];
        assert_eq!((&data["buyer"], data.get("state")), (pseudonym, None));
        let items = json!([{"product_id": "A", "quantity": 1}, {"product_id": "B", "quantity": 1}]);
        assert_eq!(data["items"], items);

        assert_eq!(verified(&webhooks, KEY), vec!["ok"; 14]);
        let mut forged = webhooks[0].clone();
        forged.body = forged.body.replace("\"quantity\":1", "\"quantity\":9");
        assert_ne!(forged.body, webhooks[0].body);
        assert!(verified(&[forged], KEY)[0].starts_with("refused"));
        assert!(verified(&webhooks[..1], NEXT_KEY)[0].starts_with("refused"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_decides_has_events_too() {
    for database in BOTH {
        let receiver = Receiver::start().await;
        let sale = sale(database, &receiver, &[("STRATEGY", "Atomic")]).await;
        let ann = sale.buyer("ann");
        let order = ann.buy("A", 2, None).await.order().to_owned();
        receiver.await_kinds(&order, &["confirmed"]).await;
        cancel(&ann, &order).await;
        receiver.await_kinds(&order, &["confirmed", "cancelled"]).await;
        let paid = ann.buy("A", 1, None).await.order().to_owned();
        receiver.await_kinds(&paid, &["confirmed"]).await;
        report(&sale, &paid, "paid").await;
        receiver.await_kinds(&paid, &["confirmed", "paid"]).await;
        assert_eq!(verified(&receiver.all(), KEY), vec!["ok"; 4]);
    }
}

/// As a replica of the release before, or another tool, writes them.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_has_its_event_whoever_writes_it_and_none_if_it_is_not_committed() {
    for database in BOTH {
        let receiver = Receiver::start().await;
        let sale = sale(database, &receiver, &[]).await;
        let insert = |id: &str| {
            format!(
                "INSERT INTO orders (id, product_id, buyer, quantity, fence) VALUES ('{id}', 'A', 'ann', 1, 0);"
            )
        };
        let [undone, kept] =
            [1, 2].map(|number| format!("0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d0{number}"));
        sale.execute(&format!("BEGIN; {} ROLLBACK", insert(&undone))).await;
        sale.execute(&insert(&kept)).await;
        // Changes nothing of the order.
        sale.execute("UPDATE orders SET idempotency_key = 'a', fence = 1").await;
        sale.execute("UPDATE orders SET state = 'paid'").await;
        receiver.await_kinds(&kept, &["confirmed", "paid"]).await;
        assert_eq!(receiver.kinds_of(&undone), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_gets_the_states_that_it_wants_and_two_signatures_while_the_key_changes() {
    for database in BOTH {
        let receiver = Receiver::start().await;
        let keys = format!("{NEXT_KEY} {KEY}");
        let settings =
            [("EVENTS_WEBHOOK_SECRET", keys.as_str()), ("EVENTS_WEBHOOK_STATES", "paid,expired")];
        let sale = sale(database, &receiver, &settings).await;
        let ann = sale.buyer("ann");
        ann.buy("A", 1, None).await.order();
        let paid = order(&ann, &["A"]).await;
        report(&sale, &paid, "paid").await;
        receiver.await_kinds(&paid, &["paid"]).await;
        let webhooks = receiver.all();
        assert_eq!(webhooks.len(), 1, "{database:?}");
        for key in [KEY, NEXT_KEY] {
            assert_eq!(verified(&webhooks, key), ["ok"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_fails_is_repeated_and_only_its_own_order_waits() {
    for database in BOTH {
        let receiver = Receiver::start().await;
        let sale = sale(database, &receiver, &[]).await;
        let ann = sale.buyer("ann");
        for refusal in [Reply::Status(500), Reply::Status(302), Reply::Close] {
            let stuck = order(&ann, &["A"]).await;
            receiver.await_kinds(&stuck, &["pending"]).await;
            let subject = stuck.clone();
            let is_stuck = move |event: &Value| event["subject"] == json!(subject);
            receiver.answer(move |event| if is_stuck(event) { refusal } else { TAKEN });
            cancel(&ann, &stuck).await;
            let attempts = || {
                let all = receiver.all();
                all.into_iter()
                    .filter(|it| it.order() == stuck && it.kind() == "cancelled")
                    .collect::<Vec<_>>()
            };
            eventually("it was tried twice", async || attempts().len() >= 2).await;
            // As a second change of the order.
            sale.execute(&format!("UPDATE orders SET buyer = 'x' WHERE id = '{stuck}'")).await;
            let other = order(&ann, &["A"]).await;
            cancel(&ann, &other).await;
            receiver.await_kinds(&other, &["pending", "cancelled"]).await;
            assert_eq!(receiver.kinds_of(&stuck), ["pending"], "{database:?} {refusal:?}");
            receiver.answer(|_| TAKEN);
            receiver.await_kinds(&stuck, &["pending", "cancelled", "buyer_erased"]).await;
            let ids: HashSet<String> = attempts().iter().map(|it| it.id().to_owned()).collect();
            assert_eq!(ids.len(), 1, "each attempt has the same id");
            let pauses = attempts();
            assert!(pauses[1].at - pauses[0].at >= Duration::from_millis(800));
        }
        assert!(verified(&receiver.all(), KEY).iter().all(|it| it == "ok"));
        let metrics = sale.metrics().await;
        let failed = r#"flashsale_event_attempts_failed_total{sink="webhook"}"#;
        let failed = value(&metrics, failed);
        assert!(failed >= Some(6_u64), "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_away_or_asks_for_a_pause_gets_all_events_later() {
    for (database, refusal) in
        [(Database::Postgres, Reply::Later(2)), (Database::Sqlite, Reply::Status(502))]
    {
        let receiver = Receiver::start().await;
        let sale = sale_of(100, database, &receiver, &[]).await;
        receiver.answer(move |_| refusal);
        let began = Instant::now();
        let mut orders = Vec::new();
        for number in 0..30 {
            orders
                .push(sale.buyer(&format!("b{number}")).buy("B", 1, None).await.order().to_owned());
        }
        eventually("some were tried", async || receiver.all().len() >= 2).await;
        let lag = async || {
            let sinks = admin(&sale, "GET", "sinks").await.body;
            sinks["sinks"][0]["lag_seconds"].as_f64().unwrap()
        };
        eventually("the lag shows", async || lag().await > 2.5).await;
        let attempts = receiver.all().len();
        assert!(attempts < 45, "{database:?}: {attempts} attempts in some seconds");
        let shown = async || {
            let lag = r#"flashsale_event_lag_seconds{sink="webhook"}"#;
            value::<f64>(&sale.metrics().await, lag).unwrap()
        };
        eventually("the metric shows it", async || shown().await > 0.0).await;
        let (seconds, most) = (shown().await, began.elapsed().as_secs_f64() + 1.0);
        assert!(seconds < most, "{database:?}: {seconds} s of {most} s");
        receiver.answer(|_| TAKEN);
        eventually("all arrive", async || receiver.taken().len() >= 30).await;
        for order in &orders {
            assert_eq!(receiver.kinds_of(order), ["confirmed"]);
        }
        eventually("nothing is pending", async || lag().await < 0.001).await;
        eventually("the metric is 0 again", async || shown().await < 0.001).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_was_away_while_another_replica_delivered_gets_all_events_too() {
    for database in BOTH {
        let receiver = Receiver::start().await;
        let mut sale = sale(database, &receiver, &[]).await;
        receiver.answer(|_| Reply::Status(502));
        let waits = sale.buyer("ann").buy("A", 1, None).await.order().to_owned();
        let failed = "SELECT state FROM failed_events";
        eventually("it has failed", async || sale.query(failed).await.len() == 1).await;
        sale.replicas.remove(0).stop().await;
        // As after many attempts.
        let retry = jiff::Timestamp::now().as_millisecond() + 4 * 3_600_000;
        let paused = format!("UPDATE failed_events SET attempts = 10, retry_at_ms = {retry}");
        assert_eq!(sale.execute(&paused).await, 1);
        receiver.answer(|_| TAKEN);
        sale.add_replica().await;
        sale.await_ready(0).await;
        let new = sale.buyer("bob").buy("A", 1, None).await.order().to_owned();
        receiver.await_kinds(&new, &["confirmed"]).await;
        receiver.await_kinds(&waits, &["confirmed"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_gone_gets_no_events_until_an_administrator_enables_it() {
    for database in BOTH {
        let receiver = Receiver::start().await;
        let sale = sale(database, &receiver, &[]).await;
        let ann = sale.buyer("ann");
        receiver.answer(|_| Reply::Status(410));
        let first = ann.buy("A", 1, None).await.order().to_owned();
        let status = async || admin(&sale, "GET", "sinks").await.body["sinks"][0].clone();
        eventually("it is disabled", async || status().await.get("disabled_at").is_some()).await;
        receiver.answer(|_| TAKEN);
        let second = ann.buy("A", 1, None).await.order().to_owned();
        let disabled = r#"flashsale_event_sink_disabled{sink="webhook"} 1"#;
        eventually("the metric shows it", async || sale.metrics().await.contains(disabled)).await;
        assert_eq!((receiver.taken().len(), &status().await["pending"]), (0, &json!(2)));

        assert_eq!(
            ann.call("POST", "/v1/admin/events/sinks/webhook/enable", None).await.problem(),
            (403, "forbidden")
        );
        assert_eq!(
            admin(&sale, "POST", "sinks/other/enable").await.problem(),
            (404, "unknown_sink")
        );
        assert_eq!(admin(&sale, "POST", "sinks/webhook/enable").await.status, 204);
        receiver.await_kinds(&first, &["confirmed"]).await;
        receiver.await_kinds(&second, &["confirmed"]).await;
        let log = sale.admin("shop").call("GET", "/v1/admin/audit", None).await.body;
        assert_eq!(log["entries"][0]["action"], "enable_event_sink", "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_without_receivers_writes_no_events() {
    for database in BOTH {
        let sale = TestSale::start(SaleSpec { nodes: 1, ..SaleSpec::on(database) }).await;
        sale.buyer("ann").buy("1", 1, None).await.order();
        assert_eq!(admin(&sale, "GET", "sinks").await.body["sinks"], json!([]));
        assert_eq!(sale.ledger().new_events("webhook", 10).await.unwrap(), []);
    }
}
