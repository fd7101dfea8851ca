//! Purchases while single packets between the app and PostgreSQL are late, split or lost: an order
//! that was answered 201 is there from then on, and the books are right at the end.
//!
//! `cargo xtask test --packet-faults-for 30m` goes on for that long, with other seeds each round.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redis::AsyncConnectionConfig;
use redis::streams::{StreamId, StreamRangeReply};
use serde_json::json;
use sqlx::postgres::{PgPool, PgPoolOptions};
use testkit::{PacketFault, Postgres, Proxy};
use uuid::Uuid;

use crate::common::{Database, PATIENCE, SaleSpec, TestSale, eventually};

/// Rounds go on for this number of seconds: set by `cargo xtask test --packet-faults-for`.
const SECONDS: &str = "PACKET_FAULTS_SECONDS";
/// The first round's seed, to play it again.
const SEED: &str = "PACKET_FAULTS_SEED";

/// Of both products together at a time.
const BUYERS: u64 = 12;
const STOCK: i64 = 1_000_000;
const MAX_PER_BUYER: i64 = 2;
/// More than a buyer may have of the limited product.
const PURCHASES_OF_A_BUYER: u64 = 3;

#[derive(Debug, Clone, Copy)]
struct Kind {
    strategy: &'static str,
    limited: bool,
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_with_limits() {
    play(Kind { strategy: "Locked", limited: true }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_without_limits() {
    play(Kind { strategy: "Locked", limited: false }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn atomic_with_limits() {
    play(Kind { strategy: "Atomic", limited: true }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn atomic_without_limits() {
    play(Kind { strategy: "Atomic", limited: false }).await;
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Rounds with a short and a long lease, until the time is over.
async fn play(kind: Kind) {
    let end = Instant::now() + Duration::from_secs(setting(SECONDS).unwrap_or(0));
    let mut seed = setting(SEED).unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    loop {
        for (lease, length) in [(1, Duration::from_secs(8)), (5, Duration::from_secs(12))] {
            Round { kind, seed, lease }.play(length).await;
        }
        seed += 1;
        if Instant::now() >= end {
            return;
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Round {
    kind: Kind,
    seed: u64,
    /// In seconds.
    lease: u64,
}

/// What buyers were told, and what is in the database.
struct Books {
    round: Round,
    sale: TestSale,
    database: PgPool,
    answered: Mutex<Vec<Uuid>>,
    refused: AtomicU64,
}

impl Round {
    async fn play(self, length: Duration) {
        let postgres = Postgres::shared().unwrap();
        let url = postgres.new_database().unwrap();
        let armed = Arc::new(AtomicBool::new(false));
        let proxy = Proxy::start_with(postgres.address(), self.faults(&armed)).await.unwrap();
        let books = Books {
            round: self,
            sale: self.sale(url.replace(&postgres.address(), proxy.address())).await,
            database: PgPoolOptions::new().max_connections(4).connect(&url).await.unwrap(),
            answered: Mutex::default(),
            refused: AtomicU64::new(0),
        };
        armed.store(true, Ordering::Relaxed);
        let end = Instant::now() + length;
        let buyers = join_all((0..BUYERS).map(|buyer| books.buy_until(buyer, end)));
        tokio::join!(buyers, books.stay_until(end));
        armed.store(false, Ordering::Relaxed);
        books.check_the_end().await;
        let (answered, refused) = (books.ids().len(), books.refused.load(Ordering::Relaxed));
        eprintln!("{self:?}: {answered} answered with an order, {refused} otherwise");
        assert!(answered > 0, "{self:?}: nothing was sold");
    }

    /// Most packets pass, and some are as late as it takes to end a lease.
    fn faults(
        self,
        armed: &Arc<AtomicBool>,
    ) -> impl Fn(testkit::Packet<'_>) -> PacketFault + Send + Sync + 'static {
        let (armed, random) = (Arc::clone(armed), Mutex::new(StdRng::seed_from_u64(self.seed)));
        let lease = self.lease * 1_000;
        move |_| {
            if !armed.load(Ordering::Relaxed) {
                return PacketFault::None;
            }
            let mut random = random.lock().unwrap_or_else(PoisonError::into_inner);
            let mut up_to = |from, to| Duration::from_millis(random.random_range(from..to));
            match up_to(0, 1_000).as_millis() {
                0..8 => PacketFault::Delay(up_to(lease, lease * 13 / 10)),
                8..20 => PacketFault::Delay(up_to(0, 300)),
                20..28 => PacketFault::Split(up_to(0, 300)),
                28..30 => PacketFault::Stall,
                30..33 => PacketFault::Close,
                _ => PacketFault::None,
            }
        }
    }

    async fn sale(self, database_url: String) -> TestSale {
        let limit = self.kind.limited.then_some(MAX_PER_BUYER);
        let products = json!([
            {"id": "limited", "name": "Console", "stock": STOCK, "max_per_buyer": limit},
            {"id": "plain", "name": "Game", "stock": STOCK},
        ]);
        let settings = vec![
            ("DATABASE_URL", database_url),
            ("STRATEGY", self.kind.strategy.to_owned()),
            ("LOCK_TIMEOUT_SECONDS", self.lease.to_string()),
            ("LOCK_WAIT_SECONDS", "2".to_owned()),
        ];
        let nodes = if self.kind.strategy == "Atomic" { 1 } else { 5 };
        let spec = SaleSpec {
            nodes,
            replicas: 2,
            products,
            settings,
            // Its address is that of the proxy.
            ..SaleSpec::on(Database::Sqlite)
        };
        TestSale::start(spec).await
    }
}

impl Books {
    fn ids(&self) -> Vec<Uuid> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Buys one product after the other, some under a key, some of those twice.
    async fn buy_until(&self, buyer: u64, end: Instant) {
        let mut random = StdRng::seed_from_u64(self.round.seed ^ (buyer << 32));
        for number in 0.. {
            if Instant::now() >= end {
                return;
            }
            let product = if random.random_bool(0.5) { "limited" } else { "plain" };
            let name = format!("buyer-{buyer}-{}", number / PURCHASES_OF_A_BUYER);
            let key = random.random_bool(0.5).then(|| format!("key-{number}"));
            let replica = random.random_range(0..2);
            let times = if key.is_some() && random.random_bool(0.4) { 2 } else { 1 };
            for _ in 0..times {
                let buyer = self.sale.buyer(&name);
                let answer = buyer.buy_from(replica, product, 1, key.as_deref()).await;
                if matches!(answer.status, 200 | 201) {
                    let order = answer.body["order_id"].as_str().unwrap().parse().unwrap();
                    self.must_have(order).await;
                    self.answered.lock().unwrap_or_else(PoisonError::into_inner).push(order);
                } else {
                    assert_ne!(answer.status, 500, "{answer:?}");
                    self.refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    async fn recorded(&self, ids: &[Uuid]) -> HashSet<Uuid> {
        let found: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM orders WHERE id = ANY($1)")
            .bind(ids)
            .fetch_all(&self.database)
            .await
            .unwrap();
        found.into_iter().collect()
    }

    /// Where Redis decides, an order is in its product's stream until it is in the database.
    async fn must_have(&self, order: Uuid) {
        let recorded = async || self.recorded(&[order]).await.contains(&order);
        let there = recorded().await
            || (self.round.kind.strategy == "Atomic"
                && (self.in_a_stream(order).await || recorded().await));
        assert!(there, "{:?}: order {order} was answered and is not there", self.round);
    }

    async fn in_a_stream(&self, order: Uuid) -> bool {
        let url = format!("redis://{}", self.sale.nodes[0].address());
        let client = redis::Client::open(url).unwrap();
        // The stream is long while the database is away, and the machine may be busy.
        let patient = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let mut connection =
            client.get_multiplexed_async_connection_with_config(&patient).await.unwrap();
        let mut entries = Vec::new();
        for product in ["limited", "plain"] {
            let mut range = redis::cmd("XRANGE");
            range.arg(format!("orders:{product}")).arg(&["-", "+"]);
            let range: StreamRangeReply = range.query_async(&mut connection).await.unwrap();
            entries.extend(range.ids);
        }
        let of = |entry: &StreamId| entry.get::<String>("orders").unwrap();
        entries.iter().any(|entry| of(entry).contains(&order.to_string()))
    }

    /// What was recorded once stays so.
    async fn stay_until(&self, end: Instant) {
        let mut there = HashSet::new();
        while Instant::now() < end {
            let now = self.recorded(&self.ids()).await;
            let gone: Vec<_> = there.difference(&now).collect();
            assert!(gone.is_empty(), "{:?}: {gone:?} were there and are gone", self.round);
            there = now;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn check_the_end(&self) {
        let round = self.round;
        // A transaction that was given up ends within this time, and a stream is recorded.
        let answered: HashSet<Uuid> = self.ids().into_iter().collect();
        eventually("every order that was answered is in the database", async || {
            answered.is_subset(&self.recorded(&self.ids()).await)
        })
        .await;
        let in_order: Vec<(String, i64, i64)> = sqlx::query_as(
            "SELECT s.product_id, s.available, (SELECT coalesce(sum(quantity), 0)::BIGINT \
             FROM orders o WHERE o.product_id = s.product_id) FROM stock s",
        )
        .fetch_all(&self.database)
        .await
        .unwrap();
        for (product, available, sold) in in_order {
            assert_eq!(available + sold, STOCK, "{round:?}: {product}");
        }
        let most: Option<i64> = sqlx::query_scalar(
            "SELECT max(units)::BIGINT FROM (SELECT sum(quantity) AS units FROM orders \
             WHERE product_id = 'limited' GROUP BY buyer) AS bought",
        )
        .fetch_one(&self.database)
        .await
        .unwrap();
        let limit = if round.kind.limited { MAX_PER_BUYER } else { i64::MAX };
        assert!(most.unwrap_or(0) <= limit, "{round:?}: a buyer has {most:?}");
    }
}
