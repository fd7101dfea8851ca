//! `STRATEGY=Atomic`: the Redis that decides is killed again and again while buyers buy, pay and cancel, until everything
//! is sold. Exactly the stock is sold, and each order that was answered has its events, in their order; there are no
//! other orders and no other events.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::future::join_all;
use serde_json::json;
use testkit::RedisServer;
use tokio::task::spawn_blocking;

use crate::common::database::{await_delivered, states};
use crate::common::repeated::until_answered;
use crate::common::{Database, PATIENCE, SaleSpec, TestSale, eventually};
use crate::receiver::{Receiver, Reply, TAKEN};

const BUYERS: usize = 16;
const STOCK: usize = 300;

/// An order that is to be paid or cancelled.
struct Change {
    order: String,
    buyer: usize,
    /// What it is then.
    state: &'static str,
}

/// The buyers, and what they were told.
struct Buyers<'a> {
    sale: &'a TestSale,
    tokens: Vec<String>,
    admin: String,
    /// The kinds of events of each order.
    orders: Mutex<HashMap<String, Vec<&'static str>>>,
    /// Orders that nobody cancels.
    kept: AtomicUsize,
    /// Answers to purchases that were made, to payments and to cancellations.
    answered: AtomicUsize,
}

impl<'a> Buyers<'a> {
    fn of(sale: &'a TestSale) -> Self {
        Self {
            sale,
            tokens: (0..BUYERS).map(|buyer| sale.buyer(&format!("b{buyer}")).token).collect(),
            admin: sale.admin("shop").token,
            orders: Mutex::default(),
            kept: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
        }
    }

    /// A path at all replicas. Half of the buyers ask the one first, half the other.
    fn urls(&self, buyer: usize, path: &str) -> Vec<String> {
        let replicas = self.sale.replicas.iter();
        let mut urls: Vec<String> =
            replicas.map(|replica| format!("{}{path}", replica.api)).collect();
        urls.rotate_left(buyer % 2);
        urls
    }

    /// For good: no unit comes back.
    fn is_sold_out(&self) -> bool {
        self.kept.load(Ordering::Relaxed) >= STOCK
    }

