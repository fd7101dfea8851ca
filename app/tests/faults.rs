//! Parts that are away, at start and in the middle of a sale; late holders; seeding.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use ledger::{Decision, Demand, Ledger, LedgerError, ProductChange, ProductDeclaration, Purchase};
use serde_json::json;
use sqlx::Connection;
use testkit::{Postgres, Proxy};

use crate::common::{BOTH, Database, SaleSpec, TestSale, eventually, value};

#[tokio::test]
async fn two_nodes_may_stop_and_with_three_every_purchase_fails_cleanly() {
    let spec = SaleSpec {
        settings: vec![("LOCK_WAIT_SECONDS", "3".to_owned())],
        ..SaleSpec::on(Database::Sqlite)
    };
    let mut sale = TestSale::start(spec).await;
    for node in 0..2 {
        sale.nodes[node].kill().unwrap();
        assert_eq!(sale.buyer("ann").buy("1", 1, None).await.status, 201);
    }
    sale.nodes[2].kill().unwrap();
    let answer = sale.buyer("ann").buy("1", 1, None).await;
    assert_eq!(answer.problem(), (503, "quorum_unavailable"));
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(sale.sold().await[0]["sold"], 2);
    // The jobs that compare the stores ask for locks too, so it may be more than one.
    let name = r#"flashsale_lock_acquisitions_total{outcome="quorum_unavailable"}"#;
    let metrics = sale.metrics().await;
    let lost: Option<u64> = value(&metrics, name);
    assert!(lost.is_some_and(|lost| lost >= 1), "{metrics}");

    sale.nodes[2].restart().unwrap();
    eventually("it sells again", async || sale.buyer("ann").buy("1", 1, None).await.status == 201)
        .await;
}

#[tokio::test]
async fn nodes_that_all_lost_their_data_do_not_turn_the_sale_back() {
    for database in BOTH {
        let mut sale = TestSale::start(SaleSpec::on(database)).await;
        assert_eq!(sale.buyer("ann").buy("1", 60, None).await.status, 201);
        for node in &mut sale.nodes {
            node.restart_empty().unwrap();
        }
        eventually("it sells again", async || {
            sale.buyer("ann").buy("1", 40, Some("k")).await.status == 201
        })
        .await;
        let answer = sale.buyer("bob").buy("1", 1, None).await;
        assert_eq!(answer.problem(), (409, "sold_out"), "{database:?}");
        assert_eq!(sale.sold().await[0]["sold"], 100);
        sale.await_stock_on_nodes("1", "0").await;
    }
}

#[tokio::test]
async fn a_replica_without_nodes_or_tables_is_unready_and_says_why() {
    let mut sale =
        TestSale::start(SaleSpec { replicas: 0, ..SaleSpec::on(Database::Sqlite) }).await;
    for node in &mut sale.nodes[..3] {
        node.kill().unwrap();
    }
    sale.add_replica().await;
    eventually("it says why", async || {
        let (status, body) = sale.readiness(0).await;
        status == 503 && body["reasons"] == json!(["redis: 2 of 5 nodes connected, no quorum"])
    })
    .await;
    sale.nodes[0].restart().unwrap();
    sale.await_ready(0).await;
    sale.replicas.pop().unwrap().stop().await;
}

#[tokio::test]
async fn a_database_that_is_away_at_start_is_waited_for() {
    let away = format!("postgres://postgres@127.0.0.1:{}/sale", testkit::free_port().unwrap());
    let spec = SaleSpec {
        nodes: 1,
        replicas: 0,
        products: json!([]),
        settings: vec![("DATABASE_URL", away)],
        ..SaleSpec::on(Database::Sqlite)
    };
    let mut sale = TestSale::start(spec).await;
    sale.add_replica().await;
    eventually("it says why", async || {
        let (status, body) = sale.readiness(0).await;
        status == 503 && body["reasons"][0].as_str().is_some_and(|why| why.starts_with("database:"))
    })
    .await;
}

