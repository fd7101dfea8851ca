//! `maxPerBuyer` by a claim of access tokens: it limits persons, whatever account they use.

mod crowd;
mod without;

use ledger::LedgerError;
use serde_json::{Value, json};

use crate::common::{ALL_STORES, Answer, BOTH, Buyer, Database, SaleSpec, TestSale, eventually};

const CLAIM: &str = "https://shop.example/person";
const FULL: (u16, &str) = (409, "limit_reached");
const MISSING: (u16, &str) = (403, "limit_claim_missing");

async fn sale(database: Database, strategy: &str) -> TestSale {
    sale_by(database, strategy, Some(CLAIM)).await
}

async fn sale_by(
    database: Database,
    strategy: &str,
    limit_claim: Option<&'static str>,
) -> TestSale {
    let products = json!([
        {"id": "1", "name": "Console", "stock": 10, "max_per_buyer": 2},
        {"id": "2", "name": "Cable", "stock": 10},
    ]);
    let settings = vec![("STRATEGY", strategy.to_owned()), ("HOLD_SECONDS", "3600".to_owned())];
    let spec = SaleSpec {
        nodes: 1,
        replicas: 2,
        products,
        settings,
        limit_claim,
        ..SaleSpec::on(database)
    };
    TestSale::start(spec).await
}

/// An account of a person.
fn account<'a>(sale: &'a TestSale, name: &str, person: impl Into<Value>) -> Buyer<'a> {
    sale.buyer_with(name, &json!({CLAIM: person.into()}))
}

/// Waits until the database has all orders.
async fn await_recorded(sale: &TestSale, orders: usize) {
    eventually("all orders are recorded", async || {
        sale.query("SELECT CAST(id AS TEXT) FROM orders").await.len() == orders
    })
    .await;
}

async fn post(buyer: &Buyer<'_>, path: &str, body: Value) -> Answer {
    buyer.call("POST", path, Some(&body)).await
}

