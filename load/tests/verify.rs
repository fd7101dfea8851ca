//! `flashsale-load verify` and `orders` on real stores: PostgreSQL with the ledger's tables, and Redis.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};
use testkit::{Postgres, RedisServer};
use tokio::process::Command;

/// The statements of the ledger's migrations. The tool shares no code with the ledger, only its tables.
const MIGRATIONS: [&str; 11] = [
    include_str!("../../ledger/migrations/postgres/0001_init.sql"),
    include_str!("../../ledger/migrations/postgres/0002_orders.sql"),
    include_str!("../../ledger/migrations/postgres/0003_coupons.sql"),
    include_str!("../../ledger/migrations/postgres/0004_stores.sql"),
    include_str!("../../ledger/migrations/postgres/0005_administration.sql"),
    include_str!("../../ledger/migrations/postgres/0007_sell_at_once.sql"),
    include_str!("../../ledger/migrations/postgres/0008_installation.sql"),
    include_str!("../../ledger/migrations/postgres/0015_account_ids.sql"),
    include_str!("../../ledger/migrations/postgres/0018_holds.sql"),
    include_str!("../../ledger/migrations/postgres/0026_waitlist.sql"),
    include_str!("../../ledger/migrations/postgres/0028_limit_keys.sql"),
];
const SALE: &str = "shop/black-friday";

/// A sale that has sold 60 of 100 units of product 1, and all 50 of product 2.
struct Sale {
    _server: Arc<Postgres>,
    url: String,
    pool: PgPool,
    nodes: Vec<RedisServer>,
}

impl Sale {
    async fn new(name: &str, nodes: usize) -> Self {
        let server = Postgres::shared().unwrap();
        let url = server.create_database(name).unwrap();
        let pool = PgPool::connect(&url).await.unwrap();
        for migration in MIGRATIONS {
            sqlx::raw_sql(migration).execute(&pool).await.unwrap();
        }
        let nodes = (0..nodes).map(|_| RedisServer::start().unwrap()).collect();
        let sale = Self { _server: server, url, pool, nodes };
        for (product, stock, sold, limit) in [("1", 100, 60, "1"), ("2", 50, 50, "NULL")] {
            sale.sql(&format!(
                "INSERT INTO products (id, name, max_per_buyer) VALUES ('{product}', 'x', {limit})"
            ))
            .await;
            sale.sql(&format!(
                "INSERT INTO stock (product_id, declared, available) VALUES ('{product}', {stock}, {})",
                stock - sold
            ))
            .await;
            sale.sql(&format!(
                "INSERT INTO orders (id, product_id, buyer, quantity, fence) \
                 SELECT gen_random_uuid(), '{product}', 'buyer-' || n, 1, 1 FROM generate_series(1, {sold}) n"
            ))
            .await;
            sale.set_nodes(product, stock - sold).await;
        }
        sale.sql(
            "INSERT INTO orders (id, product_id, buyer, quantity, fence, state) \
                  VALUES (gen_random_uuid(), '1', 'buyer-1', 9, 1, 'cancelled')",
        )
        .await;
        sale.sql(&format!("UPDATE installation SET sale = '{SALE}'")).await;
        sale
    }

    async fn sql(&self, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&self.pool).await.unwrap();
    }

    async fn set_nodes(&self, product: &str, stock: i64) {
        for node in &self.nodes {
            set(node, product, stock).await;
        }
    }

    fn tool(&self, arguments: &[&str]) -> Command {
        let nodes: Vec<String> = self.nodes.iter().map(RedisServer::address).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_flashsale-load"));
        command.args(arguments).env("DATABASE_URL", &self.url).env("REDIS_NODES", nodes.join(","));
        command.env("SALE_NAME", SALE).env("DECLARED_STOCK", "1=100,2=50").kill_on_drop(true);
        command
    }

    /// Exit status, text, and the object at its end.
    async fn verify(&self) -> (Option<i32>, String, Value) {
        judged(self.tool(&["verify", "--settle-seconds=2"]).output().await.unwrap())
    }
}

fn judged(output: Output) -> (Option<i32>, String, Value) {
    let text = String::from_utf8(output.stdout).unwrap();
    let json = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    (output.status.code(), text, json.unwrap_or_default())
}

async fn set(node: &RedisServer, product: &str, stock: i64) {
    let client = redis::Client::open(format!("redis://{}", node.address())).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let set = redis::cmd("SET").arg(format!("stock:{product}")).arg(stock).to_owned();
    set.query_async::<()>(&mut connection).await.unwrap();
}