#[tokio::test]
async fn seeding_again_changes_nothing_and_a_raised_stock_adds_the_difference() {
    for database in BOTH {
        let sale = TestSale::start(SaleSpec::on(database)).await;
        let stock = |stock: i64| json!([{"id": "1", "name": "Console", "stock": stock}]);
        let buyer = sale.buyer("ann");
        assert_eq!(buyer.buy("1", 100, None).await.status, 201);
        sale.seed(&stock(100)).await.unwrap();
        assert_eq!(buyer.buy("1", 1, None).await.problem(), (409, "sold_out"));
        sale.seed(&stock(103)).await.unwrap();
        sale.await_stock_on_nodes("1", "3").await;
        eventually("buyers see it", async || buyer.stock("1").await == 3).await;
        assert_eq!(buyer.buy("1", 3, None).await.status, 201);
        let error = sale.seed(&stock(102)).await.unwrap_err();
        assert!(format!("{error:#}").contains("cannot be lowered"), "{database:?} {error:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_crossed_over_two_products_fail_nobody() {
    for (ledger, _keep) in ledgers().await {
        let purchase = |key: i32| Purchase {
            buyer: "ann".to_owned(),
            quantity: 1,
            idempotency_key: Some(key.to_string()),
            limit_key: None,
        };
        for round in 0..20 {
            let forth: Vec<Purchase> = (round * 50..round * 50 + 50).map(purchase).collect();
            let back: Vec<Purchase> = forth.iter().rev().cloned().collect();
            let (forth, back): (Vec<_>, Vec<_>) = (forth.iter().collect(), back.iter().collect());
            let token = i64::from(round) + 10;
            let (one, two) =
                tokio::join!(sell(&ledger, "1", token, &forth), sell(&ledger, "2", token, &back));
            assert_eq!((one.unwrap().outcomes.len(), two.unwrap().outcomes.len()), (50, 50));
        }
        let orders =
            2000 - ledger.products().await.unwrap().iter().map(|p| p.available).sum::<i64>();
        assert_eq!(orders, 1000, "one order for each key");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_vanished_without_a_word_is_left_for_its_successor() {
    let postgres = Postgres::shared().unwrap();
    let (proxy, ledger, _url) = ledger_behind_a_proxy(&postgres, 4).await;

    proxy.stall_connections();
    let purchase =
        Purchase { buyer: "ann".to_owned(), quantity: 1, idempotency_key: None, limit_key: None };
    let limit = Duration::from_millis(100);
    let asked = [&purchase];
    let hanging =
        (2..6).map(|token| tokio::time::timeout(limit, sell(&ledger, "1", token, &asked)));
    futures::future::join_all(hanging).await;
    eventually("it sells over new connections", async || {
        sell(&ledger, "1", 10, &[&purchase]).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_froze_in_the_middle_of_a_sale_does_not_keep_the_row() {
    let postgres = Postgres::shared().unwrap();
    let (proxy, frozen, url) = ledger_behind_a_proxy(&postgres, 1).await;
    let purchase =
        Purchase { buyer: "ann".to_owned(), quantity: 1, idempotency_key: None, limit_key: None };

    // It waits for the row, in its transaction, when it is cut off; then it gets the row. A sale is
    // a statement of its own, so it changes the product.
    let mut holder = sqlx::PgConnection::connect(&url).await.unwrap();
    let lock = "BEGIN; SELECT * FROM stock WHERE product_id = '1' FOR UPDATE";
    sqlx::raw_sql(lock).execute(&mut holder).await.unwrap();
    let changing = tokio::spawn(async move { frozen.declare(&product("1", 20), 3).await });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                   AND datname = current_database()";
    eventually("it waits for the row", async || {
        let mut watcher = sqlx::PgConnection::connect(&url).await.unwrap();
        sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut watcher).await.unwrap() == 1
    })
    .await;
    proxy.stall_connections();
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();

    let other = Ledger::connect_lazy(&url, 1).unwrap();
    eventually("another replica sells", async || sell(&other, "1", 4, &[&purchase]).await.is_ok())
        .await;
    changing.abort();
    assert_eq!(other.products().await.unwrap()[0].available, 9, "nothing of the change is there");
}

async fn sell(
    ledger: &Ledger,
    product_id: &str,
    token: i64,
    purchases: &[&Purchase],
) -> Result<Decision, LedgerError> {
    let demand = Demand { product_id, token, purchases: purchases.to_vec() };
    ledger.sell(&[demand]).await.and_then(|decisions| decisions.into_iter().next().unwrap())
}

/// With ten units of product 1, and the database's own address.
async fn ledger_behind_a_proxy(postgres: &Postgres, connections: u32) -> (Proxy, Ledger, String) {
    let url = postgres.new_database().unwrap();
    let proxy = Proxy::start(postgres.address()).await.unwrap();
    let proxied = url.replace(&postgres.address(), proxy.address());
    let ledger = Ledger::connect_lazy(&proxied, connections).unwrap();
    ledger.migrate().await.unwrap();
    ledger.declare(&product("1", 10), 1).await.unwrap();
    (proxy, ledger, url)
}

fn product(id: &str, stock: i64) -> ProductDeclaration {
    ProductDeclaration {
        id: id.to_owned(),
        name: "Console".to_owned(),
        stock,
        max_per_buyer: None,
        wait_timeout_ms: None,
        lease_time_ms: None,
        hold_seconds: None,
        price: None,
    }
}

async fn ledgers() -> Vec<(Ledger, Box<dyn std::any::Any>)> {
    let postgres = Postgres::shared().unwrap();
    let url = postgres.new_database().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite://{}", folder.path().join("sale.db").display());
    let made: [(String, Box<dyn std::any::Any>); 2] =
        [(url, Box::new(postgres)), (file, Box::new(folder))];
    let mut ledgers = Vec::new();
    for (url, keep) in made {
        let ledger = Ledger::connect_lazy(&url, 8).unwrap();
        ledger.migrate().await.unwrap();
        ledger.declare(&product("1", 1000), 1).await.unwrap();
        ledger.declare(&product("2", 1000), 1).await.unwrap();
        ledgers.push((ledger, keep));
    }
    ledgers
}

#[tokio::test]
async fn the_ledger_sells_no_deleted_product() {
    for (ledger, _keep) in ledgers().await {
        let purchase = Purchase {
            buyer: "ann".to_owned(),
            quantity: 1,
            idempotency_key: None,
            limit_key: None,
        };
        let delete = ProductChange::Delete { id: "1".to_owned() };
        sell(&ledger, "1", 5, &[&purchase]).await.unwrap();
        let late = ledger.change(&delete, 5).await.unwrap_err();
        assert!(matches!(late, LedgerError::StaleToken { seen: 5, .. }), "{late}");
        assert_eq!(ledger.change(&delete, 6).await.unwrap(), None);
        let refused = sell(&ledger, "1", 7, &[&purchase]).await.unwrap_err();
        assert!(matches!(refused, LedgerError::UnknownProduct(_)), "{refused}");
        assert_eq!(ledger.deleted_products().await.unwrap(), [("1".to_owned(), 6)]);
        let again = ledger.change(&ProductChange::Create(product("1", 3)), 8).await.unwrap();
        let again = again.unwrap();
        assert_eq!((again.declared, again.available), (4, 3), "one is sold, three are for sale");
    }
}

#[tokio::test]
async fn a_late_holder_is_refused_by_the_ledger() {
    for (ledger, _keep) in ledgers().await {
        let purchase = Purchase {
            buyer: "ann".to_owned(),
            quantity: 1,
            idempotency_key: None,
            limit_key: None,
        };
        let sold = sell(&ledger, "1", 7, &[&purchase]).await.unwrap();
        assert_eq!(sold.available, 999);
        for token in [6, 7] {
            let late = sell(&ledger, "1", token, &[&purchase]).await;
            assert!(matches!(late, Err(LedgerError::StaleToken { seen: 7, .. })), "{late:?}");
        }
        assert_eq!(ledger.products().await.unwrap()[0].available, 999);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_alone_never_oversells() {
    for (ledger, _keep) in ledgers().await {
        let most = Purchase {
            buyer: "bob".to_owned(),
            quantity: 990,
            idempotency_key: None,
            limit_key: None,
        };
        sell(&ledger, "1", 2, &[&most]).await.unwrap();
        let token = Arc::new(AtomicI64::new(2));
        let sales = (0..40).map(|i| {
            let (ledger, token) = (ledger.clone(), Arc::clone(&token));
            tokio::spawn(async move {
                let purchase = Purchase {
                    buyer: format!("buyer-{i}"),
                    quantity: 1,
                    idempotency_key: None,
                    limit_key: None,
                };
                loop {
                    let token = token.fetch_add(1, Ordering::SeqCst) + 1;
                    match sell(&ledger, "1", token, &[&purchase]).await {
                        Err(LedgerError::StaleToken { .. }) => {}
                        decided => return decided.unwrap().outcomes,
                    }
                }
            })
        });
        let outcomes = futures::future::join_all(sales).await;
        let sold = outcomes
            .iter()
            .flat_map(|outcomes| outcomes.as_ref().unwrap())
            .filter(|outcome| matches!(outcome, ledger::Outcome::Sold(_)))
            .count();
        assert_eq!((sold, ledger.products().await.unwrap()[0].available), (10, 0));
    }
}
