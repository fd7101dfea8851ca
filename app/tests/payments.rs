//! Payments that Stripe reports: signatures by Stripe's own library, once each, in any order.

mod events;
mod refunds;
mod without;

use std::io::Write;
use std::process::{Command, Stdio};

use futures::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{Answer, BOTH, Database, SaleSpec, TestSale, eventually};
use events::{completed, refunded, session};

const SECRET: &str = "whsec_of_the_tests_of_payments";
const NEXT_SECRET: &str = "whsec_the_next_one_of_the_tests";
const PATH: &str = "/v1/payments/stripe";

/// The headers of these payloads, made by Stripe's library.
fn signed(payloads: &[(&str, &str, i64)]) -> Vec<String> {
    let modules = std::env::var_os("FLASHSALE_STRIPE_MODULES")
        .expect("FLASHSALE_STRIPE_MODULES: run the tests by `cargo xtask test`");
    let asked: Vec<Value> = payloads
        .iter()
        .map(|(payload, secret, at)| json!({"payload": payload, "secret": secret, "timestamp": at}))
        .collect();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/payments/sign.cjs");
    let mut node = Command::new("node");
    node.arg(script).env("NODE_PATH", modules);
    let mut node = node.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    node.stdin.take().unwrap().write_all(json!(asked).to_string().as_bytes()).unwrap();
    let output = node.wait_with_output().unwrap();
    assert!(output.status.success(), "Stripe's library failed");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn header(payload: &str, secret: &str) -> String {
    signed(&[(payload, secret, Timestamp::now().as_second())]).remove(0)
}

struct Shop {
    sale: TestSale,
    folder: TempDir,
}

impl Shop {
    async fn open(database: Database, replicas: usize, settings: &[(&'static str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("webhook-secret");
        std::fs::write(&file, format!("{SECRET}\n")).unwrap();
        let mut settings: Vec<_> =
            settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        settings.push(("STRIPE_WEBHOOK_FILE", file.display().to_string()));
        let price = json!({"amount": 49_900, "currency": "EUR"});
        let products = json!([{"id": "1", "name": "Console", "stock": 9, "price": price}]);
        let spec = SaleSpec { nodes: 1, replicas, products, settings, ..SaleSpec::on(database) };
        Self { sale: TestSale::start(spec).await, folder }
    }

    async fn order(&self, quantity: i64) -> String {
        let body = json!({"items": [{"product_id": "1", "quantity": quantity}]});
        let ann = self.sale.buyer("ann");
        ann.call("POST", "/v1/orders", Some(&body)).await.order().to_owned()
    }

    async fn state(&self, id: &str) -> String {
        let order = self.sale.admin("shop").call("GET", &format!("/v1/orders/{id}"), None).await;
        order.body["state"].as_str().unwrap().to_owned()
    }

    async fn deliver(&self, replica: usize, payload: &str, header: &str) -> Answer {
        let url = format!("{}{PATH}", self.sale.replicas[replica].api);
        let request = self.sale.client.post(url).header("Stripe-Signature", header);
        let request = request.header("Content-Type", "application/json; charset=utf-8");
        Answer::of(request.body(payload.to_owned()).send().await.unwrap()).await
    }

    /// Signs and delivers an event.
    async fn send(&self, event: &Value) -> Answer {
        let payload = event.to_string();
        self.deliver(0, &payload, &header(&payload, SECRET)).await
    }

    async fn open_events(&self) -> Vec<Value> {
        let path = "/v1/admin/payments?open=true";
        let found = self.sale.admin("shop").call("GET", path, None).await;
        assert_eq!(found.status, 200, "{found:?}");
        found.body["events"].as_array().unwrap().clone()
    }

    async fn expire(&self, id: &str) {
        self.sale.end_all_holds().await;
        eventually("the hold is over", async || self.state(id).await == "expired").await;
    }
}

fn outcome(answer: &Answer) -> &str {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["outcome"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_pays_its_order_once_however_often_it_is_delivered() {
    for database in BOTH {
        let shop = Shop::open(database, 2, &[]).await;
        let order = shop.order(2).await;
        let payload = completed("evt_1", &order, 99_800).to_string();
        let header = header(&payload, SECRET);
        let deliveries = (0..12).map(|i| shop.deliver(i % 2, &payload, &header));
        let answers = join_all(deliveries).await;
        let applied = answers.iter().filter(|answer| outcome(answer) == "applied").count();
        assert!(applied >= 1, "{answers:?}");
        assert_eq!(outcome(&shop.deliver(0, &payload, &header).await), "replayed");
        let admin = shop.sale.admin("shop");
        let paid = admin.call("GET", &format!("/v1/orders/{order}"), None).await.body;
        assert_eq!((&paid["state"], &paid["amount"]), (&json!("paid"), &json!(99_800)));
        assert_eq!(paid["payment_reference"], format!("pi_of_{order}"));
        let events = admin.call("GET", "/v1/admin/payments", None).await.body;
        assert_eq!(events["events"].as_array().unwrap().len(), 1, "{events}");
        assert_eq!(events["events"][0]["outcome"], "applied");
        assert_eq!(shop.open_events().await, Vec::<Value>::new());
        let audit = admin.call("GET", "/v1/admin/audit", None).await.body;
        assert_eq!(audit["entries"], json!([]), "no administrator did anything");
        let metrics = shop.sale.metrics().await;
        let replayed = "flashsale_payment_events_total{outcome=\"replayed\",provider=\"stripe\"}";
        assert!(metrics.contains(replayed), "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_signature_time_or_body_changes_nothing() {
    let shop = Shop::open(Database::Sqlite, 1, &[]).await;
    let order = shop.order(1).await;
    let payload = completed("evt_1", &order, 49_900).to_string();
    let now = Timestamp::now().as_second();
    let headers = signed(&[
        (&payload, SECRET, now),
        (&payload, NEXT_SECRET, now),
        (&payload, SECRET, now - 310),
        (&payload, SECRET, now + 310),
        ("{", SECRET, now),
        ("{}", SECRET, now),
    ]);
    let forged = payload.replace("49900", "1");
    for (payload, header, expected) in [
        (&payload, "", (400, "payment_signature")),
        (&payload, "t=1,v1=00", (400, "payment_signature")),
        (&payload, &headers[1], (400, "payment_signature")),
        (&forged, &headers[0], (400, "payment_signature")),
        (&format!("{payload} "), &headers[0], (400, "payment_signature")),
        (&payload, &headers[2], (400, "payment_time")),
        (&payload, &headers[3], (400, "payment_time")),
        (&"{".to_owned(), &headers[4], (400, "invalid_json")),
        (&"{}".to_owned(), &headers[5], (422, "invalid_request")),
    ] {
        assert_eq!(shop.deliver(0, payload, header).await.problem(), expected, "{header}");
    }
    let large = format!("{payload}{}", " ".repeat(70_000));
    assert_eq!(shop.deliver(0, &large, &headers[0]).await.problem(), (413, "body_too_large"));
    let url = format!("{}{PATH}", shop.sale.replicas[0].api);
    let unsigned = shop.sale.client.post(url).body(payload.clone()).send().await.unwrap();
    assert_eq!(Answer::of(unsigned).await.problem(), (400, "payment_signature"));
    assert_eq!(shop.state(&order).await, "pending");
    let admin = shop.sale.admin("shop");
    let events = admin.call("GET", "/v1/admin/payments", None).await.body;
    assert_eq!(events["events"], json!([]), "only what is signed is kept");
    assert_eq!(outcome(&shop.deliver(0, &payload, &headers[0]).await), "applied");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_amount_currency_or_order_changes_nothing_and_an_administrator_sees_it() {
    for database in BOTH {
        let shop = Shop::open(database, 1, &[]).await;
        let order = shop.order(1).await;
        let mut dollars = completed("evt_2", &order, 49_900);
        dollars["data"]["object"]["currency"] = json!("usd");
        let other = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00";
        for (event, problem) in [
            (completed("evt_1", &order, 49_899), (409, "payment_amount")),
            (dollars, (409, "payment_amount")),
            (completed("evt_3", other, 49_900), (404, "unknown_order")),
            (completed("evt_4", "order 7", 49_900), (404, "unknown_order")),
        ] {
            for _ in 0..2 {
                assert_eq!(shop.send(&event).await.problem(), problem, "{database:?}");
            }
        }
        assert_eq!(shop.state(&order).await, "pending");
        let open = shop.open_events().await;
        let ids: Vec<&str> = open.iter().map(|event| event["event_id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["evt_4", "evt_3", "evt_2", "evt_1"]);
        assert_eq!(open[3]["order_id"], json!(order));
        assert_eq!((&open[3]["amount"], &open[3]["currency"]), (&json!(49_899), &json!("EUR")));
        assert_eq!(open[3]["outcome"], "payment_amount");
        eventually("it is measured", async || {
            shop.sale.metrics().await.contains("flashsale_payment_events_open 4")
        })
        .await;

        let admin = shop.sale.admin("shop");
        let resolve = |id: &str| format!("/v1/admin/payments/{id}/resolve");
        let path = resolve(open[0]["id"].as_str().unwrap());
        let resolved = admin.call("POST", &path, None).await;
        assert_eq!(resolved.status, 200, "{resolved:?}");
        assert!(resolved.body["resolved_at"].is_string());
        let again = admin.call("POST", &path, None).await;
        assert!(again.is_replayed());
        assert_eq!(shop.open_events().await.len(), 3);
        let audit = admin.call("GET", "/v1/admin/audit", None).await.body;
        let entry = &audit["entries"][0];
        assert_eq!(
            (&entry["action"], &entry["target"]),
            (&json!("resolve_payment"), &json!("evt_4"))
        );
        for nothing in [other, "x"] {
            let unknown = admin.call("POST", &resolve(nothing), None).await;
            assert_eq!(unknown.problem(), (404, "unknown_payment"));
        }
        let ann = shop.sale.buyer("ann");
        assert_eq!(ann.call("POST", &path, None).await.problem(), (403, "forbidden"));
        let list = ann.call("GET", "/v1/admin/payments", None).await;
        assert_eq!(list.problem(), (403, "forbidden"));
        // What was wrong once may be right at the next delivery.
        let right = completed("evt_1", &order, 49_900);
        assert_eq!(outcome(&shop.send(&right).await), "applied");
        assert_eq!(shop.open_events().await.len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_may_come_in_any_order() {
    for database in BOTH {
        let shop = Shop::open(database, 1, &[]).await;
        let failed = "checkout.session.async_payment_failed";
        let succeeded = "checkout.session.async_payment_succeeded";

        // The money is under way, then it arrives.
        let order = shop.order(1).await;
        let mut unpaid = completed("evt_a1", &order, 49_900);
        unpaid["data"]["object"]["payment_status"] = json!("unpaid");
        assert_eq!(outcome(&shop.send(&unpaid).await), "ignored");
        assert_eq!(shop.state(&order).await, "pending");
        let paid = session("evt_a2", succeeded, &order, 49_900);
        assert_eq!(outcome(&shop.send(&paid).await), "applied");
        assert_eq!(shop.state(&order).await, "paid");
        // A failure of before comes after it.
        let late = session("evt_a3", failed, &order, 49_900);
        assert_eq!(outcome(&shop.send(&late).await), "ignored");
        assert_eq!(shop.state(&order).await, "paid");

        // Completed after expired: the units are taken again, or a refund is due.
        let order = shop.order(1).await;
        let ended = session("evt_b1", "checkout.session.expired", &order, 49_900);
        assert_eq!(outcome(&shop.send(&ended).await), "ignored");
        shop.expire(&order).await;
        assert_eq!(outcome(&shop.send(&completed("evt_b2", &order, 49_900)).await), "applied");
        assert_eq!(shop.state(&order).await, "paid");
        let unlucky = shop.order(1).await;
        shop.expire(&unlucky).await;
        shop.sale.execute("UPDATE stock SET declared = declared - available, available = 0").await;
        assert_eq!(outcome(&shop.send(&completed("evt_b3", &unlucky, 49_900)).await), "applied");
        assert_eq!(shop.state(&unlucky).await, "refund_required");
        let refund = refunded("evt_b4", &unlucky, 49_900, true);
        assert_eq!(outcome(&shop.send(&refund).await), "applied");
        assert_eq!(shop.state(&unlucky).await, "refunded");
        let restock = json!({"add": 5});
        let admin = shop.sale.admin("shop");
        let restocked = admin.call("POST", "/v1/products/1/restock", Some(&restock)).await;
        assert_eq!(restocked.status, 200, "{restocked:?}");

        // The refund comes before the payment.
        let order = eventually_order(&shop).await;
        let refund = refunded("evt_c2", &order, 49_900, true);
        assert_eq!(shop.send(&refund).await.problem(), (404, "unknown_order"));
        assert_eq!(outcome(&shop.send(&completed("evt_c1", &order, 49_900)).await), "applied");
        assert_eq!(outcome(&shop.send(&refund).await), "applied");
        assert_eq!(shop.state(&order).await, "refunded");
        // Another event of the same payment, after the refund.
        let again = session("evt_c3", succeeded, &order, 49_900);
        assert_eq!(outcome(&shop.send(&again).await), "applied");
        assert_eq!(shop.state(&order).await, "refunded");

        // A payment that failed gives the units back; money that comes then waits for an administrator.
        let order = shop.order(1).await;
        assert_eq!(
            outcome(&shop.send(&session("evt_d1", failed, &order, 49_900)).await),
            "applied"
        );
        assert_eq!(shop.state(&order).await, "payment_failed");
        let late = shop.send(&completed("evt_d2", &order, 49_900)).await;
        assert_eq!(
            (late.problem(), &late.body["state"]),
            ((409, "order_state"), &json!("payment_failed"))
        );

        // A part of the money is no refund of the order.
        let order = shop.order(1).await;
        assert_eq!(outcome(&shop.send(&completed("evt_e1", &order, 49_900)).await), "applied");
        let part = refunded("evt_e2", &order, 49_900, false);
        assert_eq!(outcome(&shop.send(&part).await), "partial_refund");
        assert_eq!(shop.state(&order).await, "paid");
        let open = shop.open_events().await;
        let outcomes: Vec<&str> =
            open.iter().map(|event| event["outcome"].as_str().unwrap()).collect();
        assert_eq!(outcomes, ["partial_refund", "order_state"], "{database:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_payment_that_is_given_back_is_no_refund_of_the_order() {
    for database in BOTH {
        let shop = Shop::open(database, 1, &[]).await;
        let order = shop.order(1).await;
        assert_eq!(outcome(&shop.send(&completed("evt_1", &order, 49_900)).await), "applied");
        let of_payment = |mut event: Value, payment: &str| {
            event["data"]["object"]["payment_intent"] = json!(payment);
            event["data"]["object"]["metadata"] = json!({"order_id": order});
            event
        };
        let second = of_payment(completed("evt_2", &order, 49_900), "pi_second");
        assert_eq!(shop.send(&second).await.problem(), (409, "order_state"));
        let given_back = of_payment(refunded("evt_3", &order, 49_900, true), "pi_second");
        assert_eq!(shop.send(&given_back).await.problem(), (409, "order_state"));
        assert_eq!(shop.state(&order).await, "paid", "{database:?}");
        let first = of_payment(refunded("evt_4", &order, 49_900, true), &format!("pi_of_{order}"));
        for _ in 0..2 {
            let answer = shop.send(&first).await;
            assert!(["applied", "replayed"].contains(&outcome(&answer)), "{answer:?}");
        }
        assert_eq!(shop.state(&order).await, "refunded");
    }
}

async fn eventually_order(shop: &Shop) -> String {
    let body = json!({"items": [{"product_id": "1"}]});
    let ann = shop.sale.buyer("ann");
    eventually("the replica knows the stock", async || ann.stock("1").await.as_i64().unwrap() > 0)
        .await;
    ann.call("POST", "/v1/orders", Some(&body)).await.order().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_is_replaced_without_a_restart() {
    let shop = Shop::open(Database::Sqlite, 1, &[]).await;
    let order = shop.order(1).await;
    let payload = completed("evt_1", &order, 49_900).to_string();
    let now = Timestamp::now().as_second();
    let [old, new] =
        [SECRET, NEXT_SECRET].map(|secret| signed(&[(&payload, secret, now)]).remove(0));
    assert_eq!(shop.deliver(0, &payload, &new).await.problem(), (400, "payment_signature"));
    let file = shop.folder.path().join("webhook-secret");
    std::fs::write(&file, format!("{NEXT_SECRET}\n{SECRET}\n")).unwrap();
    eventually("both are known", async || shop.deliver(0, &payload, &new).await.status == 200)
        .await;
    assert_eq!(outcome(&shop.deliver(0, &payload, &old).await), "replayed");
    // Stripe signs with both while it replaces one.
    let both = format!("{old},{}", new.split_once(',').unwrap().1);
    assert_eq!(outcome(&shop.deliver(0, &payload, &both).await), "replayed");
    std::fs::write(&file, NEXT_SECRET).unwrap();
    eventually("the old one is no more", async || {
        shop.deliver(0, &payload, &old).await.status == 400
    })
    .await;
    assert_eq!(outcome(&shop.deliver(0, &payload, &both).await), "replayed");
}

#[tokio::test(flavor = "multi_thread")]
async fn purchases_that_redis_decides_are_paid_too() {
    let settings = [("STRATEGY", "Atomic")];
    let shop = Shop::open(Database::Postgres, 1, &settings).await;
    let bought = shop.sale.buyer("ann").buy("1", 2, None).await;
    let paid = completed("evt_1", bought.order(), 99_800);
    assert_eq!(outcome(&shop.send(&paid).await), "applied");
    assert_eq!(shop.state(bought.order()).await, "paid");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_secret_no_event_is_taken() {
    let sale = TestSale::start(SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) }).await;
    let request = sale.client.post(format!("{}{PATH}", sale.replicas[0].api)).body("{}");
    let answer = Answer::of(request.send().await.unwrap()).await;
    assert_eq!(answer.problem(), (404, "payments_not_configured"));
}
