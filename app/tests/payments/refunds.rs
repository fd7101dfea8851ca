//! Refunds that Stripe reports: their units come back when an administrator says so.

use futures::future::join_all;
use serde_json::json;

use super::events::{completed, refunded};
use super::{Shop, outcome};
use crate::common::{ALL_STORES, BOTH, eventually};

const PRICE: i64 = 49_900;

#[tokio::test(flavor = "multi_thread")]
async fn units_of_a_refund_of_stripe_come_back_once_when_an_administrator_says_so() {
    for (database, strategy) in ALL_STORES {
        let shop = Shop::open(database, 2, &[("STRATEGY", strategy)]).await;
        let (ann, bob) = (shop.sale.buyer("ann"), shop.sale.buyer("bob"));
        let context = format!("{database:?} {strategy}");
        let order = ann.buy("1", 9, None).await.order().to_owned();
        assert_eq!(outcome(&shop.send(&completed("evt_1", &order, 9 * PRICE)).await), "applied");
        let refund = refunded("evt_2", &order, 9 * PRICE, true);
        assert_eq!(outcome(&shop.send(&refund).await), "applied");
        let admin = shop.sale.admin("shop");
        let path = format!("/v1/orders/{order}");
        let kept = admin.call("GET", &path, None).await.body;
        assert_eq!((&kept["state"], &kept["units_back"]), (&json!("refunded"), &json!(false)));
        assert_eq!(bob.buy("1", 1, None).await.problem(), (409, "sold_out"), "{context}");

        let (path, body) = (format!("{path}/refund"), json!({"units_back": true}));
        let calls = (0..8).map(|i| admin.send(i % 2, ("POST", &path), Some(&body), None));
        let answers = join_all(calls).await;
        for answer in &answers {
            let shown = (answer.status, &answer.body["state"], &answer.body["units_back"]);
            assert_eq!(shown, (200, &json!("refunded"), &json!(true)), "{context}");
            assert_eq!(answer.body["refund_reference"], kept["refund_reference"]);
        }
        let headers = answers.iter().map(|answer| &answer.headers);
        let replayed = headers.filter(|headers| headers.contains_key("idempotent-replayed"));
        assert_eq!(replayed.count(), 7, "{context}");
        eventually("they are on sale", async || bob.buy("1", 9, Some("k")).await.status == 201)
            .await;
        eventually("they are sold", async || shop.sale.sold().await[0]["sold"] == 9).await;
        assert_eq!(ann.buy("1", 1, None).await.problem(), (409, "sold_out"), "{context}");
        // The service reports the refund once more.
        let again = refunded("evt_3", &order, 9 * PRICE, true);
        assert_eq!(outcome(&shop.send(&again).await), "applied");
        let audit = admin.call("GET", "/v1/admin/audit?action=refund_order", None).await.body;
        let entries = audit["entries"].as_array().unwrap();
        assert_eq!(entries.len(), 1, "{context}");
        assert_eq!(entries[0]["detail"]["units_back"], true);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_came_before_its_payment_gets_its_order_when_it_is_applied() {
    for database in BOTH {
        let shop = Shop::open(database, 1, &[]).await;
        let order = shop.order(1).await;
        let refund = refunded("evt_2", &order, PRICE, true);
        assert_eq!(shop.send(&refund).await.problem(), (404, "unknown_order"));
        let early = shop.open_events().await;
        assert_eq!((early.len(), early[0].get("order_id")), (1, None), "{database:?}");

        assert_eq!(outcome(&shop.send(&completed("evt_1", &order, PRICE)).await), "applied");
        assert_eq!(outcome(&shop.send(&refund).await), "applied");
        let admin = shop.sale.admin("shop");
        let events = admin.call("GET", "/v1/admin/payments", None).await.body;
        let refund = &events["events"][1];
        assert_eq!(
            (&refund["event_id"], &refund["order_id"], &refund["outcome"]),
            (&json!("evt_2"), &json!(order), &json!("applied")),
            "{database:?}"
        );
    }
}
