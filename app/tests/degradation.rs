//! What buyers are answered while a store is away in the middle of a sale, and that it goes on by itself.

use sqlx::Connection;
use testkit::{Link, Postgres, Proxy, Way};

use crate::common::{Database, SaleSpec, TestSale, eventually};

/// A sale whose database can be cut off, and the database's own address.
async fn behind_a_proxy(
    postgres: &Postgres,
    nodes: usize,
    settings: &[(&'static str, &str)],
) -> (Proxy, TestSale, String) {
    let url = postgres.new_database().unwrap();
    let proxy = Proxy::start(postgres.address()).await.unwrap();
    let mut all = vec![
        ("DATABASE_URL", url.replace(&postgres.address(), proxy.address())),
        ("LOCK_TIMEOUT_SECONDS", "3".to_owned()),
    ];
    all.extend(settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
    let sale =
        TestSale::start(SaleSpec { nodes, settings: all, ..SaleSpec::on(Database::Sqlite) }).await;
    (proxy, sale, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_cut_off_in_a_sale_is_said_so_and_found_again() {
    let postgres = Postgres::shared().unwrap();
    let (proxy, sale, _url) = behind_a_proxy(&postgres, 5, &[]).await;
    let ann = sale.buyer("ann");
    assert_eq!(ann.buy("1", 1, Some("before")).await.status, 201);
    proxy.set(Link::both(Way::Cut));
    let answer = ann.buy("1", 1, Some("meanwhile")).await;
    assert_eq!(answer.problem(), (503, "database_unavailable"));
    assert_eq!(answer.headers["retry-after"], "1");
    // What is left is still known, and so is what is not for sale.
    assert_eq!(ann.stock("1").await, 99);
    assert_eq!(sale.buyer("bob").buy("1", 100, None).await.problem(), (409, "sold_out"));

    proxy.set(Link::default());
    eventually("it sells again", async || ann.buy("1", 1, Some("meanwhile")).await.status == 201)
        .await;
    // Whether the first try was committed or not: one order.
    assert_eq!(sale.sold().await[0]["sold"], 2);
    sale.await_stock_on_nodes("1", "98").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_redis_decides_the_sale_goes_on_without_the_database() {
    let postgres = Postgres::shared().unwrap();
    let (proxy, sale, _url) = behind_a_proxy(&postgres, 1, &[("STRATEGY", "Atomic")]).await;
    let ann = sale.buyer("ann");
    assert_eq!(ann.buy("1", 1, Some("before")).await.status, 201);
    proxy.set(Link::both(Way::Cut));
    for number in 0..20 {
        assert_eq!(ann.buy("1", 2, Some(&format!("k{number}"))).await.status, 201);
    }
    proxy.set(Link::default());
    eventually("all is recorded", async || sale.sold().await[0]["sold"] == 41).await;
    assert_eq!(sale.nodes[0].get("stock:1").unwrap().as_deref(), Some("59"));
    assert_eq!(ann.buy("1", 2, Some("k7")).await.headers["idempotent-replayed"], "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_the_database_cannot_take_is_put_aside_and_its_units_are_given_back() {
    let postgres = Postgres::shared().unwrap();
    let (_proxy, sale, url) = behind_a_proxy(&postgres, 1, &[("STRATEGY", "Atomic")]).await;
    let ann = sale.buyer("ann");
    assert_eq!(ann.buy("1", 1, None).await.status, 201);
    // An order that Redis does not know of.
    let mut database = sqlx::PgConnection::connect(&url).await.unwrap();
    sqlx::query(
        "INSERT INTO orders (id, product_id, buyer, quantity, idempotency_key, fence) \
         VALUES ($1, '1', 'ann', 1, 'k', 0)",
    )
    .bind(uuid::Uuid::now_v7())
    .execute(&mut database)
    .await
    .unwrap();
    assert_eq!(ann.buy("1", 3, Some("k")).await.status, 201);
    assert_eq!(ann.buy("1", 1, Some("l")).await.status, 201);
    eventually("it is counted", async || {
        sale.metrics().await.contains("\nflashsale_orders_refused_total 1\n")
    })
    .await;
    eventually("the others are recorded", async || sale.sold().await[0]["sold"] == 2).await;
    sale.await_stock_on_nodes("1", "98").await;
    let refused = sale.nodes[0].command("XRANGE orders-refused:1 - +").unwrap();
    assert!(refused.contains("ann"), "{refused}");
    eventually("what is recorded is taken off", async || {
        sale.nodes[0].command("XLEN orders:1").unwrap() == ":0\r\n"
    })
    .await;
}
