//! The Redis nodes of the lock change during the sale, at the operator's request.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flashsale_app::auth;
use reqwest::Client;
use serde_json::json;
use testkit::RedisServer;
use tokio::task::JoinHandle;

use crate::common::{
    Answer, Database, JWT_SECRET, OPERATOR_TOKEN, PATIENCE, SaleSpec, TestSale, eventually, value,
};

const STOCK: i64 = 100_000;
/// The only refusals that a buyer may get meanwhile. Each says that the same request may be repeated.
const MAY_BE_REPEATED: [&str; 3] = ["lock_timeout", "quorum_unavailable", "overloaded"];

fn spec(database: Database, nodes: usize) -> SaleSpec {
    SaleSpec {
        nodes,
        replicas: 3,
        products: json!([{"id": "1", "name": "Console", "stock": STOCK}]),
        settings: vec![
            ("LOCK_TIMEOUT_SECONDS", "1".to_owned()),
            ("LOCK_WAIT_SECONDS", "2".to_owned()),
            ("LOCK_NODE_TIMEOUT_SECONDS", "0.3".to_owned()),
        ],
        ..SaleSpec::on(database)
    }
}

fn addresses(nodes: &[RedisServer]) -> Vec<String> {
    nodes.iter().map(RedisServer::address).collect()
}

/// One request, as the operator sends it.
async fn request(sale: &TestSale, replica: usize, nodes: &[String]) -> Answer {
    let url = format!("{}/redis-nodes", sale.replicas[replica].internal);
    let request = sale.client.put(url).bearer_auth(OPERATOR_TOKEN);
    Answer::of(request.json(&json!({ "nodes": nodes })).send().await.unwrap()).await
}

/// Repeats the request, each time at another replica, until these are the nodes.
async fn change(sale: &TestSale, nodes: &[RedisServer]) {
    let nodes = addresses(nodes);
    let turn = std::cell::Cell::new(0);
    eventually("the nodes have changed", async || {
        turn.set(turn.get() + 1);
        let answer = request(sale, turn.get() % sale.replicas.len(), &nodes).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["done"] == true
    })
    .await;
    eventually("the report says so", async || {
        sale.report().await["redis"] == json!({ "nodes": nodes, "joining": [] })
    })
    .await;
}

/// Buyers who repeat a refused purchase under its key and buy on until they are stopped.
struct Crowd {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    orders: BTreeMap<String, String>,
    refused: BTreeMap<String, usize>,
    longest_pause: Duration,
    last_sale: Option<Instant>,
}

impl Crowd {
    fn start(sale: &TestSale, buyers: usize) -> Self {
        let mut crowd = Self { stop: Arc::default(), seen: Arc::default(), tasks: Vec::new() };
        for buyer in 0..buyers {
            let replica = &sale.replicas[buyer % sale.replicas.len()];
            let url = format!("{}/v1/purchases", replica.api);
            let (client, stop) = (sale.client.clone(), Arc::clone(&crowd.stop));
            let seen = Arc::clone(&crowd.seen);
            let name = format!("buyer{buyer}");
            crowd.tasks.push(tokio::spawn(buy_on(client, url, name, stop, seen)));
        }
        crowd
    }

    fn sold(&self) -> usize {
        self.seen.lock().unwrap().orders.len()
    }

    async fn buys(&self) {
        let before = self.sold();
        eventually("they buy", async || self.sold() > before + 20).await;
    }

