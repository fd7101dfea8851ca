//! What the law gives buyers: to be erased, to see what is held about them, and to be forgotten after the
//! sale. And who may sign up.

mod without;

use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use ledger::ReleaseOptions;
use serde_json::{Value, json};

use crate::common::{self, ALL_STORES, Answer, Buyer, Database, SaleSpec, TestSale, eventually};

/// A name that nothing else contains.
const NAME: &str = "jane.doe@example.com";
const PASSWORD: &str = "correct horse";

async fn sale(database: Database, strategy: &str) -> TestSale {
    let products = json!([{"id": "1", "name": "Console", "stock": 10, "max_per_buyer": 2}]);
    let settings = vec![("STRATEGY", strategy.to_owned())];
    let spec = SaleSpec { nodes: 1, replicas: 2, products, settings, ..SaleSpec::on(database) };
    TestSale::start(spec).await
}

/// Where the database has this name.
async fn places_in_database(sale: &TestSale, name: &str) -> Vec<&'static str> {
    let columns = [
        ("accounts", "id"),
        ("orders", "buyer"),
        ("coupon_issues", "buyer"),
        ("past_orders", "buyer"),
        ("past_coupon_issues", "buyer"),
        ("audit_log", "actor || target || coalesce(detail, '')"),
        ("waitlist", "buyer"),
        ("erasures", "coalesce(buyer, '') || pseudonym || digest"),
    ];
    let mut places = Vec::new();
    for (table, column) in columns {
        let statement = format!("SELECT '' FROM {table} WHERE {column} LIKE '%{name}%'");
        if !sale.query(&statement).await.is_empty() {
            places.push(table);
        }
    }
    places
}

/// What `redis-cli` says, a value a line.
fn redis(sale: &TestSale, command: &str) -> String {
    let address = sale.nodes[0].address();
    let (host, port) = address.rsplit_once(':').unwrap();
    let mut cli = Command::new("redis-cli");
    let output = cli.args(["-h", host, "-p", port]).args(command.split(' ')).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether Redis has this name, in any key.
fn is_in_redis(sale: &TestSale, name: &str) -> bool {
    redis(sale, "KEYS *").lines().any(|key| {
        let content = match redis(sale, &format!("TYPE {key}")).trim() {
            "hash" => redis(sale, &format!("HGETALL {key}")),
            "stream" => redis(sale, &format!("XRANGE {key} - +")),
            "zset" => redis(sale, &format!("ZRANGE {key} 0 -1")),
            _ => redis(sale, &format!("GET {key}")),
        };
        content.contains(name)
    })
}

async fn log_in(sale: &TestSale, password: &str) -> Answer {
    let body = json!({"id": NAME, "password": password});
    sale.buyer("nobody").call("POST", "/v1/auth/login", Some(&body)).await
}

async fn sign_up(sale: &TestSale, body: &Value) -> Answer {
    sale.buyer("nobody").call("POST", "/v1/auth/signup", Some(body)).await
}

/// Signs up, buys one unit, and gets a coupon.
async fn customer(sale: &TestSale) -> Buyer<'_> {
    assert_eq!(sign_up(sale, &json!({"id": NAME, "password": PASSWORD})).await.status, 201);
    let coupon = json!({"id": "ten", "quantity": 10});
    let admin = sale.admin("admin");
    assert_eq!(admin.call("POST", "/v1/coupons", Some(&coupon)).await.status, 201);
    let buyer = sale.buyer(NAME);
    buyer.buy("1", 1, Some("my-key")).await.order();
    assert_eq!(buyer.call("POST", "/v1/coupons/ten/issue", None).await.status, 201);
    buyer
}

async fn orders_of(sale: &TestSale, buyer: &str) -> Vec<Value> {
    let path = format!("/v1/admin/orders?buyer={buyer}");
    let found = sale.admin("admin").call("GET", &path, None).await;
    assert_eq!(found.status, 200, "{found:?}");
    found.body["orders"].as_array().unwrap().clone()
}

