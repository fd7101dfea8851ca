//! Buyers who waited while the last unit was sold.

use std::time::Duration;

use ledger::ProductDeclaration;
use redlock::NodeConfig;
use sqlx::{Connection, SqliteConnection};
use testkit::RedisServer;

use super::*;
use crate::config::{LockConfig, SaleConfig, SaleWindow, StoresConfig, Strategy};
use crate::resource::stock_resource;
use crate::sale::{Engine, Sale};

/// More than a replica keeps the keys of.
const ORDERS: usize = 100_001;
/// More than may wait for the database at a time.
const BUYERS: usize = 12_000;

#[derive(Debug)]
struct Nobody;

impl Observer for Nobody {}

/// A sale of one console, with many orders of it, on one Redis node.
async fn sale(url: &str, redis: &RedisServer) -> Sale {
    let ledger = Ledger::connect_lazy(url, 2).unwrap();
    ledger.migrate().await.unwrap();
    let product = serde_json::json!({"id": "1", "name": "Console", "stock": 1});
    let product: ProductDeclaration = serde_json::from_value(product).unwrap();
    ledger.declare(&product, 1).await.unwrap();
    let insert = format!(
        "WITH RECURSIVE numbers (n) AS \
         (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {ORDERS}) \
         INSERT INTO orders (id, product_id, buyer, quantity, idempotency_key, fence) \
         SELECT 'order-' || n, '1', 'earlier', 1, 'key-' || n, 1 FROM numbers"
    );
    let mut database = SqliteConnection::connect(url).await.unwrap();
    let insert = sqlx::raw_sql(sqlx::AssertSqlSafe(insert));
    insert.execute(&mut database).await.unwrap();

    let node = NodeConfig { address: redis.address(), password: None };
    let nodes = redlock::Config {
        node_timeout: Duration::from_secs(1),
        ..redlock::Config::new(vec![node])
    };
    let redlock = Redlock::start(&nodes).unwrap();
    let policy = Policy { wait_timeout: Duration::from_mins(1), ..Policy::default() };
    let hour = Duration::from_hours(1);
    let config = SaleConfig {
        name: "default".to_owned(),
        lock: LockConfig { nodes, policy },
        window: SaleWindow::default(),
        strategy: Strategy::Locked,
        stores: StoresConfig { compare_every: hour, load_every: hour },
        hold: hour,
    };
    let sale = Sale::new(ledger, redlock, &config, Arc::new(Nobody)).unwrap();
    sale.catalog().refresh().await.unwrap();
    sale
}

#[tokio::test]
async fn of_many_who_wait_for_the_last_unit_nobody_is_told_to_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("sale.db").display());
    let redis = RedisServer::start().unwrap();
    let sale = sale(&url, &redis).await;
    let Engine::Locked(combiner, _) = &sale.engine else { panic!("the database decides") };
    let resource = stock_resource("1");
    let lease = sale.redlock.acquire(&resource, sale.catalog.policy(&resource)).await.unwrap();
    lease.keep_extended();
    let buyers = (0..BUYERS).map(|number| {
        let purchase = Purchase {
            buyer: format!("buyer-{number}"),
            quantity: 1,
            idempotency_key: Some("k".to_owned()),
            limit_key: None,
        };
        sale.purchase("1", purchase)
    });
    let releasing = async {
        while combiner.queued(&resource) < BUYERS {
            tokio::task::yield_now().await;
        }
        sale.redlock.observe_value(&resource, lease.token(), "0");
        lease.release().await;
    };
    let (answers, ()) = tokio::join!(join_all(buyers), releasing);
    for answer in answers {
        assert_eq!(answer, Err(PurchaseError::SoldOut));
    }
}
