//! Events that no attempt has delivered for three days are given up, and an administrator replays them.

use serde_json::{Value, json};

use super::{admin, cancel, order, sale};
use crate::common::{BOTH, eventually};
use crate::receiver::{Receiver, Reply, TAKEN};

const HOUR_MS: i64 = 3_600_000;

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_was_given_up_is_listed_and_replayed() {
    for database in BOTH {
        let receiver = Receiver::start().await;
        let sale = sale(database, &receiver, &[]).await;
        let ann = sale.buyer("ann");
        receiver.answer(|event| {
            if event["type"] == "dev.flashsale.order.cancelled" {
                Reply::Status(500)
            } else {
                TAKEN
            }
        });
        let (one, two) = (order(&ann, &["A"]).await, order(&ann, &["A"]).await);
        for order in [&one, &two] {
            cancel(&ann, order).await;
        }
        let dead = async |query: &str| admin(&sale, "GET", &format!("dead?{query}")).await;
        eventually("both are given up", async || {
            // As if the first attempt had been long ago.
            sale.execute(
                "UPDATE failed_events SET first_failed_at_ms = 1 WHERE dead_at_ms IS NULL",
            )
            .await;
            dead("").await.body["events"].as_array().unwrap().len() == 2
        })
        .await;
        // Later events of the order no longer wait.
        sale.execute("UPDATE orders SET buyer = 'x'").await;
        receiver.await_kinds(&one, &["pending", "buyer_erased"]).await;

        let page = dead("limit=1&sink=webhook").await.body;
        let event = &page["events"][0];
        assert_eq!(
            (&event["order_id"], &event["type"]),
            (&json!(one), &json!("dev.flashsale.order.cancelled"))
        );
        assert_eq!(event["error"], "it answered 500 Internal Server Error");
        assert!(event["attempts"].as_i64().unwrap() >= 2);
        let next = page["next"].as_str().unwrap();
        let rest = dead(&format!("after={next}")).await.body;
        assert_eq!((&rest["events"][0]["order_id"], rest.get("next")), (&json!(two), None));
        assert_eq!(dead("sink=other").await.body["events"], json!([]));
        for wrong in ["after=7", "limit=0", "sink=%00"] {
            assert_eq!(dead(wrong).await.problem(), (422, "invalid_request"));
        }
        let metric = r#"flashsale_events_dead{sink="webhook"} 2"#;
        eventually("the metric shows them", async || sale.metrics().await.contains(metric)).await;

        receiver.answer(|_| TAKEN);
        for wrong in ["7", &format!("{one}-999"), "a-1"] {
            let path = format!("dead/{wrong}/replay");
            assert_eq!(admin(&sale, "POST", &path).await.problem(), (404, "unknown_event"));
        }
        let id = event["id"].as_str().unwrap();
        let replayed = admin(&sale, "POST", &format!("dead/{id}/replay")).await;
        assert_eq!((replayed.status, &replayed.body["replayed"]), (200, &json!(1)));
        receiver.await_kinds(&one, &["pending", "buyer_erased", "cancelled"]).await;
        assert!(receiver.taken().iter().any(|webhook| webhook.id() == id));
        assert_eq!(
            admin(&sale, "POST", &format!("dead/{id}/replay")).await.problem(),
            (404, "unknown_event")
        );
        assert_eq!(
            admin(&sale, "POST", "sinks/other/replay").await.problem(),
            (404, "unknown_sink")
        );
        let replayed = admin(&sale, "POST", "sinks/webhook/replay").await;
        assert_eq!(replayed.body["replayed"], 1);
        receiver.await_kinds(&two, &["pending", "buyer_erased", "cancelled"]).await;
        let log =
            sale.admin("shop").call("GET", "/v1/admin/audit?action=replay_events", None).await;
        assert_eq!(log.body["entries"].as_array().unwrap().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_enabled_after_days_gets_what_waited_at_once() {
    for database in BOTH {
        let receiver = Receiver::start().await;
        let sale = sale(database, &receiver, &[]).await;
        let ann = sale.buyer("ann");
        receiver.answer(|_| Reply::Status(500));
        let waits = order(&ann, &["A"]).await;
        let failed = "SELECT state FROM failed_events";
        eventually("it has failed", async || sale.query(failed).await.len() == 1).await;
        receiver.answer(|_| Reply::Status(410));
        order(&ann, &["A"]).await;
        let sink = async || admin(&sale, "GET", "sinks").await.body["sinks"][0].clone();
        eventually("it is disabled", async || sink().await.get("disabled_at").is_some()).await;
        // As if it had been disabled for four days, after many attempts.
        let now = jiff::Timestamp::now().as_millisecond();
        let (first, retry) = (now - 96 * HOUR_MS, now + 4 * HOUR_MS);
        let age = format!(
            "UPDATE failed_events SET first_failed_at_ms = {first}, attempts = 100, \
             retry_at_ms = {retry}"
        );
        assert_eq!(sale.execute(&age).await, 1);

        receiver.answer(|_| Reply::Status(503));
        let attempts = || receiver.all().iter().filter(|it| it.order() == waits).count();
        let before = attempts();
        assert_eq!(admin(&sale, "POST", "sinks/webhook/enable").await.status, 204);
        eventually("it is tried", async || attempts() > before).await;
        receiver.answer(|_| TAKEN);
        receiver.await_kinds(&waits, &["pending"]).await;
        let given_up = admin(&sale, "GET", "dead").await.body;
        assert_eq!(given_up["events"], json!([]), "{database:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_given_up_three_days_after_its_first_failed_attempt() {
    for database in BOTH {
        let receiver = Receiver::start().await;
        let sale = sale(database, &receiver, &[]).await;
        let ann = sale.buyer("ann");
        receiver.answer(|_| Reply::Status(500));
        let (young, old) = (order(&ann, &["A"]).await, order(&ann, &["A"]).await);
        let failed = "SELECT state FROM failed_events";
        eventually("both have failed", async || sale.query(failed).await.len() == 2).await;
        for (order, hours) in [(&young, 71), (&old, 73)] {
            let first = jiff::Timestamp::now().as_millisecond() - hours * HOUR_MS;
            // After a hundred attempts the next pause is longer than the test.
            let age = format!(
                "UPDATE failed_events SET first_failed_at_ms = {first}, attempts = 100, \
                 retry_at_ms = 1 WHERE order_id = '{order}'"
            );
            assert_eq!(sale.execute(&age).await, 1);
        }
        let again = "SELECT state FROM failed_events WHERE attempts > 100";
        eventually("both have failed again", async || sale.query(again).await.len() == 2).await;
        let given_up = admin(&sale, "GET", "dead").await.body;
        let given_up = given_up["events"].as_array().unwrap();
        let orders: Vec<&Value> = given_up.iter().map(|event| &event["order_id"]).collect();
        assert_eq!(orders, [&json!(old)], "{database:?}: the other one is 71 hours old");
    }
}
