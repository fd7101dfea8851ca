//! Refunds: the money of a paid order was given back, with its units or without.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::common::{ALL_STORES, Answer, BOTH, Buyer, Database, SaleSpec, TestSale, eventually};

async fn sale(database: Database, strategy: &str, stock: i64) -> TestSale {
    let price = json!({"amount": 100, "currency": "EUR"});
    let products =
        json!([{"id": "1", "name": "Console", "stock": stock, "max_per_buyer": 4, "price": price}]);
    let settings = vec![("STRATEGY", strategy.to_owned()), ("HOLD_SECONDS", "5".to_owned())];
    let spec = SaleSpec { nodes: 1, replicas: 2, products, settings, ..SaleSpec::on(database) };
    TestSale::start(spec).await
}

async fn paid(sale: &TestSale, buyer: &Buyer<'_>, units: i64) -> String {
    let id = buyer.buy("1", units, None).await.order().to_owned();
    let report = json!({"result": "paid", "reference": "p1"});
    let path = format!("/v1/orders/{id}/payment");
    assert_eq!(sale.admin("shop").call("POST", &path, Some(&report)).await.status, 200);
    id
}

async fn refund(admin: &Buyer<'_>, replica: usize, id: &str, body: &Value) -> Answer {
    admin.send(replica, ("POST", &format!("/v1/orders/{id}/refund")), Some(body), None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paid_order_is_refunded_once_with_its_units_or_without() {
    for (database, strategy) in ALL_STORES {
        let sale = sale(database, strategy, 4).await;
        let (ann, bob, admin) = (sale.buyer("ann"), sale.buyer("bob"), sale.admin("shop"));
        let kept = paid(&sale, &ann, 1).await;
        let back = paid(&sale, &ann, 3).await;
        let context = format!("{database:?} {strategy}");

        let done = refund(&admin, 0, &kept, &json!({"reference": "r1"})).await;
        assert_eq!((done.state(), done.is_replayed()), ((200, "refunded"), false), "{context}");
        assert_eq!(
            (&done.body["refund_reference"], &done.body["units_back"]),
            (&json!("r1"), &json!(false))
        );
        assert!(done.body["refunded_at"].as_str().unwrap().starts_with("20"));
        assert_eq!(
            (&done.body["amount"], &done.body["payment_reference"]),
            (&json!(100), &json!("p1"))
        );
        assert_eq!(bob.buy("1", 1, None).await.problem(), (409, "sold_out"), "its units stay sold");

        let refunds = (0..8).map(|i| {
            let body = json!({"units_back": i % 2 == 0});
            let (admin, back) = (&admin, &back);
            async move { refund(admin, i % 2, back, &body).await }
        });
        let answers = join_all(refunds).await;
        assert!(answers.iter().all(|answer| answer.state() == (200, "refunded")), "{answers:?}");
        // The units come back once: with the first refund, or after one without them.
        let made: Vec<_> = answers.iter().filter(|answer| !answer.is_replayed()).collect();
        assert!((1..=2).contains(&made.len()), "{context}: {made:?}");
        assert_eq!(made.iter().filter(|answer| answer.body["units_back"] == true).count(), 1);
        eventually("the units are back", async || sale.sold().await[0]["sold"] == 1).await;
        for path in ["cancel", "payment"] {
            let body = json!({"result": "failed"});
            let path = format!("/v1/orders/{back}/{path}");
            let answer = admin.send(0, ("POST", &path), Some(&body), None).await;
            assert_eq!(
                (answer.problem(), &answer.body["state"]),
                ((409, "order_state"), &json!("refunded"))
            );
        }
        let report = json!({"result": "paid", "reference": "p1"});
        let again = admin.call("POST", &format!("/v1/orders/{back}/payment"), Some(&report)).await;
        assert_eq!((again.state(), again.is_replayed()), ((200, "refunded"), true));

        let found = admin.call("GET", "/v1/admin/orders?state=refunded", None).await.body;
        assert_eq!(found["orders"].as_array().unwrap().len(), 2, "{context}");
        let audit = admin.call("GET", "/v1/admin/audit?action=refund_order", None).await.body;
        let entries = audit["entries"].as_array().unwrap();
        assert_eq!(entries.len(), 1 + made.len());
        let detail =
            json!({"amount": 100, "currency": "EUR", "reference": "r1", "units_back": false});
        let first = &entries[made.len()];
        assert_eq!((&first["target"], &first["detail"]), (&json!(kept), &detail));
        let export = admin.request(0, "GET", "/v1/admin/orders/export");
        let csv = export.send().await.unwrap().text().await.unwrap();
        assert_eq!(csv.matches(",refunded,").count(), 2, "{csv}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn units_that_come_back_are_on_sale_and_count_for_no_limit() {
    for (database, strategy) in [
        (Database::Postgres, "Locked"),
        (Database::Sqlite, "Locked"),
        (Database::Postgres, "Atomic"),
    ] {
        let sale = sale(database, strategy, 4).await;
        let (ann, admin) = (sale.buyer("ann"), sale.admin("shop"));
        let id = paid(&sale, &ann, 4).await;
        assert_eq!(ann.buy("1", 1, None).await.problem(), (409, "sold_out"));
        let done = refund(&admin, 1, &id, &json!({"units_back": true})).await;
        assert_eq!(done.state(), (200, "refunded"));
        eventually("they can be bought", async || {
            let answer = ann.buy("1", 4, Some("again")).await;
            answer.status == 201
        })
        .await;
        // What Redis decides is recorded in the database a moment later.
        eventually("they are sold", async || sale.sold().await[0]["sold"] == 4).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn units_that_a_refund_left_to_the_buyer_come_back_later_and_once() {
    for (database, strategy) in ALL_STORES {
        let sale = sale(database, strategy, 8).await;
        let (ann, admin) = (sale.buyer("ann"), sale.admin("shop"));
        let id = paid(&sale, &ann, 4).await;
        let context = format!("{database:?} {strategy}");
        let first = refund(&admin, 0, &id, &json!({"reference": "r1"})).await;
        assert_eq!((first.state(), first.is_replayed()), ((200, "refunded"), false), "{context}");
        assert_eq!(ann.buy("1", 1, None).await.problem(), (409, "limit_reached"), "she has them");

        let body = json!({"reference": "r2", "units_back": true});
        let refunds = (0..8).map(|i| refund(&admin, i % 2, &id, &body));
        let answers = join_all(refunds).await;
        assert_eq!(answers.iter().filter(|answer| !answer.is_replayed()).count(), 1, "{context}");
        for answer in &answers {
            assert_eq!(answer.state(), (200, "refunded"));
            let refunded = ["units_back", "refund_reference", "refunded_at"];
            let expected = [json!(true), json!("r1"), first.body["refunded_at"].clone()];
            assert_eq!(refunded.map(|field| answer.body[field].clone()), expected, "{context}");
        }
        let money_alone = refund(&admin, 0, &id, &json!({})).await;
        assert_eq!((money_alone.state(), money_alone.is_replayed()), ((200, "refunded"), true));
        eventually("they are on sale once", async || sale.sold().await[0]["sold"] == 0).await;
        eventually("the replica knows", async || ann.stock("1").await == 8).await;
        eventually("they count for no limit", async || {
            ann.buy("1", 4, Some("again")).await.status == 201
        })
        .await;
        assert_eq!(ann.buy("1", 1, None).await.problem(), (409, "limit_reached"));

        let audit = admin.call("GET", "/v1/admin/audit?action=refund_order", None).await.body;
        let entries = audit["entries"].as_array().unwrap();
        let says = |entry: &Value| entry["detail"]["units_back"].clone();
        assert_eq!(entries.iter().map(says).collect::<Vec<_>>(), [json!(true), json!(false)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_paid_is_refunded_and_only_by_administrators() {
    for database in BOTH {
        let sale = sale(database, "Locked", 4).await;
        let (ann, admin) = (sale.buyer("ann"), sale.admin("shop"));
        let bought = ann.buy("1", 1, None).await.order().to_owned();
        let body = json!({"units_back": true});
        let refused = refund(&admin, 0, &bought, &body).await;
        assert_eq!(
            (refused.problem(), &refused.body["state"]),
            ((409, "order_state"), &json!("confirmed"))
        );
        assert_eq!(refund(&ann, 0, &bought, &body).await.problem(), (403, "forbidden"));
        let nobody = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00";
        assert_eq!(refund(&admin, 0, nobody, &body).await.problem(), (404, "unknown_order"));
        for wrong in [
            json!({"reference": ""}),
            json!({"reference": "a\u{0}"}),
            json!({"units_back": "yes"}),
            json!({"amount": 1}),
        ] {
            assert_eq!(
                refund(&admin, 0, &bought, &wrong).await.problem(),
                (422, "invalid_request")
            );
        }
        let cancelled = ann.buy("1", 1, None).await.order().to_owned();
        ann.call("POST", &format!("/v1/orders/{cancelled}/cancel"), None).await;
        let refused = refund(&admin, 0, &cancelled, &body).await;
        assert_eq!(
            (refused.problem(), &refused.body["state"]),
            ((409, "order_state"), &json!("cancelled"))
        );
        assert_eq!(sale.sold().await[0]["sold"], 1, "{database:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_was_paid_too_late_is_worked_through() {
    for database in BOTH {
        let sale = sale(database, "Locked", 1).await;
        let (ann, bob, admin) = (sale.buyer("ann"), sale.buyer("bob"), sale.admin("shop"));
        let body = json!({"items": [{"product_id": "1"}]});
        let id = ann.call("POST", "/v1/orders", Some(&body)).await.order().to_owned();
        sale.end_all_holds().await;
        eventually("bob is faster", async || bob.buy("1", 1, None).await.status == 201).await;
        let report = json!({"result": "paid", "reference": "p1"});
        let late = admin.call("POST", &format!("/v1/orders/{id}/payment"), Some(&report)).await;
        assert_eq!(late.state(), (200, "refund_required"));
        let due = "/v1/admin/orders?state=refund_required";
        let found = admin.call("GET", due, None).await.body;
        assert_eq!(found["orders"][0]["order_id"], json!(id));
        // The units were back before, so none come back now.
        let done = refund(&admin, 0, &id, &json!({"units_back": true})).await;
        assert_eq!(done.state(), (200, "refunded"), "{database:?}");
        assert_eq!(done.body["units_back"], true);
        assert_eq!(sale.sold().await[0]["sold"], 1);
        let found = admin.call("GET", due, None).await.body;
        assert_eq!(found["orders"], json!([]));
    }
}

/// A replica of the release before reads `coalesce(ended_as, state)`, and counts what is neither cancelled nor failed.
#[tokio::test(flavor = "multi_thread")]
async fn the_release_before_understands_a_refund() {
    for database in BOTH {
        let sale = sale(database, "Locked", 4).await;
        let (ann, admin) = (sale.buyer("ann"), sale.admin("shop"));
        let (kept, back) = (paid(&sale, &ann, 1).await, paid(&sale, &ann, 1).await);
        let later = paid(&sale, &ann, 1).await;
        for id in [&kept, &later] {
            refund(&admin, 0, id, &json!({})).await;
        }
        for id in [&back, &later] {
            refund(&admin, 0, id, &json!({"units_back": true})).await;
        }
        for (id, expected) in [(kept, "paid"), (back, "cancelled"), (later, "cancelled")] {
            let touch = format!(
                "UPDATE orders SET line = line WHERE id = '{id}' AND coalesce(ended_as, state) = '{expected}'"
            );
            assert_eq!(sale.execute(&touch).await, 1, "{database:?} {expected}");
        }
    }
}
