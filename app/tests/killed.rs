//! Replicas of `STRATEGY=Atomic`, and the Redis that decides, killed while buyers buy: real processes,
//! SIGKILL.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::Connection;
use testkit::{Link, Postgres, Proxy, Way};

use crate::common::process::Process;
use crate::common::{Database, PATIENCE, SaleSpec, TestSale, eventually};

const BUYERS: usize = 24;
const KILLS: usize = 20;

/// Buys under one key until it is known what became of it; the order.
async fn buy(sale: &TestSale, token: &str, apis: &[String], key: &str) -> Option<String> {
    // Some are asked for again through several restarts.
    let deadline = Instant::now() + 2 * PATIENCE;
    for attempt in 0.. {
        assert!(Instant::now() < deadline, "{key} is not answered");
        let url = format!("http://{}/v1/purchases", apis[attempt % apis.len()]);
        let request = sale.client.post(url).bearer_auth(token).header("Idempotency-Key", key);
        let answer = request.json(&json!({"product_id": "1", "quantity": 1})).send().await;
        // A replica that was killed answers nothing, or half of it.
        let Ok(answer) = answer else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        match answer.status().as_u16() {
            201 => {
                if let Ok(body) = answer.json::<Value>().await {
                    return Some(body["order_id"].as_str().unwrap().to_owned());
                }
            }
            409 => return None,
            503 => {}
            status => unreachable!("{status}"),
        }
    }
    None
}

async fn recorded(url: &str) -> Vec<String> {
    let mut database = sqlx::PgConnection::connect(url).await.unwrap();
    let query = sqlx::query_scalar("SELECT id::TEXT FROM orders");
    query.fetch_all(&mut database).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_and_redis_that_are_killed_lose_nothing_and_record_nothing_twice() {
    let settings = vec![
        ("STRATEGY", "Atomic".to_owned()),
        ("LOCK_TIMEOUT_SECONDS", "1".to_owned()),
        ("DATABASE_MAX_CONNECTIONS", "3".to_owned()),
    ];
    let products = json!([{"id": "1", "name": "Console", "stock": 1_000_000}]);
    let spec =
        SaleSpec { nodes: 1, replicas: 0, products, settings, ..SaleSpec::on(Database::Postgres) };
    let mut sale = TestSale::start(spec).await;
    let mut processes = vec![Process::start(&sale), Process::start(&sale)];
    let apis: Vec<String> = processes.iter().map(|process| process.api.clone()).collect();

    let mut nodes = std::mem::take(&mut sale.nodes);
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let tokens: Vec<String> = (0..BUYERS).map(|i| sale.buyer(&format!("b{i}")).token).collect();
    let buying = join_all(tokens.iter().map(async |token| {
        let mut orders = Vec::new();
        for number in 0.. {
            if over.load(Ordering::Relaxed) {
                break;
            }
            orders.push(buy(&sale, token, &apis, &format!("key-{number}")).await.unwrap());
            answered.fetch_add(1, Ordering::Relaxed);
        }
        orders
    }));
    let killing = async {
        for kill in 0..KILLS {
            // At another moment each time: some answers after the last.
            let until = answered.load(Ordering::Relaxed) + rand::random_range(20..300);
            eventually("buyers buy", async || answered.load(Ordering::Relaxed) >= until).await;
            let killed = &mut processes[kill % 2];
            killed.kill();
            killed.start_again(&sale);
            if kill % 5 == 4 {
                nodes[0].restart().unwrap();
            }
        }
        over.store(true, Ordering::Relaxed);
    };
    let (orders, ()) = tokio::join!(buying, killing);

    let orders: Vec<String> = orders.into_iter().flatten().collect();
    let distinct: HashSet<&String> = orders.iter().collect();
    assert_eq!(distinct.len(), orders.len(), "each key has an order of its own");
    let url = sale.settings()["DATABASE_URL"].clone();
    eventually("all is recorded", async || recorded(&url).await.len() >= orders.len()).await;
    let recorded = recorded(&url).await;
    assert_eq!(recorded.len(), orders.len(), "no more than was answered");
    assert_eq!(recorded.iter().collect::<HashSet<_>>(), distinct);

    drop(processes);
    sale.nodes = nodes;
    sale.add_replica().await;
    sale.await_ready(0).await;
    let left = 1_000_000 - orders.len();
    assert_eq!(sale.sold().await[0]["remaining"], left);
    sale.await_stock_on_nodes("1", &left.to_string()).await;
    // What was recorded by a process that was killed before it said so is seen to be there.
    eventually("the stream is empty", async || {
        sale.nodes[0].command("XLEN orders:1").unwrap().starts_with(":0")
    })
    .await;
    assert_eq!(sale.sold().await[0]["remaining"], left);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_records_the_sales_of_a_killed_one() {
    let settings = vec![("STRATEGY", "Atomic".to_owned())];
    let spec = SaleSpec { nodes: 1, replicas: 0, settings, ..SaleSpec::on(Database::Postgres) };
    let mut sale = TestSale::start(spec).await;
    let url = sale.database_url();
    let address = Postgres::shared().unwrap().address();
    let proxy = Proxy::start(address.clone()).await.unwrap();
    sale.settings.insert("DATABASE_URL", url.replace(&address, proxy.address()));
    let process = Process::start(&sale);
    sale.settings.insert("DATABASE_URL", url.clone());

    let (token, apis) = (sale.buyer("ann").token, [process.api.clone()]);
    buy(&sale, &token, &apis, "before").await.unwrap();
    eventually("the first is recorded", async || recorded(&url).await.len() == 1).await;
    proxy.set(Link::both(Way::Cut));
    let keys: Vec<String> = (0..20).map(|number| format!("key-{number}")).collect();
    let orders = join_all(keys.iter().map(|key| buy(&sale, &token, &apis, key))).await;
    let orders: HashSet<String> = orders.into_iter().flatten().collect();
    assert_eq!(orders.len(), 20);
    drop(process);
    assert_eq!(recorded(&url).await.len(), 1);
    // As if somebody had made the claim of another replica last for ever.
    sale.nodes[0].command("SET recording:1 1").unwrap();

    sale.add_replica().await;
    eventually("the others are recorded", async || recorded(&url).await.len() == 21).await;
    assert!(orders.is_subset(&recorded(&url).await.into_iter().collect()));
    eventually("the stream is empty", async || {
        sale.nodes[0].command("XLEN orders:1").unwrap().starts_with(":0")
    })
    .await;
    assert_eq!(sale.sold().await[0]["remaining"], 79);
}
