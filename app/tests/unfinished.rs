//! What the operator asks before it ends the pods of a sale.

use serde_json::{Value, json};

use crate::common::{BOTH, OPERATOR_TOKEN, SaleSpec, TestSale, eventually};
use crate::receiver::{Receiver, Reply};

/// What `/sale` counts when it is asked to.
async fn unfinished(sale: &TestSale) -> Value {
    let url = format!("{}/sale?unfinished=true", sale.replicas[0].internal);
    let request = sale.client.get(url).bearer_auth(OPERATOR_TOKEN);
    let mut report: Value = request.send().await.unwrap().json().await.unwrap();
    report["unfinished"].take()
}

fn counts(holds: i64, waitlists: i64, events: i64) -> Value {
    json!({"holds": holds, "waitlists": waitlists, "events": events})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_counts_what_a_sale_without_replicas_leaves_undone() {
    for database in BOTH {
        let receiver = Receiver::start().await;
        receiver.answer(|_| Reply::Status(500));
        let products = json!([{"id": "1", "name": "Console", "stock": 1}]);
        let mut settings = receiver.settings();
        settings.push(("HOLD_SECONDS", "3600".to_owned()));
        let spec = SaleSpec { nodes: 1, products, settings, ..SaleSpec::on(database) };
        let sale = TestSale::start(spec).await;
        assert_eq!(sale.report().await.get("unfinished"), None, "not unless it is asked for");
        assert_eq!(unfinished(&sale).await, counts(0, 0, 0));

        let body = json!({"items": [{"product_id": "1"}]});
        sale.buyer("ann").call("POST", "/v1/orders", Some(&body)).await.order();
        let (path, wish) = ("/v1/products/1/waitlist", json!({"quantity": 1}));
        let joined = sale.buyer("bob").call("POST", path, Some(&wish)).await;
        assert_eq!(joined.status, 201, "{joined:?}");
        assert_eq!(unfinished(&sale).await, counts(1, 0, 1), "{database:?}: nothing is left");

        // Nobody hands out the unit that comes back.
        let blocker = sale.block("stock:1").await;
        sale.execute("UPDATE stock SET declared = 2, available = 1").await;
        assert_eq!(unfinished(&sale).await, counts(1, 1, 1), "{database:?}");
        sale.execute("UPDATE event_sinks SET disabled_at_ms = 1").await;
        assert_eq!(unfinished(&sale).await, counts(1, 1, 0), "{database:?}: it gets no events");

        blocker.release().await;
        eventually("bob has the unit", async || unfinished(&sale).await == counts(2, 0, 0)).await;
        sale.end_all_holds().await;
        eventually("nothing is left", async || unfinished(&sale).await == counts(0, 0, 0)).await;
    }
}
