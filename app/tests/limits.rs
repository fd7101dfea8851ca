//! Many products with a limit per buyer, sold at the same time over a network that takes its time.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use testkit::{Link, Postgres, Proxy, Way};

use crate::common::{Database, SaleSpec, TestSale};

const PRODUCTS: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_limited_products_over_a_slow_network_lose_no_lease_and_no_answer() {
    let postgres = Postgres::shared().unwrap();
    let url = postgres.new_database().unwrap();
    let proxy = Proxy::start(postgres.address()).await.unwrap();
    let product = |number| json!({"id": format!("p{number}"), "name": "Console", "stock": 10, "max_per_buyer": 2});
    let settings = vec![
        ("DATABASE_URL", url.replace(&postgres.address(), proxy.address())),
        ("LOCK_TIMEOUT_SECONDS", "5".to_owned()),
    ];
    let products: Vec<Value> = (0..PRODUCTS).map(product).collect();
    let spec = SaleSpec {
        nodes: 1,
        products: products.into(),
        settings,
        ..SaleSpec::on(Database::Sqlite)
    };
    let sale = TestSale::start(spec).await;
    // As many round trips as there are products, and one by one they would outlast the lease.
    proxy.set(Link::both(Way::Slow(Duration::from_millis(10))));
    for round in 0..3 {
        let buyers: Vec<_> = (0..3).map(|i| sale.buyer(&format!("buyer-{i}"))).collect();
        let purchases = buyers.iter().flat_map(|buyer| {
            (0..PRODUCTS)
                .map(move |number| async move { buyer.buy(&format!("p{number}"), 1, None).await })
        });
        for answer in join_all(purchases).await {
            match round {
                0 | 1 => assert_eq!(answer.status, 201, "{answer:?}"),
                _ => assert_eq!(answer.problem(), (409, "limit_reached")),
            }
        }
    }
    let metrics = sale.metrics().await;
    assert!(metrics.contains("\nflashsale_lock_leases_lost_total 0\n"), "{metrics}");
    assert!(sale.sold().await.as_array().unwrap().iter().all(|product| product["sold"] == 6));
}