    async fn end(self) -> Seen {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

async fn buy_on(
    client: Client,
    url: String,
    name: String,
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
) {
    let (token, _) = auth::Tokens::new(JWT_SECRET).sign(&name, auth::Role::Buyer).unwrap();
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        let key = format!("{name}-{number}");
        let request = client.post(&url).bearer_auth(&token).header("Idempotency-Key", &key);
        let body = json!({"product_id": "1", "quantity": 1});
        let answer = Answer::of(request.json(&body).send().await.unwrap()).await;
        let mut seen = seen.lock().unwrap();
        if answer.status == 201 {
            seen.orders.insert(key, answer.order().to_owned());
            let now = Instant::now();
            let pause = seen.last_sale.map(|last| now - last).unwrap_or_default();
            seen.longest_pause = seen.longest_pause.max(pause);
            seen.last_sale = Some(now);
            number += 1;
        } else {
            let (_, code) = answer.problem();
            assert!(MAY_BE_REPEATED.contains(&code), "{answer:?}");
            *seen.refused.entry(code.to_owned()).or_default() += 1;
        }
    }
}

/// Every answered order exists, no other one does, and the rest of the stock is for sale.
async fn settle(sale: &TestSale, crowd: Crowd) {
    let Seen { orders, refused, longest_pause, .. } = crowd.end().await;
    let sold = i64::try_from(orders.len()).unwrap();
    println!("{sold} sold, refused {refused:?}, longest pause {longest_pause:?}");
    assert!(longest_pause < PATIENCE, "{longest_pause:?}");
    let ids: std::collections::BTreeSet<&String> = orders.values().collect();
    assert_eq!(ids.len(), orders.len(), "each key has an order of its own");
    eventually("as many are recorded as were answered", async || {
        sale.sold().await[0]["sold"] == sold
    })
    .await;
    let mut rest = STOCK - sold;
    while rest > 0 {
        let units = rest.min(1000);
        assert_eq!(sale.buyer("last").buy("1", units, None).await.status, 201);
        rest -= units;
    }
    assert_eq!(sale.buyer("last").buy("1", 1, None).await.problem(), (409, "sold_out"));
    assert_eq!(sale.sold().await[0]["sold"], STOCK);
}

async fn lock_nodes(sale: &TestSale, replica: usize) -> String {
    let metrics = sale.metrics_of(replica).await;
    let nodes = |name| value::<String>(&metrics, name).unwrap();
    format!("{}/{}", nodes("flashsale_lock_nodes_voting"), nodes("flashsale_lock_nodes"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_goes_from_one_node_to_five_and_back_while_buyers_buy() {
    let mut sale = TestSale::start(spec(Database::Postgres, 1)).await;
    let crowd = Crowd::start(&sale, 9);
    crowd.buys().await;
    sale.nodes.extend(RedisServer::start_many(4).unwrap());
    change(&sale, &sale.nodes).await;
    crowd.buys().await;
    assert!(sale.nodes[4].get("stock:1").unwrap().is_some(), "the stock is carried over");
    for replica in 0..3 {
        eventually("five vote", async || lock_nodes(&sale, replica).await == "5/5").await;
    }

    // Its configuration still names the first node only, as between two steps of the operator.
    sale.add_replica().await;
    sale.await_ready(3).await;
    eventually("it finds all five", async || lock_nodes(&sale, 3).await == "5/5").await;

    // The quorum is that of five now.
    sale.nodes[0].kill().unwrap();
    sale.nodes[1].kill().unwrap();
    crowd.buys().await;
    sale.nodes[0].restart_empty().unwrap();
    sale.nodes[1].restart().unwrap();
    eventually("all vote again", async || lock_nodes(&sale, 0).await == "5/5").await;

    let removed = sale.nodes.split_off(1);
    change(&sale, &sale.nodes).await;
    drop(removed);
    crowd.buys().await;
    for replica in 0..4 {
        eventually("one votes", async || lock_nodes(&sale, replica).await == "1/1").await;
    }
    settle(&sale, crowd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_replaced_by_one_of_another_address_while_another_loses_its_data() {
    let mut sale = TestSale::start(spec(Database::Postgres, 5)).await;
    let crowd = Crowd::start(&sale, 9);
    crowd.buys().await;
    let replaced = std::mem::replace(&mut sale.nodes[2], RedisServer::start().unwrap());
    drop(replaced);
    let wanted = addresses(&sale.nodes);
    let answer = request(&sale, 0, &wanted).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    // In the middle of the change, or after it: both must be right.
    sale.nodes[4].restart_empty().unwrap();
    change(&sale, &sale.nodes).await;
    crowd.buys().await;
    for replica in 0..3 {
        eventually("five vote", async || lock_nodes(&sale, replica).await == "5/5").await;
    }
    settle(&sale, crowd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_replica_died_is_completed_by_another_even_if_it_is_no_longer_wanted() {
    let mut sale = TestSale::start(spec(Database::Sqlite, 1)).await;
    let more = RedisServer::start_many(4).unwrap();
    let mut wanted = addresses(&sale.nodes);
    wanted.extend(addresses(&more));
    // Answered before the end or not, the change goes on.
    let asked = tokio::spawn({
        let (client, url) = (sale.client.clone(), sale.replicas[2].internal.clone());
        let body = json!({ "nodes": wanted });
        async move {
            let request = client.put(format!("{url}/redis-nodes")).bearer_auth(OPERATOR_TOKEN);
            let _ = request.json(&body).send().await;
        }
    });
    eventually("the change is in progress", async || {
        sale.report().await["redis"]["joining"] == json!(wanted)
    })
    .await;
    asked.abort();
    sale.replicas[2].task.abort();
    sale.replicas.pop();

    change(&sale, &sale.nodes).await;
    drop(more);
    assert_eq!(sale.buyer("ann").buy("1", 1, None).await.status, 201);
}

/// The change takes longer than a request, and each request reaches another replica.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_are_asked_in_turn_do_not_restart_each_others_change() {
    let mut spec = spec(Database::Sqlite, 1);
    spec.settings.push(("LOCK_TIMEOUT_SECONDS", "4".to_owned()));
    let mut sale = TestSale::start(spec).await;
    sale.nodes.extend(RedisServer::start_many(4).unwrap());
    change(&sale, &sale.nodes).await;
    assert_eq!(sale.buyer("ann").buy("1", 1, None).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_one_node_decides_it_stays_and_the_sale_goes_on() {
    let mut spec = spec(Database::Sqlite, 1);
    spec.settings.push(("STRATEGY", "Atomic".to_owned()));
    spec.settings.push(("USE_REDLOCK", "false".to_owned()));
    let mut sale = TestSale::start(spec).await;
    eventually("it sells", async || sale.buyer("ann").buy("1", 1, None).await.status == 201).await;
    let crowd = Crowd::start(&sale, 6);
    crowd.buys().await;
    let other = RedisServer::start_many(1).unwrap();
    let answer = request(&sale, 0, &addresses(&other)).await;
    assert_eq!(answer.problem(), (422, "invalid_request"));
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(detail.contains("strategy Atomic keeps its node"), "{detail}");
    let lock = sale.report().await["redis"].clone();
    assert_eq!(lock, json!({ "nodes": addresses(&sale.nodes), "joining": [] }));
    crowd.buys().await;
    let sold = crowd.end().await.orders.len() + 1;
    sale.nodes[0].restart().unwrap();
    eventually("all are recorded", async || sale.sold().await[0]["sold"] == sold).await;
}

#[tokio::test]
async fn only_the_operator_changes_the_nodes_and_to_nothing_impossible() {
    let sale = TestSale::start(spec(Database::Sqlite, 1)).await;
    let url = format!("{}/redis-nodes", sale.replicas[0].internal);
    let here = addresses(&sale.nodes);
    for token in ["", "another", JWT_SECRET] {
        let request = sale.client.put(&url).bearer_auth(token).json(&json!({ "nodes": here }));
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!(answer.problem(), (401, "unauthenticated"), "{token:?}");
    }
    let answer = request(&sale, 0, &[]).await;
    assert_eq!(answer.problem(), (422, "invalid_request"));
    let many: Vec<String> = (0..10).map(|n| format!("127.0.0.1:{}", 2000 + n)).collect();
    assert_eq!(request(&sale, 0, &many).await.problem(), (422, "invalid_request"));
    let answer = request(&sale, 0, &["not an address".to_owned()]).await;
    assert!(answer.body["error"].is_string(), "{answer:?}");
    assert_eq!(answer.body["done"], false);
    let answer = request(&sale, 0, &here).await;
    assert_eq!((&answer.body["done"], &answer.body["nodes"]), (&json!(true), &json!(here)));
    // A future node that does not answer changes nothing.
    let away = format!("127.0.0.1:{}", testkit::free_port().unwrap());
    let answer = request(&sale, 0, std::slice::from_ref(&away)).await;
    assert_eq!(answer.body["done"], false, "{answer:?}");
    assert_eq!(sale.report().await["redis"], json!({ "nodes": here, "joining": [] }));
    assert_eq!(sale.buyer("ann").buy("1", 1, None).await.status, 201);
}
