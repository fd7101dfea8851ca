//! `STRATEGY=Atomic`: an order is found, listed and cancelled right after it was answered, at any
//! replica, although Redis decided it and the database follows.

use futures::future::join_all;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::common::{BOTH, Database, SaleSpec, TestSale, eventually};

async fn sale(database: Database, stock: i64) -> TestSale {
    let products = json!([{"id": "1", "name": "Console", "stock": stock, "max_per_buyer": 2}]);
    let settings =
        vec![("STRATEGY", "Atomic".to_owned()), ("LOCK_TIMEOUT_SECONDS", "1".to_owned())];
    let spec = SaleSpec { products, settings, nodes: 1, replicas: 2, ..SaleSpec::on(database) };
    TestSale::start(spec).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_found_listed_and_cancelled_at_once() {
    for database in BOTH {
        let sale = sale(database, 100).await;
        for number in 0..10 {
            let ann = sale.buyer(&format!("ann-{number}"));
            let (here, there) = (number % 2, (number / 2) % 2);
            let bought = ann.buy_from(here, "1", 2, None).await;
            let path = format!("/v1/orders/{}", bought.order());
            match number % 3 {
                0 => {
                    let found = ann.send(there, ("GET", &path), None, None).await;
                    assert_eq!((found.status, &found.body["state"]), (200, &json!("confirmed")));
                }
                1 => {
                    let listed = ann.send(there, ("GET", "/v1/orders"), None, None).await;
                    assert_eq!(listed.body["orders"][0]["order_id"], bought.order());
                    assert_eq!(listed.body.get("incomplete"), None);
                }
                _ => {}
            }
            let cancel = format!("{path}/cancel");
            let cancelled = ann.send(there, ("POST", &cancel), None, None).await;
            assert_eq!(cancelled.status, 200, "{database:?} {cancelled:?}");
            // The units are the buyer's to buy again.
            eventually("they are", async || {
                ann.buy_from(there, "1", 2, Some("k")).await.status == 201
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unrecorded_order_is_distinguished_from_an_unknown_one() {
    let sale = sale(Database::Postgres, 100).await;
    let mut database = PgConnection::connect(&sale.database_url()).await.unwrap();
    // Others may read and not write.
    let lock = "BEGIN; LOCK TABLE orders IN EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut database).await.unwrap();
    let ann = sale.buyer("ann");
    let bought = ann.buy("1", 1, None).await;
    let path = format!("/v1/orders/{}", bought.order());
    for (replica, call) in [(0, ("GET", path.clone())), (1, ("POST", format!("{path}/cancel")))] {
        let answer = ann.send(replica, (call.0, &call.1), None, None).await;
        assert_eq!(answer.problem(), (503, "order_not_recorded_yet"));
        assert_eq!(answer.headers["retry-after"], "1");
    }
    let listed = ann.send(1, ("GET", "/v1/orders"), None, None).await;
    assert_eq!((&listed.body["orders"], &listed.body["incomplete"]), (&json!([]), &json!(true)));
    // Neither can wait to be recorded: no id of an order, and one that is too old.
    for id in ["6b1e1f7a-7c5c-4e0c-9d5a-1d3f6f1c2b3a", "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00"] {
        let answer = ann.call("GET", &format!("/v1/orders/{id}"), None).await;
        assert_eq!(answer.problem(), (404, "unknown_order"));
    }
    sqlx::raw_sql("ROLLBACK").execute(&mut database).await.unwrap();
    eventually("it is found", async || ann.call("GET", &path, None).await.status == 200).await;
    let listed = ann.call("GET", "/v1/orders", None).await;
    assert_eq!(listed.body["orders"][0]["order_id"], bought.order());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unrecorded_order_is_not_unknown_because_the_clock_of_redis_was_ahead() {
    let sale = sale(Database::Postgres, 100).await;
    let ann = sale.buyer("ann");
    assert_eq!(ann.buy("1", 1, None).await.status, 201);
    eventually("it is recorded", async || {
        sale.nodes[0].command("XLEN orders:1").unwrap() == ":0\r\n"
    })
    .await;
    // As if an entry had been made by a clock of the year 2286.
    sale.nodes[0].command("XSETID orders:1 9999999999999-0").unwrap();
    let mut database = PgConnection::connect(&sale.database_url()).await.unwrap();
    let lock = "BEGIN; LOCK TABLE orders IN EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut database).await.unwrap();
    let bought = ann.buy("1", 1, None).await;
    let path = format!("/v1/orders/{}", bought.order());
    let answer = ann.call("GET", &path, None).await;
    assert_eq!(answer.problem(), (503, "order_not_recorded_yet"));
    let old = "/v1/orders/0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00";
    assert_eq!(ann.call("GET", old, None).await.problem(), (404, "unknown_order"));
    sqlx::raw_sql("ROLLBACK").execute(&mut database).await.unwrap();
    eventually("it is found", async || ann.call("GET", &path, None).await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_not_refused_for_good_while_redis_that_may_know_it_is_away() {
    let mut sale = sale(Database::Postgres, 2).await;
    let order = sale.buyer("ann").buy("1", 2, Some("k")).await.order().to_owned();
    let bob = sale.buyer("bob");
    eventually("it is recorded and sold out", async || {
        let sold_out = bob.buy("1", 1, None).await.problem() == (409, "sold_out");
        sold_out && sale.sold().await[0]["sold"] == 2
    })
    .await;
    sale.nodes[0].kill().unwrap();
    let (ann, bob) = (sale.buyer("ann"), sale.buyer("bob"));
    assert_eq!(bob.buy("1", 1, Some("new")).await.problem(), (503, "stock_unavailable"));
    assert_eq!(ann.buy("1", 2, Some("k")).await.order(), order);
    sale.nodes[0].restart().unwrap();
    let bob = sale.buyer("bob");
    eventually("Redis says that the key is new", async || {
        bob.buy("1", 1, Some("new")).await.problem() == (409, "sold_out")
    })
    .await;
}

/// Sells a unit of this product as a replica does that dies before it records the order.
fn sell_and_die(sale: &TestSale, product: &str) {
    let script = "local sold = redis.call('HGET', KEYS[1], 'incarnation') \
         redis.call('XADD', KEYS[2], '*', 'version', 2, 'incarnation', sold, \
         'orders', ' bob' .. string.char(0) .. ARGV[1], 'price', '0') \
         redis.call('HINCRBY', KEYS[1], 'available', -1) \
         redis.call('HINCRBY', KEYS[1], 'sold', 1) \
         return redis.call('HINCRBY', KEYS[1], 'waiting', 1)";
    let order = format!("\"{} {product} 1\"", Uuid::now_v7());
    let sell = format!("EVAL \"{script}\" 2 sale:{product} orders:{product} {order}");
    sale.nodes[0].command(&sell).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_that_cannot_be_recorded_holds_up_no_other() {
    let ids = ["a", "b", "c", "d", "e", "f"];
    let products = ids.map(|id| json!({"id": id, "name": "Game", "stock": 10}));
    let settings =
        vec![("STRATEGY", "Atomic".to_owned()), ("LOCK_TIMEOUT_SECONDS", "1".to_owned())];
    let (products, on) = (json!(products), SaleSpec::on(Database::Postgres));
    let sale = TestSale::start(SaleSpec { products, settings, nodes: 1, ..on }).await;
    let ann = sale.buyer("ann");
    for id in ids {
        assert_eq!(ann.buy(id, 1, None).await.status, 201);
    }
    let recorded = async |orders: i64, of: &str| {
        let count = format!("SELECT CAST(count(*) AS TEXT) FROM orders WHERE {of}");
        eventually("they are recorded", async || {
            sale.query(&count).await == [Some(orders.to_string())]
        })
        .await;
    };
    recorded(6, "buyer = 'ann'").await;

    let mut database = PgConnection::connect(&sale.database_url()).await.unwrap();
    let lock = "BEGIN; SELECT FROM stock WHERE product_id = 'a' FOR UPDATE";
    sqlx::raw_sql(lock).execute(&mut database).await.unwrap();
    for id in ids {
        sell_and_die(&sale, id);
    }
    join_all(ids.map(async |id| assert_eq!(ann.buy(id, 1, None).await.status, 201))).await;
    recorded(5, "buyer = 'bob'").await;
    recorded(6 + 5, "buyer = 'ann'").await;
    sqlx::raw_sql("ROLLBACK").execute(&mut database).await.unwrap();
    recorded(6, "buyer = 'bob'").await;
    recorded(6 + 6, "buyer = 'ann'").await;
    let of_a = sale.nodes[0].command("XLEN orders-refused:a").unwrap();
    assert_eq!(of_a, ":0\r\n");
}