async fn finish(sale: &TestSale) {
    sale.query("UPDATE erasures SET begun_at_ms = 0").await;
    eventually("the name is nowhere", async || places_in_database(sale, NAME).await.is_empty())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_buyer_is_in_no_store_and_cannot_come_back() {
    for (database, strategy) in ALL_STORES {
        let sale = sale(database, strategy).await;
        let (admin, buyer) = (sale.admin("admin"), customer(&sale).await);
        let export = format!("/v1/buyers/{NAME}/export");
        assert_eq!(admin.call("GET", &export, None).await.status, 200);
        let path = format!("/v1/buyers/{NAME}");
        let erased = admin.call("DELETE", &path, None).await;
        assert_eq!(erased.status, 200, "{database:?} {strategy} {erased:?}");
        assert_eq!((&erased.body["order_lines"], &erased.body["coupons"]), (&json!(1), &json!(1)));
        let pseudonym = erased.body["pseudonym"].as_str().unwrap();

        for replica in 0..2 {
            let again = buyer.buy_from(replica, "1", 1, None).await;
            assert_eq!(again.problem(), (401, "account_erased"), "replica {replica}");
        }
        assert_eq!(log_in(&sale, PASSWORD).await.problem(), (401, "wrong_credentials"));
        let body = json!({"id": NAME.to_uppercase(), "password": PASSWORD});
        assert_eq!(sign_up(&sale, &body).await.problem(), (409, "account_exists"));

        // The unit stays sold, and the limit counts it.
        assert_eq!(sale.buyer("bob").stock("1").await, 9);
        assert_eq!(orders_of(&sale, NAME).await, Vec::<Value>::new());
        let orders = orders_of(&sale, pseudonym).await;
        assert_eq!((orders.len(), &orders[0]["buyer"]), (1, &json!(pseudonym)));
        let other = sale.buyer(pseudonym);
        if strategy == "Atomic" {
            assert_eq!(redis(&sale, &format!("HGET bought:1 {pseudonym}")).trim(), "1");
        }
        assert_eq!(other.buy("1", 2, None).await.problem(), (409, "limit_reached"));

        assert!(!is_in_redis(&sale, NAME), "{strategy}");
        assert_eq!(places_in_database(&sale, NAME).await, ["erasures"], "until it is finished");
        finish(&sale).await;
        let entries = admin.call("GET", "/v1/admin/audit", None).await.body;
        let entry = |index: usize, field: &str| entries["entries"][index][field].clone();
        assert_eq!(
            (entry(0, "action"), entry(0, "target")),
            (json!("erase_buyer"), json!(pseudonym))
        );
        assert_eq!(
            (entry(1, "action"), entry(1, "target")),
            (json!("export_buyer"), json!(pseudonym))
        );

        assert_eq!(admin.call("DELETE", &path, None).await.problem(), (404, "unknown_buyer"));
        assert_eq!(admin.call("GET", &export, None).await.problem(), (404, "unknown_buyer"));
        assert_eq!(buyer.buy("1", 1, None).await.problem(), (401, "account_erased"));
        // An administrator can still cancel what was ordered.
        let cancel = format!("/v1/orders/{}/cancel", orders[0]["order_id"].as_str().unwrap());
        assert_eq!(admin.call("POST", &cancel, None).await.status, 200);
        eventually("the unit is back", async || sale.buyer("bob").stock("1").await == 10).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_comes_back_while_a_buyer_is_erased_is_replaced_too() {
    for (database, strategy) in ALL_STORES {
        let sale = sale(database, strategy).await;
        customer(&sale).await;
        let path = format!("/v1/buyers/{NAME}");
        let erased = sale.admin("admin").call("DELETE", &path, None).await;
        let pseudonym = erased.body["pseudonym"].as_str().unwrap();
        // As a purchase does that was under way, and a sign-up at a replica that did not know yet.
        let (id, key) = (uuid::Uuid::now_v7(), "my-key");
        let straggler = format!(
            "INSERT INTO orders (id, product_id, buyer, quantity, idempotency_key, fence) \
             VALUES ('{id}', '1', '{NAME}', 1, '{key}', 1)"
        );
        sale.query(&straggler).await;
        let account = format!(
            "INSERT INTO accounts (id, password_hash, role) VALUES ('{NAME}', 'x', 'buyer')"
        );
        sale.query(&account).await;
        let coupon = format!(
            "INSERT INTO coupon_issues (id, coupon_id, buyer, fence) VALUES ('{id}', 'ten', '{NAME}', 1)"
        );
        sale.query(&coupon).await;
        if strategy == "Atomic" {
            redis(&sale, &format!("HSET bought:1 {NAME} 1"));
            let refused =
                format!("XADD orders-refused:1 * id {id} buyer {NAME} quantity 1 key {key}");
            redis(&sale, &refused);
        }
        finish(&sale).await;
        eventually("Redis has the pseudonym", async || !is_in_redis(&sale, NAME)).await;
        assert_eq!(orders_of(&sale, pseudonym).await.len(), 2, "{database:?} {strategy}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_erases_a_buyer_too() {
    for (database, strategy) in ALL_STORES {
        let sale = sale(database, strategy).await;
        let buyer = customer(&sale).await;
        let erase = |name: &str| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_flashsale-app"));
            command.args(["erase", name]).env("DATABASE_URL", sale.database_url());
            command.output().unwrap()
        };
        // With Atomic the order is there in a moment.
        eventually("it is recorded", async || orders_of(&sale, NAME).await.len() == 1).await;
        let erased = erase(NAME);
        let text = String::from_utf8(erased.stdout).unwrap();
        assert!(erased.status.success(), "{}", String::from_utf8_lossy(&erased.stderr));
        assert!(text.starts_with("erased: 1 lines of orders and 1 coupons have the buyer erased:"));
        let left = ["not finished", "idempotency keys", "the table erasures has the name"];
        assert!(left.iter().all(|part| text.contains(*part)), "a replica does the rest: {text}");
        assert_eq!(buyer.buy("1", 1, None).await.problem(), (401, "account_erased"));
        finish(&sale).await;
        eventually("Redis has the pseudonym", async || !is_in_redis(&sale, NAME)).await;
        let unknown = erase(NAME);
        let message = String::from_utf8_lossy(&unknown.stderr).into_owned();
        assert!(message.contains("nothing is known about a buyer"), "{message}");
        assert_eq!(unknown.status.code(), Some(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_is_not_erased_and_only_administrators_erase() {
    let mut settings = vec![("ADMIN_ID", "root".to_owned())];
    settings.push(("ADMIN_PASSWORD", PASSWORD.to_owned()));
    let sale = TestSale::start(SaleSpec { nodes: 1, settings, ..SaleSpec::on(Database::Sqlite) });
    let sale = sale.await;
    let (admin, ann) = (sale.admin("admin"), sale.buyer("ann"));
    let refused = admin.call("DELETE", "/v1/buyers/root", None).await;
    assert_eq!(refused.problem(), (409, "administrator_account"));
    for (method, path) in [("DELETE", "/v1/buyers/ann"), ("GET", "/v1/buyers/ann/export")] {
        assert_eq!(ann.call(method, path, None).await.problem(), (403, "forbidden"));
        assert_eq!(admin.call(method, path, None).await.problem(), (404, "unknown_buyer"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_gets_everything_that_is_held() {
    for (database, strategy) in ALL_STORES {
        let sale = sale(database, strategy).await;
        let order = customer(&sale).await.buy("1", 1, Some("my-key")).await.order().to_owned();
        let others = sale.buyer("bob").buy("1", 1, None).await.order().to_owned();
        for (event, order) in [("evt_1", &order), ("evt_2", &others), ("evt_3", &order)] {
            let id = uuid::Uuid::now_v7();
            let record = format!(
                "INSERT INTO payment_events (id, provider, event_id, kind, order_id, reference, amount, \
                 currency, outcome, received_at_ms) VALUES ('{id}', 'stripe', '{event}', \
                 'checkout.session.completed', '{order}', 'pi_1', 100, 'EUR', 'applied', 1764201600000)"
            );
            assert_eq!(sale.execute(&record).await, 1);
        }
        let path = format!("/v1/buyers/{NAME}/export");
        let export = sale.admin("admin").call("GET", &path, None).await;
        assert_eq!((export.status, &export.body["buyer"]), (200, &json!(NAME)), "{export:?}");
        assert_eq!(export.body["account"]["role"], "buyer");
        assert!(export.body["account"]["created_at"].as_str().unwrap().starts_with("20"));
        assert_eq!(export.body["orders"][0]["items"], json!([{"product_id": "1", "quantity": 1}]));
        let events = export.body["payment_events"].as_array().unwrap();
        let shown = |event: &Value| ["event_id", "order_id"].map(|field| event[field].clone());
        let expected = ["evt_1", "evt_3"].map(|event| [json!(event), json!(order)]);
        assert_eq!(events.iter().map(shown).collect::<Vec<_>>(), expected, "{database:?}");
        assert_eq!((&events[0]["reference"], &events[0]["amount"]), (&json!("pi_1"), &json!(100)));
        assert_eq!(export.body["coupons"][0]["coupon_id"], "ten");
        assert_eq!(export.body["past_order_lines"], json!([]));
        assert_eq!(export.body["audit"][0]["action"], "export_buyer");
        assert!(!export.body.to_string().contains("argon2"), "no hash of a password");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_sale_on_the_database_forgets_a_buyer_too() {
    for database in common::BOTH {
        let sale = sale(database, "Locked").await;
        customer(&sale).await;
        let force = ReleaseOptions { force: true, ..ReleaseOptions::default() };
        sale.ledger().release_database("default", force).await.unwrap();
        sale.ledger().prepare("default").await.unwrap();
        assert!(places_in_database(&sale, NAME).await.contains(&"past_orders"));
        let (admin, path) = (sale.admin("admin"), format!("/v1/buyers/{NAME}"));
        let export = admin.call("GET", &format!("{path}/export"), None).await.body;
        assert_eq!(export["past_order_lines"][0]["product_id"], "1");
        assert_eq!(export["past_coupons"][0]["coupon_id"], "ten");
        assert_eq!(admin.call("DELETE", &path, None).await.status, 200);
        finish(&sale).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn buyers_have_pseudonyms_some_days_after_the_sale() {
    for (database, strategy) in ALL_STORES {
        let mut sale = sale(database, strategy).await;
        customer(&sale).await;
        for buyer in ["bob", "eve"] {
            sale.buyer(buyer).buy("1", 2, Some(buyer)).await.order();
        }
        eventually("all is recorded", async || orders_of(&sale, "eve").await.len() == 1).await;
        // Who has an account, an order and a coupon, and who has an account only.
        let account = json!({"id": "zoe", "password": PASSWORD});
        assert_eq!(sign_up(&sale, &account).await.status, 201);
        for buyer in [NAME, "zoe"] {
            let export = format!("/v1/buyers/{buyer}/export");
            assert_eq!(sale.admin("admin").call("GET", &export, None).await.status, 200);
        }
        for replica in std::mem::take(&mut sale.replicas) {
            replica.stop().await;
        }
        let ended = Timestamp::now() - SignedDuration::from_hours(24);
        sale.settings.insert("SALE_ENDS_AT", ended.to_string());
        sale.settings.insert("RETENTION_DAYS", "1".to_owned());
        for replica in 0..2 {
            sale.add_replica().await;
            sale.await_ready(replica).await;
        }
        let names = "SELECT buyer FROM orders WHERE buyer NOT LIKE 'erased:%' UNION ALL \
                     SELECT buyer FROM coupon_issues WHERE buyer NOT LIKE 'erased:%' UNION ALL \
                     SELECT target FROM audit_log WHERE action = 'export_buyer' \
                     AND target NOT LIKE 'erased:%'";
        eventually(&format!("no order has a name, {database:?} {strategy}"), async || {
            sale.query(names).await.is_empty()
        })
        .await;
        let buyers = "SELECT DISTINCT buyer FROM orders";
        assert_eq!(sale.query(buyers).await.len(), 3, "one for each buyer");
        let exports = "SELECT DISTINCT target FROM audit_log WHERE action = 'export_buyer'";
        assert_eq!(sale.query(exports).await.len(), 2, "{database:?} {strategy}");
        let of_orders = format!("{exports} AND target IN (SELECT buyer FROM orders)");
        assert_eq!(sale.query(&of_orders).await.len(), 1, "it has the pseudonym of the order");
        let keys = "SELECT idempotency_key FROM orders WHERE idempotency_key IS NOT NULL";
        assert!(sale.query(keys).await.is_empty());
        for name in [NAME, "bob", "eve"] {
            eventually("Redis has no name", async || !is_in_redis(&sale, name)).await;
        }
        assert_eq!(sale.buyer("zoe").stock("1").await, 5, "{database:?} {strategy}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sign_up_is_open_by_invitation_or_closed() {
    let answer = async |settings: &[(&'static str, &str)], code: Option<&str>| {
        let settings = settings.iter().map(|&(name, value)| (name, value.to_owned())).collect();
        let spec = SaleSpec { nodes: 1, settings, ..SaleSpec::on(Database::Sqlite) };
        let sale = TestSale::start(spec).await;
        let mut body = json!({"id": "ann", "password": PASSWORD});
        if let Some(code) = code {
            body["invite_code"] = json!(code);
        }
        let answer = sign_up(&sale, &body).await;
        (answer.status, answer.body["code"].as_str().map(str::to_owned))
    };
    let code = |code: &str| Some(code.to_owned());
    assert_eq!(answer(&[], None).await, (201, None));
    assert_eq!(answer(&[], Some("of another sale")).await, (201, None));
    let closed = [("SIGN_UP", "Closed")];
    assert_eq!(answer(&closed, None).await, (403, code("sign_up_closed")));
    let invited = [("SIGN_UP", "Invited"), ("INVITE_CODES", "code-of-ann\ncode-of-bob\n")];
    assert_eq!(answer(&invited, Some("code-of-bob")).await, (201, None));
    assert_eq!(answer(&invited, Some("code-of-eve")).await, (403, code("wrong_invite_code")));
    assert_eq!(answer(&invited, None).await, (403, code("wrong_invite_code")));
}
