//! `STRATEGY=Atomic`: a sale with many orders goes on at once when Redis lost its data, and what Redis
//! knew of buyers and keys holds meanwhile.

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, SqliteConnection};

use crate::common::process::Process;
use crate::common::{BOTH, Database, SaleSpec, TestSale, eventually};

const LARGE: i64 = 3_000_000;

/// Product 1 with this number of orders, one for each buyer, of two units and of one in turn; product 2 with
/// none. No replica runs yet.
async fn sale_with_orders(database: Database, orders: i64) -> TestSale {
    let products = json!([
        {"id": "1", "name": "Console", "stock": 2 * orders + 100, "max_per_buyer": 2},
        {"id": "2", "name": "Game", "stock": 10},
    ]);
    let settings =
        vec![("STRATEGY", "Atomic".to_owned()), ("LOCK_TIMEOUT_SECONDS", "1".to_owned())];
    let spec = SaleSpec { products, settings, nodes: 1, replicas: 0, ..SaleSpec::on(database) };
    let sale = TestSale::start(spec).await;
    let taken = format!("UPDATE stock SET available = 100 + {orders} / 2 WHERE product_id = '1'");
    match database {
        Database::Postgres => {
            let mut database = PgConnection::connect(&sale.database_url()).await.unwrap();
            let insert = format!(
                "SET synchronous_commit = off; \
                 INSERT INTO orders (id, product_id, buyer, quantity, idempotency_key, fence) \
                 SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::UUID, '1', \
                 'buyer-' || lpad(n::TEXT, 7, '0'), 1 + n % 2, 'key-' || n, 1 \
                 FROM generate_series(1, {orders}) n"
            );
            sqlx::raw_sql(sqlx::AssertSqlSafe(insert)).execute(&mut database).await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(taken)).execute(&mut database).await.unwrap();
        }
        Database::Sqlite => {
            let mut database = SqliteConnection::connect(&sale.database_url()).await.unwrap();
            let insert = format!(
                "WITH RECURSIVE numbers (n) AS \
                 (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {orders}) \
                 INSERT INTO orders (id, product_id, buyer, quantity, idempotency_key, fence) \
                 SELECT '00000000-0000-7000-8000-' || format('%012x', n), '1', \
                 'buyer-' || format('%07d', n), 1 + n % 2, 'key-' || n, 1 FROM numbers"
            );
            sqlx::raw_sql(sqlx::AssertSqlSafe(insert)).execute(&mut database).await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(taken)).execute(&mut database).await.unwrap();
        }
    }
    sale
}

fn buyer(number: i64) -> String {
    format!("buyer-{number:07}")
}

fn order_id(number: i64) -> String {
    format!("00000000-0000-7000-8000-{number:012x}")
}

async fn start_replica(sale: &mut TestSale) {
    sale.add_replica().await;
    sale.await_ready(sale.replicas.len() - 1).await;
}

async fn await_sale(sale: &TestSale, who: &str) {
    for product in ["2", "1"] {
        eventually("it sells", async || sale.buyer(who).buy(product, 1, None).await.status == 201)
            .await;
    }
}

/// A value of one field of a hash.
fn field(sale: &TestSale, key: &str, field: &str) -> Option<String> {
    let answer = sale.nodes[0].command(&format!("HGET {key} \"{field}\"")).unwrap();
    answer.lines().nth(1).map(str::to_owned)
}

fn count(sale: &TestSale, command: &str) -> i64 {
    sale.nodes[0].command(command).unwrap().trim_start_matches(':').trim().parse().unwrap()
}

/// What buyers may do whose orders are in the database and not in Redis. `first` is odd, and those of
/// the numbers after it have not been used yet.
async fn limits_and_keys_hold(sale: &TestSale, first: i64) {
    let full = sale.buyer(&buyer(first));
    assert_eq!(full.buy("1", 1, None).await.problem(), (409, "limit_reached"));
    let again = full.buy("1", 2, Some(&format!("key-{first}"))).await;
    assert_eq!(
        (again.order(), &again.headers["idempotent-replayed"]),
        (&*order_id(first), &"true".parse().unwrap())
    );
    let reused = full.buy("2", 1, Some(&format!("key-{first}"))).await;
    assert_eq!(reused.problem(), (422, "idempotency_key_reused"));
    assert_eq!(full.buy("2", 1, Some("new")).await.status, 201);

    let half = sale.buyer(&buyer(first + 1));
    assert_eq!(half.buy("1", 2, Some("new")).await.problem(), (409, "limit_reached"));
    let bought = half.buy("1", 1, Some("new")).await;
    assert_eq!(half.buy("1", 1, Some("new")).await.order(), bought.order());
    assert_eq!(half.buy("1", 1, None).await.problem(), (409, "limit_reached"));

    // Whose units come back before Redis knows of them.
    let cancelling = sale.buyer(&buyer(first + 2));
    let path = format!("/v1/orders/{}/cancel", order_id(first + 2));
    assert_eq!(cancelling.call("POST", &path, None).await.status, 200);
    assert_eq!(cancelling.buy("1", 2, None).await.status, 201);
    assert_eq!(cancelling.buy("1", 1, None).await.problem(), (409, "limit_reached"));
}