#[tokio::test]
async fn an_honest_sale_passes_and_each_wrong_number_is_found() {
    let sale = Sale::new("verify_wrong", 3).await;
    let (code, text, json) = sale.verify().await;
    assert_eq!((code, json["verdict"].as_str()), (Some(0), Some("PASS")), "{text}");
    assert_eq!(json["products"][0]["sold"], 60, "{text}");
    assert_eq!(json["products"][0]["units"]["cancelled"], 9, "{text}");

    // Each change, what is found, and what puts it right.
    for (change, found, back) in [
        (
            "UPDATE stock SET available = 39 WHERE product_id = '1'",
            "60 + 39 = 99",
            "UPDATE stock SET available = 40 WHERE product_id = '1'",
        ),
        (
            "INSERT INTO orders (id, product_id, buyer, quantity, fence) \
             VALUES (gen_random_uuid(), '2', 'late', 1, 1)",
            "oversold",
            "DELETE FROM orders WHERE buyer = 'late'",
        ),
        (
            "UPDATE orders SET buyer = 'buyer-1' WHERE buyer = 'buyer-2' AND product_id = '1'",
            "buyer buyer-1 has 2 units of product 1, whose maxPerBuyer is 1",
            "UPDATE orders SET buyer = 'buyer-2' WHERE id = (SELECT id FROM orders WHERE buyer = 'buyer-1' \
             AND product_id = '1' AND state = 'confirmed' LIMIT 1)",
        ),
        (
            "UPDATE orders SET limit_key = 'limit:p' WHERE buyer IN ('buyer-4', 'buyer-5')",
            "person limit:p has 2 units of product 1, whose maxPerBuyer is 1",
            "UPDATE orders SET limit_key = NULL",
        ),
        (
            // An erasure takes the key off, and the other account has bought since then.
            "UPDATE orders SET limit_key = 'limit:p' WHERE buyer IN ('buyer-4', 'buyer-5'); \
             UPDATE orders SET buyer = 'erased' WHERE buyer = 'buyer-5'",
            "person limit:p has 2 units of product 1, whose maxPerBuyer is 1",
            "UPDATE orders SET limit_key = NULL; DELETE FROM erased_units",
        ),
        (
            "UPDATE stock SET restocked = 1 WHERE product_id = '1'",
            "declared stock in the database",
            "UPDATE stock SET restocked = 0 WHERE product_id = '1'",
        ),
        (
            "UPDATE orders SET state = 'pending', expires_at_ms = 1 WHERE buyer = 'buyer-3'",
            "2 units are held by orders whose hold ended",
            "UPDATE orders SET state = 'confirmed' WHERE buyer = 'buyer-3'",
        ),
        (
            "INSERT INTO waitlist (product_id, buyer, quantity, hold_ms) \
             VALUES ('1', 'a', 41, 1), ('1', 'b', 30, 1), ('1', 'c', 11, 1), ('1', 'd', 9, 1), ('2', 'a', 1, 1)",
            "39 units of product 1 are on sale, and the first who wait would take them",
            "DELETE FROM waitlist WHERE buyer IN ('b', 'c', 'd')",
        ),
    ] {
        sale.sql(change).await;
        let (code, text, json) = sale.verify().await;
        assert_eq!((code, json["verdict"].as_str()), (Some(1), Some("FAIL")), "{change}: {text}");
        assert!(text.contains(found), "{found}: {text}");
        sale.sql(back).await;
    }
    sale.sql("UPDATE orders SET state = 'pending', expires_at_ms = NULL WHERE buyer = 'buyer-6'")
        .await;
    let (code, text, _) = sale.verify().await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("2 units are held by 2 unpaid orders without an end"), "{text}");
    sale.sql("UPDATE orders SET state = 'confirmed' WHERE buyer = 'buyer-6'").await;
    // Those who still wait want more than is left.
    let (code, text, json) = sale.verify().await;
    assert_eq!(code, Some(0), "{text}");
    let checks = json["checks"].as_array().unwrap();
    let of_waitlist =
        |check: &&Value| check["name"] == "units on sale although buyers wait for them";
    assert_eq!(checks.iter().find(of_waitlist).unwrap()["measured"], "0", "{text}");
    set(&sale.nodes[2], "1", 41).await;
    let (code, text, _) = sale.verify().await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("stock:1 is 41"), "{text}");
    set(&sale.nodes[2], "1", 40).await;
    // As a release without holds, waiting lists and limit keys left it.
    sale.sql("ALTER TABLE orders DROP COLUMN limit_key CASCADE").await;
    sale.sql("ALTER TABLE orders DROP COLUMN ended_as, DROP COLUMN expires_at_ms").await;
    sale.sql("DROP TABLE waitlist, erased_units").await;
    let (code, text, _) = sale.verify().await;
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("holds") && !text.contains("buyers wait"), "{text}");
}

