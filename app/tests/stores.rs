//! The copies of the stock on the Redis nodes and the database: what makes them differ, and what
//! brings them together again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use redlock::{Config, NodeConfig, Policy, Redlock};
use serde_json::json;

use crate::common::{BOTH, Database, PATIENCE, SaleSpec, TestSale, eventually};

/// Jobs that run often, or never.
fn every(compare: &str, load: &str) -> Vec<(&'static str, String)> {
    vec![("COMPARE_SECONDS", compare.to_owned()), ("LOAD_SECONDS", load.to_owned())]
}

const NEVER: &str = "3600";

/// The sum of a metric over its labels that hold `part`.
async fn metric(sale: &TestSale, name: &str, part: &str) -> u64 {
    let metrics = sale.metrics().await;
    let lines = metrics.lines().filter(|line| line.starts_with(name) && line.contains(part));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

/// One complete run of a job that began after this was called.
async fn await_run(sale: &TestSale, job: &str) {
    let label = format!("job=\"{job}\"");
    let before = metric(sale, "flashsale_store_runs_total", &label).await;
    eventually("the job has run", async || {
        metric(sale, "flashsale_store_runs_total", &label).await >= before + 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_changed_by_hand_is_repaired_on_one_node_and_on_all_and_counted() {
    for database in BOTH {
        let settings = every("0.05", NEVER);
        let sale = TestSale::start(SaleSpec { settings, ..SaleSpec::on(database) }).await;
        assert_eq!(sale.buyer("ann").buy("1", 40, None).await.status, 201);
        sale.await_stock_on_nodes("1", "60").await;

        sale.nodes[3].command("SET stock:1 999").unwrap();
        sale.await_stock_on_nodes("1", "60").await;
        eventually("it is counted", async || {
            metric(&sale, "flashsale_store_repairs_total", "").await >= 1
        })
        .await;
        assert_eq!(metric(&sale, "flashsale_store_drift_total", "\"different\"").await, 1);

        for node in &sale.nodes {
            node.command("SET stock:1 999").unwrap();
        }
        sale.await_stock_on_nodes("1", "60").await;
        // One that claims to be newer than all releases, and one that is gone.
        sale.nodes[0].command("MSET stock:1 999 version:stock:1 1000000").unwrap();
        sale.nodes[1].command("DEL stock:1").unwrap();
        sale.await_stock_on_nodes("1", "60").await;
        assert_eq!(sale.buyer("ann").buy("1", 60, None).await.status, 201, "{database:?}");
        sale.await_stock_on_nodes("1", "0").await;
        assert_eq!(metric(&sale, "flashsale_store_repair_failures_total", "").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn products_that_redis_lacks_are_loaded() {
    let products = json!([
        {"id": "1", "name": "Console", "stock": 100},
        {"id": "2", "name": "Game", "stock": 7},
    ]);
    let spec =
        SaleSpec { products, settings: every(NEVER, "0.05"), ..SaleSpec::on(Database::Sqlite) };
    let sale = TestSale::start(spec).await;
    await_run(&sale, "load").await;
    // A run that began before the last node lost its values would count fewer.
    let policy = Policy { wait_timeout: PATIENCE, ..Policy::default() };
    let between_runs = sale.redlock().await.acquire("stores:load", policy).await.unwrap();
    for node in &sale.nodes {
        node.command("DEL stock:1 version:stock:1 stock:2 version:stock:2").unwrap();
    }
    between_runs.release().await;
    sale.await_stock_on_nodes("1", "100").await;
    sale.await_stock_on_nodes("2", "7").await;
    assert_eq!(metric(&sale, "flashsale_store_drift_total", "\"missing\"").await, 10);

    // A wrong value is the other job's.
    sale.nodes[0].command("SET stock:1 999").unwrap();
    await_run(&sale, "load").await;
    assert_eq!(sale.nodes[0].get("stock:1").unwrap().as_deref(), Some("999"));
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_was_wiped_without_a_replica_is_rebuilt_at_the_start() {
    let spec = SaleSpec { settings: every(NEVER, NEVER), ..SaleSpec::on(Database::Sqlite) };
    let mut sale = TestSale::start(spec).await;
    assert_eq!(sale.buyer("ann").buy("1", 40, None).await.status, 201);
    sale.replicas.pop().unwrap().stop().await;
    for node in &mut sale.nodes {
        node.restart_empty().unwrap();
    }
    sale.add_replica().await;
    sale.await_stock_on_nodes("1", "60").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_while_sales_run_finds_nothing_wrong() {
    for database in BOTH {
        let products = json!([{"id": "1", "name": "Console", "stock": 100_000}]);
        let settings = every("0.02", "0.02");
        let sale =
            TestSale::start(SaleSpec { products, replicas: 3, settings, ..SaleSpec::on(database) })
                .await;
        let runs = async || metric(&sale, "flashsale_store_runs_total", "").await;
        let until = runs().await + 20;
        let sold = AtomicUsize::new(0);
        join_all((0..24).map(|i| {
            let (sale, sold) = (&sale, &sold);
            async move {
                let buyer = sale.buyer(&format!("buyer-{i}"));
                while metric(sale, "flashsale_store_runs_total", "").await < until {
                    assert_eq!(buyer.buy_from(i % 3, "1", 1, None).await.status, 201);
                    sold.fetch_add(1, Ordering::Relaxed);
                }
            }
        }))
        .await;
        for replica in 0..3 {
            let url = format!("{}/metrics", sale.replicas[replica].internal);
            let text = sale.client.get(url).send().await.unwrap().text().await.unwrap();
            let drift = text.lines().filter(|line| line.starts_with("flashsale_store_drift_total"));
            assert!(drift.clone().all(|line| line.ends_with(" 0")), "{database:?} {text}");
        }
        let left = 100_000 - sold.load(Ordering::Relaxed);
        sale.await_stock_on_nodes("1", &left.to_string()).await;
    }
}

/// Sells until nobody gets anything; what is refused for a while is tried again with the same key.
async fn sell_out(sale: &TestSale, buyers: usize, after: usize, wipe: impl AsyncFnOnce()) -> usize {
    let sold = AtomicUsize::new(0);
    let buying = join_all((0..buyers).map(|i| {
        let sold = &sold;
        async move {
            let buyer = sale.buyer(&format!("buyer-{i}"));
            let key = format!("key-{i}");
            let deadline = Instant::now() + PATIENCE;
            loop {
                assert!(Instant::now() < deadline, "{key} is not answered");
                let answer = buyer.buy_from(i % 2, "1", 1, Some(&key)).await;
                match answer.status {
                    201 => break sold.fetch_add(1, Ordering::SeqCst),
                    409 => break 0,
                    423 | 503 => tokio::time::sleep(Duration::from_millis(20)).await,
                    _ => unreachable!("{answer:?}"),
                }
            }
        }
    }));
    let wiping = async {
        eventually("the sale is under way", async || sold.load(Ordering::SeqCst) >= after).await;
        wipe().await;
    };
    tokio::join!(buying, wiping);
    sold.into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_whose_redis_is_wiped_in_the_middle_sells_exactly_its_stock() {
    for (database, order) in [(Database::Postgres, "Unordered"), (Database::Sqlite, "Fair")] {
        let mut settings = every("0.2", "0.2");
        settings.push(("LOCK_ORDER", order.to_owned()));
        // Small batches: the wipe falls between them.
        let spec = SaleSpec { replicas: 2, settings, ..SaleSpec::on(database) };
        let sale = TestSale::start(spec).await;
        let first = sell_out(&sale, 40, 5, async || {
            for node in &sale.nodes {
                node.command("FLUSHALL").unwrap();
            }
        })
        .await;
        assert_eq!(first, 40, "{database:?}");
        sale.await_stock_on_nodes("1", "60").await;
        let rest = sell_out(&sale, 120, 5, async || {
            for node in &sale.nodes {
                node.command("FLUSHALL").unwrap();
            }
        })
        .await;
        // The first forty ask again with their keys, and get the orders that they have.
        assert_eq!(rest, 100, "{database:?}");
        assert_eq!(sale.sold().await[0]["sold"], 100);
        sale.await_stock_on_nodes("1", "0").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_whose_nodes_all_restart_empty_sells_exactly_its_stock() {
    let mut settings = every("0.2", "0.2");
    settings.push(("LOCK_TIMEOUT_SECONDS", "1".to_owned()));
    let spec = SaleSpec { replicas: 2, settings, ..SaleSpec::on(Database::Postgres) };
    let mut sale = TestSale::start(spec).await;
    assert_eq!(sell_out(&sale, 40, 1, async || {}).await, 40);
    let mut nodes = std::mem::take(&mut sale.nodes);
    let rest = sell_out(&sale, 120, 0, async || {
        for node in &mut nodes {
            node.restart_empty().unwrap();
        }
    })
    .await;
    sale.nodes = nodes;
    assert_eq!(rest, 100);
    assert_eq!(sale.sold().await[0]["sold"], 100);
    sale.await_stock_on_nodes("1", "0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_at_a_time_compares_and_notifies_the_others() {
    let spec =
        SaleSpec { replicas: 2, settings: every("0.1", NEVER), ..SaleSpec::on(Database::Sqlite) };
    let sale = TestSale::start(spec).await;
    await_run(&sale, "compare").await;
    let node = |address: String| NodeConfig { address, password: None };
    let nodes = sale.nodes.iter().map(|redis| node(redis.address())).collect();
    let redlock = Redlock::start(&Config::new(nodes)).unwrap();
    eventually("connected", async || redlock.has_quorum()).await;
    let policy = Policy { wait_timeout: Duration::from_secs(20), ..Policy::default() };
    let mut done = redlock.published("stores:compare");
    let lease = redlock.acquire("stores:compare", policy).await.unwrap();
    lease.keep_extended();

    // As long as somebody has the lease, a wrong value stays.
    sale.nodes[0].command("SET stock:1 999").unwrap();
    let timeouts = "outcome=\"timeout\"";
    let before = metric(&sale, "flashsale_lock_acquisitions_total", timeouts).await;
    eventually("it was kept from comparing", async || {
        metric(&sale, "flashsale_lock_acquisitions_total", timeouts).await > before
    })
    .await;
    assert_eq!(sale.nodes[0].get("stock:1").unwrap().as_deref(), Some("999"));
    lease.release().await;
    sale.await_stock_on_nodes("1", "100").await;
    done.changed().await.unwrap();
    assert!(sale.nodes[1].get("stores:compare").unwrap().is_some(), "when it was last done");
}