#[tokio::test(flavor = "multi_thread")]
async fn three_million_orders_hold_up_no_sale() {
    let mut sale = sale_with_orders(Database::Postgres, LARGE).await;
    start_replica(&mut sale).await;
    await_sale(&sale, "ann").await;
    limits_and_keys_hold(&sale, LARGE - 9).await;
    sale.nodes[0].command("FLUSHALL").unwrap();
    await_sale(&sale, "bob").await;
    limits_and_keys_hold(&sale, LARGE - 99).await;
    // It did not wait for all of them.
    assert_eq!(field(&sale, "sale:1", "limited").as_deref(), Some("2"));
    assert!(count(&sale, "HLEN bought:1") < LARGE / 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn filling_in_continues_where_another_replica_stopped() {
    for database in BOTH {
        let orders = 6_001;
        let mut sale = sale_with_orders(database, orders).await;
        // As if another replica did it.
        sale.nodes[0].command("SET filling another PX 600000").unwrap();
        for _ in 0..2 {
            start_replica(&mut sale).await;
        }
        await_sale(&sale, "ann").await;
        limits_and_keys_hold(&sale, 5_001).await;
        assert_eq!(field(&sale, "sale:1", "limited").as_deref(), Some("2"), "{database:?}");
        assert_eq!(field(&sale, "purchase-keys", ""), None);
        // The first page, less the buyer whose orders may go on in the next; and these four.
        assert_eq!(count(&sale, "HLEN bought:1"), 999 + 4);

        // It came so far and died.
        sale.nodes[0].command(&format!("HSET sale:1 filled {}", buyer(4_000))).unwrap();
        let key = format!("HSET purchase-keys filled \"key-4000 {}\"", buyer(4_000));
        sale.nodes[0].command(&key).unwrap();
        sale.nodes[0].command("DEL filling").unwrap();
        eventually("all is filled in", async || {
            field(&sale, "sale:1", "limited").as_deref() == Some("1")
                && field(&sale, "purchase-keys", "").as_deref() == Some("1")
        })
        .await;
        // The first page, from there on, and ann; what was sold meanwhile stays.
        assert_eq!(count(&sale, "HLEN bought:1"), 999 + orders - 4_000 + 1);
        for (number, units) in
            [(4_001, "2"), (5_002, "2"), (5_003, "2"), (6_001, "2"), (6_000, "1")]
        {
            let has = field(&sale, "bought:1", &buyer(number));
            assert_eq!(has.as_deref(), Some(units), "{number} {database:?}");
        }
        assert_eq!(field(&sale, "bought:1", &buyer(4_000)), None);
        assert!(field(&sale, "purchase-keys", &format!("key-4001 {}", buyer(4_001))).is_some());
        assert_eq!(field(&sale, "purchase-keys", &format!("key-4000 {}", buyer(4_000))), None);
        assert_eq!(sale.buyer("ann").buy("1", 1, None).await.status, 201);
        assert_eq!(sale.buyer("ann").buy("1", 1, None).await.problem(), (409, "limit_reached"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_killed_while_it_fills_in_is_followed_by_another_from_there() {
    let orders = 60_001;
    let mut sale = sale_with_orders(Database::Postgres, orders).await;
    let process = Process::start(&sale);
    let early = |filled: &Option<String>| filled.as_ref().is_none_or(|to| *to < buyer(3_000));
    eventually("some are filled in", async || !early(&field(&sale, "sale:1", "filled"))).await;
    drop(process);
    let filled = field(&sale, "sale:1", "filled").unwrap();
    assert!(filled < buyer(orders), "it was killed too late: {filled}");
    // Had the other begun anew, it would be there again.
    sale.nodes[0].command(&format!("HDEL bought:1 {}", buyer(500))).unwrap();
    start_replica(&mut sale).await;
    eventually("all is filled in", async || {
        field(&sale, "sale:1", "limited").as_deref() == Some("1")
            && field(&sale, "purchase-keys", "").as_deref() == Some("1")
    })
    .await;
    assert_eq!(field(&sale, "bought:1", &buyer(500)), None);
    assert_eq!(count(&sale, "HLEN bought:1"), orders - 1);
    limits_and_keys_hold(&sale, 50_001).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_with_a_wrong_type_are_rebuilt_from_the_database() {
    let instead = |key: &str| {
        format!("EVAL \"redis.call('DEL', KEYS[1]) redis.call('RPUSH', KEYS[1], 'x')\" 1 {key}")
    };
    let damages = [
        "SET sale:1 x".to_owned(),
        "HSET sale:1 available many".to_owned(),
        "HSET sale:1 fence none".to_owned(),
        "SET purchase-keys x".to_owned(),
        instead("bought:1"),
        format!("HSET bought:1 {} two", buyer(1)),
        instead("orders:1"),
        "SET orders-refused:1 x".to_owned(),
        instead("stock:1"),
        instead("recording:1"),
        instead("filling"),
        "EVAL \"redis.call('HDEL', KEYS[1], '') redis.call('HSET', KEYS[1], 'epoch', '7')\" 1 \
         purchase-keys"
            .to_owned(),
    ];
    for database in BOTH {
        let mut sale = sale_with_orders(database, 2).await;
        start_replica(&mut sale).await;
        await_sale(&sale, "ann").await;
        let full = sale.buyer(&buyer(1));
        for (number, damage) in damages.iter().enumerate() {
            eventually("all is recorded", async || count(&sale, "XLEN orders:1") == 0).await;
            sale.nodes[0].command(damage).unwrap();
            let buys = async |who: &str| sale.buyer(who).buy("1", 1, Some("k")).await.status == 201;
            eventually(damage, async || buys(&format!("b{number}")).await).await;
            eventually(damage, async || {
                full.buy("1", 1, None).await.problem() == (409, "limit_reached")
            })
            .await;
            let again = full.buy("1", 2, Some("key-1")).await;
            assert_eq!(again.order(), order_id(1), "{database:?}: {damage}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filling_in_overwrites_no_later_sale() {
    let mut sale = sale_with_orders(Database::Postgres, 2_000).await;
    sale.nodes[0].command("SET filling another PX 600000").unwrap();
    start_replica(&mut sale).await;
    await_sale(&sale, "ann").await;
    let mut database = PgConnection::connect(&sale.database_url()).await.unwrap();
    // Others may read and not write: nothing is recorded.
    let lock = "BEGIN; LOCK TABLE orders IN EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut database).await.unwrap();
    let half = sale.buyer(&buyer(1_000));
    assert_eq!(half.buy("1", 1, Some("new")).await.status, 201);
    sale.nodes[0].command("DEL filling").unwrap();
    eventually("all is filled in", async || {
        field(&sale, "sale:1", "limited").as_deref() == Some("1")
            && field(&sale, "purchase-keys", "").as_deref() == Some("1")
    })
    .await;
    assert_eq!(half.buy("1", 1, None).await.problem(), (409, "limit_reached"));
    assert_eq!(half.buy("1", 1, Some("new")).await.headers["idempotent-replayed"], "true");
    sqlx::raw_sql("ROLLBACK").execute(&mut database).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_that_cannot_be_made_holds_up_no_other() {
    let mut sale = sale_with_orders(Database::Sqlite, 2).await;
    start_replica(&mut sale).await;
    await_sale(&sale, "ann").await;
    // What a later version sold of product 1 only that can record.
    sale.nodes[0].command("XADD orders:1 * version 4 incarnation 1 sold all").unwrap();
    sale.nodes[0].command("DEL sale:1 sale:2").unwrap();
    eventually("product 2 is sold again", async || {
        sale.buyer("ann").buy("2", 1, None).await.status == 201
    })
    .await;
    assert_eq!(field(&sale, "sale:1", "available"), None);
    sale.nodes[0].command("DEL orders:1").unwrap();
    eventually("product 1 is sold again", async || {
        sale.buyer("ann").buy("1", 1, Some("k")).await.status == 201
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_was_away_for_a_while_counts_what_was_bought_meanwhile() {
    let mut sale = sale_with_orders(Database::Postgres, 2).await;
    start_replica(&mut sale).await;
    let (ann, admin) = (sale.buyer("ann"), sale.admin("shop"));
    let limit = async |limit: Value| {
        let terms = json!({"name": "Console", "max_per_buyer": limit});
        assert_eq!(admin.call("PUT", "/v1/products/1", Some(&terms)).await.status, 200);
    };
    eventually("it sells", async || ann.buy("1", 1, Some("a")).await.status == 201).await;
    limit(Value::Null).await;
    eventually("there is no limit", async || ann.buy("1", 3, Some("b")).await.status == 201).await;
    limit(json!(5)).await;
    assert_eq!(ann.buy("1", 2, None).await.problem(), (409, "limit_reached"));
    assert_eq!(ann.buy("1", 1, None).await.status, 201);
    assert_eq!(ann.buy("1", 1, None).await.problem(), (409, "limit_reached"));
}