async fn order(buyer: &Buyer<'_>, products: &[&str]) -> Answer {
    let items: Vec<Value> = products.iter().map(|product| json!({"product_id": product})).collect();
    buyer.call("POST", "/v1/orders", Some(&json!({"items": items}))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_of_a_person_share_the_limit_and_an_account_has_it_too() {
    for (database, strategy) in ALL_STORES {
        let sale = sale(database, strategy).await;
        let (ann, anna, bob) =
            (account(&sale, "ann", "p1"), account(&sale, "anna", "p1"), account(&sale, "bob", 2));
        ann.buy("1", 1, Some("k")).await.order();
        anna.buy_from(1, "1", 1, None).await.order();
        for (buyer, replica) in [(&ann, 0), (&ann, 1), (&anna, 0), (&anna, 1)] {
            let answer = buyer.buy_from(replica, "1", 1, None).await;
            assert_eq!(answer.problem(), FULL, "{database:?} {strategy}");
        }
        assert_eq!(ann.buy("1", 1, Some("k")).await.headers["idempotent-replayed"], "true");
        // A number and the text of its digits are one person.
        bob.buy("1", 1, None).await.order();
        account(&sale, "bobby", "2").buy("1", 1, None).await.order();
        assert_eq!(account(&sale, "robert", 2).buy("1", 1, None).await.problem(), FULL);
        // Another value of the claim is no way around the limit of the account.
        let changing = account(&sale, "eve", "p3");
        changing.buy("1", 2, None).await.order();
        assert_eq!(account(&sale, "eve", "p4").buy("1", 1, None).await.problem(), FULL);
        account(&sale, "paul", "p4").buy("1", 2, None).await.order();
        assert_eq!(ann.stock("1").await, 2);
        await_recorded(&sale, 6).await;
        let raw = sale.query("SELECT limit_key FROM orders").await;
        let is_key = |key: &Option<String>| {
            key.as_ref().is_some_and(|key| key.starts_with("limit:") && key.len() == 70)
        };
        assert!(raw.iter().all(is_key), "{raw:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_a_usable_claim_buys_nothing_that_is_limited() {
    for (database, strategy) in ALL_STORES {
        let sale = sale(database, strategy).await;
        let mut buyers = vec![sale.buyer("ann"), sale.admin("admin")];
        for value in [json!(null), json!(""), json!(" "), json!(1.5), json!(true), json!(["p1"])] {
            buyers.push(account(&sale, "ann", value));
        }
        for buyer in &buyers {
            let answer = buyer.buy("1", 1, None).await;
            assert_eq!(answer.problem(), MISSING, "{database:?} {strategy}");
            let detail = answer.body["detail"].as_str().unwrap();
            assert!(detail.contains(CLAIM), "{detail}");
        }
        // What has no limit needs no claim.
        sale.buyer("ann").buy("2", 1, None).await.order();
        assert_eq!(sale.buyer("ann").stock("1").await, 10);
        let admin = sale.admin("admin");
        let coupon = json!({"id": "ten", "quantity": 10});
        assert_eq!(admin.call("POST", "/v1/coupons", Some(&coupon)).await.status, 201);
        let issued = sale.buyer("ann").call("POST", "/v1/coupons/ten/issue", None).await;
        assert_eq!(issued.problem(), MISSING);
        if strategy == "Locked" {
            assert_eq!(order(&sale.buyer("ann"), &["2", "1"]).await.problem(), MISSING);
            let wait = post(&sale.buyer("ann"), "/v1/products/1/waitlist", json!({})).await;
            assert_eq!(wait.problem(), MISSING);
            order(&sale.buyer("ann"), &["2"]).await.order();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_account_gives_back_another_may_have() {
    for (database, strategy) in ALL_STORES {
        let sale = sale(database, strategy).await;
        let (ann, anna) = (account(&sale, "ann", "p1"), account(&sale, "anna", "p1"));
        let id = ann.buy("1", 2, None).await.order().to_owned();
        assert_eq!(anna.buy("1", 1, None).await.problem(), FULL);
        let cancel = format!("/v1/orders/{id}/cancel");
        assert_eq!(anna.call("POST", &cancel, None).await.problem(), (404, "unknown_order"));
        assert_eq!(ann.call("POST", &cancel, None).await.status, 200);
        eventually("the units are back", async || ann.stock("1").await == 10).await;
        let id = anna.buy("1", 2, None).await.order().to_owned();
        assert_eq!(ann.buy_from(1, "1", 1, None).await.problem(), FULL, "{database:?} {strategy}");
        let admin = sale.admin("admin");
        let path = format!("/v1/orders/{id}");
        let paid = post(&admin, &format!("{path}/payment"), json!({"result": "paid"})).await;
        assert_eq!(paid.status, 200);
        let refund = post(&admin, &format!("{path}/refund"), json!({"units_back": true})).await;
        assert_eq!(refund.status, 200);
        eventually("the units are back", async || ann.stock("1").await == 10).await;
        ann.buy("1", 2, None).await.order();
        assert_eq!(anna.buy("1", 1, None).await.problem(), FULL, "{database:?} {strategy}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_holds_and_the_waiting_list_count_for_the_person() {
    for database in BOTH {
        let sale = sale(database, "Locked").await;
        let (ann, anna, bob) = (
            account(&sale, "ann", "p1"),
            account(&sale, "anna", "p1"),
            account(&sale, "bob", "p2"),
        );
        let held = order(&ann, &["1", "2", "1"]).await.order().to_owned();
        assert_eq!(order(&anna, &["2", "1"]).await.problem(), FULL, "{database:?}");
        assert_eq!(anna.buy("1", 1, None).await.problem(), FULL);
        sale.execute(&format!("UPDATE orders SET expires_at_ms = 1 WHERE id = '{held}'")).await;
        eventually("the hold has ended", async || ann.stock("1").await == 10).await;
        order(&anna, &["1"]).await.order();
        // A payment that comes too late finds one unit of the person, and it had two.
        let path = format!("/v1/orders/{held}/payment");
        let late = post(&sale.admin("admin"), &path, json!({"result": "paid"})).await;
        assert_eq!(late.body["state"], "refund_required", "{database:?}");

        // Who waits with two accounts is served up to the limit.
        for number in 0..4 {
            let other = account(&sale, &format!("other-{number}"), format!("other-{number}"));
            other.buy("1", 2, None).await.order();
        }
        let last = order(&bob, &["1"]).await.order().to_owned();
        let wait = async |buyer: &Buyer<'_>, units: i64| {
            buyer.call("POST", "/v1/products/1/waitlist", Some(&json!({"quantity": units}))).await
        };
        assert_eq!(wait(&ann, 2).await.problem(), FULL, "one that anna has, and two");
        assert_eq!(wait(&ann, 1).await.status, 201);
        assert_eq!(wait(&anna, 1).await.status, 201);
        let cancel = format!("/v1/orders/{last}/cancel");
        assert_eq!(bob.call("POST", &cancel, None).await.status, 200);
        let waits = async |buyer: &Buyer<'_>| {
            buyer.call("GET", "/v1/products/1/waitlist", None).await.status == 200
        };
        assert!(!waits(&ann).await, "served");
        let some = order(&bob, &["2"]).await;
        some.order();
        assert_eq!(anna.buy("1", 1, None).await.status, 409);
        let cancel = "SELECT CAST(id AS TEXT) FROM orders WHERE buyer = 'other-0'";
        let other = sale.query(cancel).await.remove(0).unwrap();
        let cancel = format!("/v1/orders/{other}/cancel");
        assert_eq!(sale.admin("admin").call("POST", &cancel, None).await.status, 200);
        eventually("anna is asked no more", async || !waits(&anna).await).await;
        assert_eq!(anna.buy("1", 1, None).await.problem(), FULL, "{database:?}");
        assert_eq!(bob.stock("1").await, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_gets_one_coupon() {
    for database in BOTH {
        let sale = sale(database, "Locked").await;
        let (ann, anna, bob) = (
            account(&sale, "ann", "p1"),
            account(&sale, "anna", "p1"),
            account(&sale, "bob", "p2"),
        );
        let admin = sale.admin("admin");
        let coupon = json!({"id": "ten", "quantity": 10});
        assert_eq!(admin.call("POST", "/v1/coupons", Some(&coupon)).await.status, 201);
        let issue =
            async |buyer: &Buyer<'_>| buyer.call("POST", "/v1/coupons/ten/issue", None).await;
        assert_eq!(issue(&ann).await.status, 201);
        assert_eq!(issue(&ann).await.status, 200);
        assert_eq!(issue(&anna).await.problem(), FULL, "{database:?}");
        assert_eq!(issue(&bob).await.status, 201);
        assert_eq!(admin.call("DELETE", "/v1/buyers/ann", None).await.status, 200);
        assert_eq!(issue(&anna).await.problem(), FULL, "an erased account had it: {database:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_holds_when_redis_lost_its_data_and_when_a_replica_starts_anew() {
    for database in BOTH {
        let mut sale = sale(database, "Atomic").await;
        account(&sale, "ann", "p1").buy("1", 2, None).await.order();
        account(&sale, "bob", "p2").buy("1", 1, None).await.order();
        await_recorded(&sale, 2).await;
        sale.nodes[0].command("FLUSHALL").unwrap();
        let anna = account(&sale, "anna", "p1");
        eventually("the stock is made anew", async || {
            anna.buy("1", 1, None).await.problem() == FULL
        })
        .await;
        let bobby = account(&sale, "bobby", "p2");
        assert_eq!(bobby.buy("1", 2, None).await.problem(), FULL, "{database:?}");
        bobby.buy("1", 1, None).await.order();
        await_recorded(&sale, 3).await;
        sale.replicas.remove(0).stop().await;
        sale.add_replica().await;
        sale.await_ready(1).await;
        for replica in 0..2 {
            let answer = account(&sale, "robert", "p2").buy_from(replica, "1", 1, None).await;
            assert_eq!(answer.problem(), FULL, "{database:?} {replica}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_account_counts_for_the_person_and_nothing_says_whose_its_orders_were() {
    for (database, strategy) in ALL_STORES {
        let sale = sale(database, strategy).await;
        let (ann, anna) = (account(&sale, "ann", "p1"), account(&sale, "anna", "p1"));
        ann.buy("1", 1, None).await.order();
        anna.buy("1", 1, None).await.order();
        await_recorded(&sale, 2).await;
        let admin = sale.admin("admin");
        let export = admin.call("GET", "/v1/buyers/ann/export", None).await;
        let keys = export.body["limit_keys"].as_array().unwrap().clone();
        assert_eq!(keys.len(), 1, "{export:?}");
        assert_eq!(admin.call("DELETE", "/v1/buyers/ann", None).await.status, 200);
        let left = "SELECT limit_key FROM orders WHERE buyer LIKE 'erased:%'";
        assert_eq!(sale.query(left).await, [None], "{database:?} {strategy}");
        for replica in 0..2 {
            let answer = anna.buy_from(replica, "1", 1, None).await;
            assert_eq!(answer.problem(), FULL, "{database:?} {strategy}");
            let other = account(&sale, "annie", "p1").buy_from(replica, "1", 1, None).await;
            assert_eq!(other.problem(), FULL, "{database:?} {strategy}");
        }
        if strategy == "Atomic" {
            sale.nodes[0].command("FLUSHALL").unwrap();
            eventually("the stock is made anew", async || {
                anna.buy("1", 1, None).await.problem() == FULL
            })
            .await;
        }
        let units = "SELECT CAST(units AS TEXT) FROM erased_units WHERE item = '1'";
        assert_eq!(sale.query(units).await, [Some("1".to_owned())]);
        // At the end of the retention the keys go, too.
        sale.ledger().replace_all_buyers().await.unwrap();
        let left = "SELECT limit_key FROM orders WHERE limit_key IS NOT NULL \
                    UNION SELECT limit_key FROM erased_units";
        assert_eq!(sale.query(left).await, Vec::<Option<String>>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_claim_may_come_and_go_while_the_sale_is_open() {
    for (database, strategy) in ALL_STORES {
        let mut sale = sale(database, strategy).await;
        let products = json!([{"id": "1", "name": "Console", "stock": 10, "max_per_buyer": 2}]);
        let (ann, anna) = (sale.buyer_with("ann", &json!({CLAIM: "p1"})).token, "anna");
        sale.limit_claim = None;
        sale.seed(&products).await.unwrap();
        eventually("accounts are limited", async || {
            sale.buyer("eve").buy("1", 1, None).await.status == 201
        })
        .await;
        account(&sale, "ann", "p1").buy("1", 1, None).await.order();
        await_recorded(&sale, 2).await;
        sale.limit_claim = Some(CLAIM);
        sale.seed(&products).await.unwrap();
        for replica in 0..2 {
            eventually("persons are limited", async || {
                let answer = sale.buyer("dan").buy_from(replica, "1", 3, None).await;
                answer.problem() == MISSING
            })
            .await;
        }
        // The account has what it bought before, and the person what it buys from now on.
        let buyer = account(&sale, "ann", "p1");
        assert_eq!(buyer.token, ann);
        assert_eq!(buyer.buy("1", 2, None).await.problem(), FULL, "{database:?} {strategy}");
        buyer.buy("1", 1, None).await.order();
        assert_eq!(buyer.buy("1", 1, None).await.problem(), FULL, "{database:?} {strategy}");
        account(&sale, anna, "p1").buy("1", 1, None).await.order();
        assert_eq!(account(&sale, anna, "p1").buy("1", 1, None).await.problem(), FULL);
        assert_eq!(account(&sale, anna, "p5").buy("1", 2, None).await.problem(), FULL);
    }
}

/// A replica of the release before would write no limit keys, and would sell by account.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_knows_no_limit_keys_is_kept_out_only_while_the_sale_has_a_claim() {
    for database in BOTH {
        let sale = sale(database, "Locked").await;
        let needs = async || {
            let needs = "SELECT CAST(needs_migration AS TEXT) FROM installation";
            sale.query(needs).await.remove(0).unwrap()
        };
        assert_eq!(needs().await, "28");
        let ledger = sale.ledger();
        ledger.set_limit_claim(None).await.unwrap();
        assert_eq!((needs().await.as_str(), ledger.limit_by().await.unwrap()), ("0", None));
        sale.execute("UPDATE installation SET needs_migration = 999").await;
        ledger.set_limit_claim(Some(CLAIM)).await.unwrap();
        ledger.set_limit_claim(None).await.unwrap();
        assert_eq!(needs().await, "999", "a later migration needs its own");
        let refused = ledger.check_installation("default").await;
        assert!(matches!(refused, Err(LedgerError::Unusable(_))), "{refused:?}");
    }
}
