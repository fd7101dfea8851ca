//! Events of states that an order comes into after its end or without its buyer, and of buyers who are erased before
//! their events are delivered.

use serde_json::{Value, json};

use super::{admin, bought_soon, of, order, report, sale};
use crate::common::{BOTH, Buyer, Database, TestSale, eventually};
use crate::receiver::{KEY, Receiver, Reply, TAKEN, Webhook, verified};

/// A name that nothing else contains.
const NAME: &str = "jane.doe@example.com";

/// An order of one unit that is paid.
async fn paid(sale: &TestSale, buyer: &Buyer<'_>, product: &str) -> String {
    let order = buyer.buy(product, 1, None).await.order().to_owned();
    assert_eq!(report(sale, &order, "paid").await, "paid");
    order
}

async fn refund(sale: &TestSale, order: &str, body: &Value) {
    let path = format!("/v1/orders/{order}/refund");
    let answer = sale.admin("shop").call("POST", &path, Some(body)).await;
    assert_eq!((answer.status, &answer.body["state"]), (200, &json!("refunded")), "{answer:?}");
}

/// The order of a buyer who waited, when there is one.
async fn served(buyer: &Buyer<'_>) -> String {
    let orders = async || buyer.call("GET", "/v1/orders", None).await.body["orders"].clone();
    eventually("who waits is served", async || orders().await[0].is_object()).await;
    orders().await[0]["order_id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn refunds_late_payments_and_orders_of_who_waited_have_events() {
    for database in BOTH {
        let receiver = Receiver::start().await;
        // Three units of A and of B.
        let sale = sale(database, &receiver, &[]).await;
        let (ann, bob) = (sale.buyer("ann"), sale.buyer("bob"));
        let kept = paid(&sale, &ann, "A").await;
        let back = paid(&sale, &ann, "B").await;
        refund(&sale, &kept, &json!({"reference": "r1"})).await;
        refund(&sale, &back, &json!({"units_back": true})).await;
        let (late, too_late) = (order(&ann, &["A"]).await, order(&ann, &["B"]).await);
        sale.end_all_holds().await;
        for order in [&late, &too_late] {
            receiver.await_kinds(order, &["pending", "expired"]).await;
        }
        assert_eq!(report(&sale, &late, "paid").await, "paid");
        let all_of_b = bought_soon(&sale, "B", 3).await;
        assert_eq!(report(&sale, &too_late, "paid").await, "refund_required");
        refund(&sale, &too_late, &json!({})).await;

        let last_of_a = order(&ann, &["A"]).await;
        let waits = json!({"quantity": 1});
        let waits = bob.call("POST", "/v1/products/A/waitlist", Some(&waits)).await;
        assert_eq!(waits.status, 201, "{waits:?}");
        sale.end_all_holds().await;
        let waited = served(&bob).await;
        receiver.await_kinds(&waited, &["pending"]).await;
        assert_eq!(report(&sale, &waited, "paid").await, "paid");

        for (order, kinds) in [
            (&kept, &["confirmed", "paid", "refunded"][..]),
            (&back, &["confirmed", "paid", "refunded"][..]),
            (&late, &["pending", "expired", "paid"][..]),
            (&too_late, &["pending", "expired", "refund_required", "refunded"][..]),
            (&all_of_b, &["confirmed"][..]),
            (&last_of_a, &["pending", "expired"][..]),
            (&waited, &["pending", "paid"][..]),
        ] {
            receiver.await_kinds(order, kinds).await;
        }
        let webhooks = receiver.all();
        assert_eq!(webhooks.len(), 18, "{database:?}: each once");
        for (order, kind, buyer) in
            [(&kept, "refunded", "ann"), (&late, "paid", "ann"), (&waited, "pending", "bob")]
        {
            let data = &of(&webhooks, order, kind).event["data"];
            assert_eq!((&data["state"], &data["buyer"]), (&json!(kind), &json!(buyer)));
            assert_eq!(data["items"], json!([{"product_id": "A", "quantity": 1}]));
        }
        assert_eq!(of(&webhooks, &kept, "refunded").event["data"]["payment_reference"], "p1");
        // Units of an order that was paid too late were back before its refund.
        for (order, reference, units_back) in
            [(&kept, Some("r1"), false), (&back, None, true), (&too_late, None, true)]
        {
            let data = &of(&webhooks, order, "refunded").event["data"];
            assert_eq!(data["units_back"], units_back, "{database:?}");
            assert_eq!(data.get("refund_reference").and_then(Value::as_str), reference);
        }
        let paid = &of(&webhooks, &kept, "paid").event["data"];
        assert_eq!(paid.get("units_back"), None);
        let held = &of(&webhooks, &waited, "pending").event["data"]["expires_at"];
        held.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        assert_eq!(verified(&webhooks, KEY), vec!["ok"; 18]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_an_erased_buyer_that_is_delivered_later_has_the_pseudonym() {
    for database in BOTH {
        let receiver = Receiver::start().await;
        let sale = sale(database, &receiver, &[]).await;
        let buyer = sale.buyer(NAME);
        receiver.answer(|_| Reply::Status(500));
        let failed = buyer.buy("A", 1, None).await.order().to_owned();
        let failures = "SELECT state FROM failed_events";
        eventually("it has failed", async || sale.query(failures).await.len() == 1).await;
        // With this answer it gets no more events until it is enabled.
        receiver.answer(|_| Reply::Status(410));
        let new = buyer.buy("A", 1, None).await.order().to_owned();
        let sink = async || admin(&sale, "GET", "sinks").await.body["sinks"][0].clone();
        eventually("it is disabled", async || sink().await.get("disabled_at").is_some()).await;

        let path = format!("/v1/buyers/{NAME}");
        let erased = sale.admin("shop").call("DELETE", &path, None).await;
        assert_eq!(erased.status, 200, "{erased:?}");
        assert_eq!(receiver.taken().len(), 0);
        let pseudonym = &erased.body["pseudonym"];

        receiver.answer(|_| TAKEN);
        assert_eq!(admin(&sale, "POST", "sinks/webhook/enable").await.status, 204);
        for order in [&failed, &new] {
            receiver.await_kinds(order, &["confirmed", "buyer_erased"]).await;
        }
        let has_name = |webhook: &Webhook| webhook.body.contains(NAME);
        for webhook in receiver.taken() {
            assert!(!has_name(&webhook), "{database:?}: {}", webhook.body);
            assert_eq!(&webhook.event["data"]["buyer"], pseudonym);
        }
        assert!(receiver.all().iter().any(has_name), "before the erasure it had the name");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn units_that_come_back_after_the_money_have_an_event_once() {
    for (database, strategy) in [
        (Database::Postgres, "Locked"),
        (Database::Sqlite, "Locked"),
        (Database::Postgres, "Atomic"),
        (Database::Sqlite, "Atomic"),
    ] {
        let receiver = Receiver::start().await;
        let sale = sale(database, &receiver, &[("STRATEGY", strategy)]).await;
        let order = paid(&sale, &sale.buyer("ann"), "A").await;
        refund(&sale, &order, &json!({"reference": "r1"})).await;
        receiver.await_kinds(&order, &["confirmed", "paid", "refunded"]).await;
        // Only the first of these changes something.
        for _ in 0..2 {
            refund(&sale, &order, &json!({"units_back": true})).await;
        }
        refund(&sale, &order, &json!({})).await;
        // What comes before it has arrived then.
        sale.execute(&format!("UPDATE orders SET buyer = 'x' WHERE id = '{order}'")).await;
        let kinds = ["confirmed", "paid", "refunded", "refunded", "buyer_erased"];
        receiver.await_kinds(&order, &kinds).await;
        let webhooks = receiver.all();
        let refunds = webhooks.iter().filter(|webhook| webhook.kind() == "refunded");
        let told = |webhook: &Webhook| {
            let data = &webhook.event["data"];
            (data["units_back"].clone(), data["refund_reference"].clone())
        };
        let expected = [false, true].map(|units_back| (json!(units_back), json!("r1")));
        assert_eq!(refunds.map(told).collect::<Vec<_>>(), expected, "{database:?} {strategy}");
    }
}
