//! A small fake sale with a real Redis and a real database, which can cheat.
#![allow(clippy::allow_attributes, dead_code, reason = "each test file uses its part of this")]

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use flashsale_load::config::{MetricsSource, Pods, Settings, TimingTargets};
use flashsale_load::scenario::Scenario;
use flashsale_load::verdict::Report;
use flashsale_load::{ConfigError, run};
use serde_json::{Value, json};
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnectOptions;
use tempfile::TempDir;
use testkit::RedisServer;
use tokio::sync::{MutexGuard, watch};

pub const STOCK: i64 = 10;
pub const SCENARIO: &str = "
name: small
description: 30 users on 10 items
users: 30
quantity: 1
stock: 10
nodes: 1
pause_seconds: {min: 0.001, max: 0.01}
max_tries: 5
answer_timeout_seconds: 10
deadline_seconds: 20
targets: {quorum_success_percent: 100}
";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    Honest,
    /// Records the order, then answers 500 the first time.
    LosesAnswers,
    SellsOneTooMany,
    AnswersWithoutRecording,
    RecordsTwice,
    ForgetsTheNodes,
    /// Answers no purchase.
    KeepsSilent,
}

struct Fake {
    behaviour: Behaviour,
    remaining: i64,
    /// By idempotency key.
    orders: HashMap<String, (String, String)>,
}

#[derive(Clone)]
struct Shop {
    fake: Arc<tokio::sync::Mutex<Fake>>,
    /// Nothing is decided while this number of units is left.
    held_at: watch::Sender<Option<i64>>,
    database: SqlitePool,
    redis: redis::aio::MultiplexedConnection,
    batches: Arc<Mutex<u32>>,
}

async fn stock(State(shop): State<Shop>, Path(_product): Path<String>) -> Json<Value> {
    Json(json!({"product_id": "1", "remaining": shop.fake.lock().await.remaining}))
}

async fn metrics(State(shop): State<Shop>) -> String {
    let batches = *shop.batches.lock().unwrap();
    format!(
        "# TYPE flashsale_lock_acquisitions_total counter\n\
         flashsale_lock_acquisitions_total{{outcome=\"acquired\"}} {batches}\n"
    )
}

async fn purchase(State(shop): State<Shop>, headers: HeaderMap) -> (StatusCode, Json<Value>) {
    let buyer = subject(&headers);
    let key = headers["Idempotency-Key"].to_str().unwrap().to_owned();
    let mut fake = shop.turn().await;
    *shop.batches.lock().unwrap() += 1;
    if fake.behaviour == Behaviour::KeepsSilent {
        drop(fake);
        return std::future::pending().await;
    }
    if let Some((order, owner)) = fake.orders.get(&key) {
        assert_eq!(*owner, buyer);
        return (StatusCode::CREATED, created(order));
    }
    let floor = if fake.behaviour == Behaviour::SellsOneTooMany { -1 } else { 0 };
    if fake.remaining <= floor {
        return (StatusCode::CONFLICT, Json(json!({"code": "sold_out"})));
    }
    fake.remaining -= 1;
    let last = fake.remaining == floor;
    let order = uuid::Uuid::new_v4().to_string();
    fake.orders.insert(key, (order.clone(), buyer.clone()));
    if !(last && fake.behaviour == Behaviour::AnswersWithoutRecording) {
        shop.record(&order, &buyer, fake.remaining).await;
    }
    if last && fake.behaviour == Behaviour::RecordsTwice {
        shop.record(&uuid::Uuid::new_v4().to_string(), &buyer, fake.remaining).await;
    }
    if fake.behaviour != Behaviour::ForgetsTheNodes {
        shop.copy_to_node(fake.remaining).await;
    }
    if fake.behaviour == Behaviour::LosesAnswers {
        return (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({"code": "internal"})));
    }
    (StatusCode::CREATED, created(&order))
}

fn created(order: &str) -> Json<Value> {
    Json(json!({"order_id": order, "product_id": "1", "quantity": 1, "remaining": 0}))
}

