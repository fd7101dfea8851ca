//! `STRATEGY=Atomic`: an order is found, listed and cancelled right after it was answered, at any
//! replica, although Redis decided it and the database follows.

use serde_json::json;
use sqlx::{Connection, PgConnection};

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