    /// Buys one unit after the other.
    async fn buy(&self, buyer: usize, changes: &UnboundedSender<Change>) {
        let (token, urls) = (&self.tokens[buyer], self.urls(buyer, "/v1/purchases"));
        let deadline = Instant::now() + 2 * PATIENCE;
        let mut bought = 0;
        while !self.is_sold_out() {
            assert!(Instant::now() < deadline, "units are missing: not all can be sold");
            let (key, body) = (format!("key-{bought}"), json!({"product_id": "1"}));
            let answer = until_answered(self.sale, token, &urls, &key, &body).await;
            if let Some(order) = answer["order_id"].as_str() {
                self.note(order, buyer, changes);
                bought += 1;
            } else {
                // Until a cancelled unit is back. The key stays: it may be of an order whose answer was lost.
                assert_eq!(answer["code"], "sold_out", "{answer}");
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        }
    }

    /// Notes a new order. A quarter is paid, a quarter is cancelled.
    fn note(&self, order: &str, buyer: usize, changes: &UnboundedSender<Change>) {
        let later = match rand::random_range(0..4) {
            0 => Some("paid"),
            1 => Some("cancelled"),
            _ => None,
        };
        let kinds = ["confirmed"].into_iter().chain(later).collect();
        let before = self.orders.lock().unwrap().insert(order.to_owned(), kinds);
        assert!(before.is_none(), "{order} was sold twice");
        if later != Some("cancelled") {
            self.kept.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(state) = later {
            let change = Change { order: order.to_owned(), buyer, state };
            changes.unbounded_send(change).unwrap();
        }
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    async fn change(&self, Change { order, buyer, state }: Change) {
        let (token, path, body) = if state == "paid" {
            (&self.admin, "payment", json!({"result": "paid", "reference": "p1"}))
        } else {
            (&self.tokens[buyer], "cancel", json!(null))
        };
        let urls = self.urls(buyer, &format!("/v1/orders/{order}/{path}"));
        let answer = until_answered(self.sale, token, &urls, path, &body).await;
        assert_eq!(answer["state"], state, "{answer}");
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// Kills Redis and starts it again, at another moment each time, until everything is sold. Returns how often.
    async fn kill(&self, mut node: RedisServer) -> (RedisServer, usize) {
        let answered = || self.answered.load(Ordering::Relaxed);
        let mut kills = 0;
        loop {
            let until = answered() + rand::random_range(15..50);
            let goes_on = async || self.is_sold_out() || answered() >= until;
            eventually("buyers go on", goes_on).await;
            if self.is_sold_out() {
                return (node, kills);
            }
            // Buyers ask meanwhile.
            let restarted = spawn_blocking(move || {
                node.restart().unwrap();
                node
            });
            node = restarted.await.unwrap();
            kills += 1;
        }
    }
}

async fn sale(receiver: &Receiver) -> TestSale {
    let mut settings = receiver.settings();
    settings.extend([
        ("STRATEGY", "Atomic".to_owned()),
        // A cancellation takes the lock, which a node that was started again gives nobody for as long as a lease.
        ("LOCK_TIMEOUT_SECONDS", "0.7".to_owned()),
        ("LOCK_WAIT_SECONDS", "1".to_owned()),
    ]);
    let products = json!([{"id": "1", "name": "Console", "stock": STOCK}]);
    let on = SaleSpec::on(Database::Postgres);
    TestSale::start(SaleSpec { nodes: 1, replicas: 2, products, settings, ..on }).await
}

/// Nobody can buy one more unit, all sales are in the database, and both stores have no unit left.
async fn assert_all_sold(sale: &TestSale) {
    let late = sale.buyer("late");
    eventually("a late buyer is refused", async || {
        let answer = late.buy("1", 1, None).await;
        assert_ne!(answer.status, 201, "more than the stock is sold");
        answer.problem() == (409, "sold_out")
    })
    .await;
    let redis = |command: &str| sale.nodes[0].command(command).unwrap();
    // What was recorded when Redis was killed stays in the stream until it is found there twice.
    eventually("all is recorded", async || redis("XLEN orders:1") == ":0\r\n").await;
    assert_eq!(redis("XLEN orders-refused:1"), ":0\r\n");
    assert_eq!(redis("HGET sale:1 available"), "$1\r\n0\r\n");
    sale.await_stock_on_nodes("1", "0").await;
    let left = sale.query("SELECT CAST(available AS TEXT) FROM stock").await;
    assert_eq!(left, [Some("0".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_killed_until_all_is_sold_and_each_order_has_its_events_in_order() {
    let receiver = Receiver::start().await;
    let mut sale = sale(&receiver).await;
    // One event of ten is not taken at first: the later one of its order has to wait.
    receiver.answer(|_| if rand::random_range(0..10) == 0 { Reply::Status(500) } else { TAKEN });
    let node = sale.nodes.pop().unwrap();
    let buyers = Buyers::of(&sale);
    let (changes, to_change) = unbounded();
    let buying = async {
        join_all((0..BUYERS).map(|buyer| buyers.buy(buyer, &changes))).await;
        changes.close_channel();
    };
    let changing = to_change.for_each_concurrent(None, |change| buyers.change(change));
    let ((), (), (node, kills)) = tokio::join!(buying, changing, buyers.kill(node));
    let orders = buyers.orders.into_inner().unwrap();
    sale.nodes.push(node);
    receiver.answer(|_| TAKEN);

    assert!(kills >= 3, "Redis was killed {kills} times only");
    assert_all_sold(&sale).await;
    let url = sale.database_url();
    let recorded = states(&url).await;
    assert_eq!(recorded.len(), orders.len(), "each order was answered, and is in the database");
    for (order, kinds) in &orders {
        assert_eq!(recorded.get(order).map(String::as_str), kinds.last().copied(), "{order}");
    }
    let sold = recorded.values().filter(|state| *state != "cancelled").count();
    assert_eq!(sold, STOCK);
    await_delivered(&url, "webhook").await;
    receiver.assert_chains(&orders);
}