/// The token's subject; the signature is not verified.
fn subject(headers: &HeaderMap) -> String {
    #[derive(serde::Deserialize)]
    struct Claims {
        sub: String,
    }
    let token = headers["Authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap();
    jsonwebtoken::dangerous::insecure_decode::<Claims>(token).unwrap().claims.sub
}

impl Shop {
    /// Waits until purchases are decided.
    async fn turn(&self) -> MutexGuard<'_, Fake> {
        let mut held_at = self.held_at.subscribe();
        loop {
            let fake = self.fake.lock().await;
            if *held_at.borrow_and_update() != Some(fake.remaining) {
                return fake;
            }
            drop(fake);
            held_at.changed().await.unwrap();
        }
    }

    async fn record(&self, order: &str, buyer: &str, remaining: i64) {
        sqlx::query("INSERT INTO orders VALUES ($1, '1', $2, 1, 'confirmed')")
            .bind(order)
            .bind(buyer)
            .execute(&self.database)
            .await
            .unwrap();
        self.set_stock(remaining).await;
    }

    async fn set_stock(&self, remaining: i64) {
        sqlx::query("UPDATE stock SET available = $1")
            .bind(remaining)
            .execute(&self.database)
            .await
            .unwrap();
    }

    async fn copy_to_node(&self, remaining: i64) {
        let mut redis = self.redis.clone();
        let set = redis::cmd("SET").arg("stock:1").arg(remaining).to_owned();
        set.query_async::<()>(&mut redis).await.unwrap();
    }
}

/// A fake sale that listens, and the settings to load it.
pub struct Sale {
    pub settings: Settings,
    pub redis: RedisServer,
    shop: Shop,
    _folder: TempDir,
}

impl Sale {
    pub async fn start(behaviour: Behaviour) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut scenario = tempfile::NamedTempFile::new().unwrap();
        scenario.write_all(SCENARIO.as_bytes()).unwrap();

        let path = folder.path().join("sale.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let database = SqlitePool::connect_with(options).await.unwrap();
        for statement in [
            "CREATE TABLE stock (product_id TEXT, declared INTEGER, available INTEGER)",
            "CREATE TABLE orders (id TEXT, product_id TEXT, buyer TEXT, quantity INTEGER, state TEXT)",
            "INSERT INTO stock VALUES ('1', 10, 10)",
        ] {
            sqlx::query(statement).execute(&database).await.unwrap();
        }

        let redis = RedisServer::start().unwrap();
        let client = redis::Client::open(format!("redis://{}", redis.address())).unwrap();
        // On a busy machine an answer may take longer than the client's half a second.
        let patient =
            redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(20)));
        let mut connection =
            client.get_multiplexed_async_connection_with_config(&patient).await.unwrap();
        let set = redis::cmd("SET").arg("stock:1").arg(STOCK).to_owned();
        set.query_async::<()>(&mut connection).await.unwrap();

        let fake = Fake { behaviour, remaining: STOCK, orders: HashMap::new() };
        let shop = Shop {
            fake: Arc::new(tokio::sync::Mutex::new(fake)),
            held_at: watch::Sender::new(None),
            database,
            redis: connection,
            batches: Arc::default(),
        };
        let router = Router::new()
            .route("/v1/products/{id}/stock", get(stock))
            .route("/v1/purchases", post(purchase))
            .route("/metrics", get(metrics))
            .with_state(shop.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async { axum::serve(listener, router).await });

        let settings = Settings {
            scenario: Scenario::from_file(scenario.path()).unwrap(),
            sale_urls: vec![format!("http://{address}")],
            sale_ca_file: None,
            metrics: MetricsSource::Host(address.to_string()),
            redis_nodes: vec![redis.address()],
            redis_password: None,
            redis_ca_file: None,
            database_ca_file: None,
            database_url: format!("sqlite://{}", path.display()),
            jwt_secret: "0123456789abcdef0123456789abcdef".to_owned(),
            product_id: "1".to_owned(),
            timing_targets: TimingTargets::Report,
            wait: Duration::ZERO,
            pods: Pods::alone(),
        };
        Self { settings, redis, shop, _folder: folder }
    }

    /// The next purchase leaves `left` units, and those behind it wait while `meanwhile` runs.
    pub async fn while_others_wait(&self, left: i64, meanwhile: impl Future<Output = ()>) {
        self.shop.held_at.send_replace(Some(left));
        while self.redis.get("stock:1").unwrap() != Some(left.to_string()) {
            tokio::task::yield_now().await;
        }
        meanwhile.await;
        self.shop.held_at.send_replace(None);
    }

    /// Changes the database behind the back of everybody.
    pub async fn sql(&self, statement: &'static str) {
        sqlx::query(statement).execute(&self.shop.database).await.unwrap();
    }

    /// The purchases that were asked for.
    pub fn requests(&self) -> u32 {
        *self.shop.batches.lock().unwrap()
    }

    /// The hold of this order ends: its unit is for sale again.
    pub async fn expire(&self, order: &str) {
        let mut fake = self.shop.fake.lock().await;
        fake.remaining += 1;
        sqlx::query("UPDATE orders SET state = 'expired' WHERE id = $1")
            .bind(order)
            .execute(&self.shop.database)
            .await
            .unwrap();
        self.shop.set_stock(fake.remaining).await;
        self.shop.copy_to_node(fake.remaining).await;
    }

    pub async fn load(&self) -> Result<Report, ConfigError> {
        run(&self.settings).await
    }
}