#[tokio::test]
async fn a_sale_that_goes_on_is_judged_too() {
    let sale = Sale::new("verify_running", 3).await;
    let (pool, nodes) =
        (sale.pool.clone(), sale.nodes.iter().map(RedisServer::address).collect::<Vec<_>>());
    // One unit after the other; the nodes follow a moment after the commit.
    let selling = tokio::spawn(async move {
        for left in (0..40).rev() {
            let statement = format!(
                "WITH taken AS (UPDATE stock SET available = {left} WHERE product_id = '1') \
                 INSERT INTO orders (id, product_id, buyer, quantity, fence) \
                 VALUES (gen_random_uuid(), '1', 'late-{left}', 1, 1)"
            );
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&pool).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            for node in &nodes {
                let client = redis::Client::open(format!("redis://{node}")).unwrap();
                let mut connection = client.get_multiplexed_async_connection().await.unwrap();
                let set = redis::cmd("SET").arg("stock:1").arg(left).to_owned();
                set.query_async::<()>(&mut connection).await.unwrap();
            }
        }
    });
    while !selling.is_finished() {
        let (code, text, _) = sale.verify().await;
        assert_eq!(code, Some(0), "{text}");
    }
    selling.await.unwrap();
    let (_, text, json) = sale.verify().await;
    assert_eq!(json["products"][0]["sold"], 100, "{text}");
}

#[tokio::test]
async fn what_cannot_be_read_is_no_verdict() {
    let mut sale = Sale::new("verify_unread", 3).await;
    sale.nodes.pop();
    let away = format!("127.0.0.1:{}", testkit::free_port().unwrap());
    let nodes = |away: &[&str]| {
        let up = sale.nodes.iter().map(RedisServer::address);
        up.chain(away.iter().map(|node| (*node).to_owned())).collect::<Vec<_>>().join(",")
    };
    let verify = async |name: &str, value: &str| {
        let mut tool = sale.tool(&["verify", "--settle-seconds=1"]);
        judged(tool.env(name, value).output().await.unwrap())
    };
    let (code, text, _) = verify("REDIS_NODES", &nodes(&[&away])).await;
    assert_eq!(code, Some(0), "a minority: {text}");
    assert!(
        text.contains("unreadable") && text.contains("a majority of the nodes agrees"),
        "{text}"
    );
    let (code, text, json) = verify("REDIS_NODES", &nodes(&[&away, "localhost:1"])).await;
    assert_eq!((code, json["verdict"].as_str()), (Some(2), Some("UNKNOWN")), "{text}");
    assert!(text.contains("COULD NOT TELL"), "{text}");

    let (code, text, _) = verify("DATABASE_URL", "postgres://u:secret-word@127.0.0.1:1/d").await;
    assert!(code == Some(2) && !text.contains("secret-word"), "{text}");
    let (code, text, _) = verify("SALE_NAME", "shop/other").await;
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("it belongs to shop/black-friday, not to shop/other"), "{text}");
    let (code, text, _) = verify("REDIS_NODES", "").await;
    assert_eq!(code, Some(0), "without nodes: {text}");
}

#[tokio::test]
async fn all_orders_are_exported_with_their_number() {
    let sale = Sale::new("export", 0).await;
    sale.sql("INSERT INTO orders (id, line, product_id, buyer, quantity, fence, state, payment_reference, created_at) \
              VALUES ('00000000-0000-0000-0000-000000000001', 0, '1', E'a \"b\",\\nc', 2, 1, 'paid', 'ref', \
              '2026-11-27 01:02:03.4+01')")
        .await;
    let export = async |format: &str| {
        let output = sale.tool(&["orders", "--format", format]).output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        let counted: Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!(counted["rows"], 112);
        assert_eq!(counted["bytes"], output.stdout.len());
        String::from_utf8(output.stdout).unwrap()
    };
    let csv = export("csv").await;
    let expected = "00000000-0000-0000-0000-000000000001,0,1,\"a \"\"b\"\",\nc\",2,paid,ref,2026-11-27T00:02:03.400000Z,,\r\n";
    assert!(csv.contains(expected), "{csv}");
    let ndjson = export("ndjson").await;
    let orders: Vec<Value> =
        ndjson.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |product: &str| orders.iter().filter(|order| order["product"] == product).count();
    assert_eq!((of("1"), of("2")), (62, 50));
    assert!(orders.iter().any(|order| order["buyer"] == "a \"b\",\nc"), "{ndjson}");

    let mut unreachable = sale.tool(&["orders"]);
    let output =
        unreachable.env("DATABASE_URL", "postgres://u@127.0.0.1:1/d").output().await.unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
}

/// The memory of the tool does not grow with the number of orders.
#[tokio::test]
async fn many_orders_are_judged_and_exported_in_little_memory() {
    const ORDERS: u64 = 300_000;
    let sale = Sale::new("verify_many", 1).await;
    sale.sql("UPDATE stock SET declared = 300060 WHERE product_id = '1'").await;
    sale.sql(&format!(
        "INSERT INTO orders (id, product_id, buyer, quantity, fence) \
         SELECT gen_random_uuid(), '1', 'many-' || n, 1, 1 FROM generate_series(1, {}) n",
        ORDERS - 40
    ))
    .await;
    let verdict = judged(sale.tool(&["verify", "--declared=2=50"]).output().await.unwrap());
    assert_eq!(verdict.0, Some(0), "{}", verdict.1);
    let mut export = sale.tool(&["orders"]);
    export.stdout(Stdio::null());
    let output = export.output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("\"rows\":{}", ORDERS + 71)), "{said}");
    // The largest of all processes that this one has started.
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    assert!(used < 64_000, "{used} KB");
}
