//! A sale of its own for each test: Redis processes, a database, replicas of the app on free
//! ports, and a client.

pub mod answer;
pub mod certificates;
pub mod database;
pub mod documented;
pub mod process;
pub mod repeated;

pub use answer::Answer;
pub use database::execute;
use database::query;

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flashsale_app::config::{SeedConfig, ServeConfig};
use flashsale_app::{auth, seed, serve};
use ledger::Ledger;
use redlock::{Lease, Policy, QueueDiscipline, Redlock};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Fsync, Postgres, RedisServer, User};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What the operator sends to read the report of the sale.
pub const OPERATOR_TOKEN: &str = "the operator's token, thirty-two bytes or more";

pub const JWT_SECRET: &str = "a key of the tests, thirty-two bytes or more";

/// What has not come about by then will not.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Which database a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    Postgres,
    Sqlite,
}

pub const BOTH: [Database; 2] = [Database::Postgres, Database::Sqlite];

/// Databases and strategies.
pub const ALL_STORES: [(Database, &str); 4] = [
    (Database::Postgres, "Locked"),
    (Database::Sqlite, "Locked"),
    (Database::Postgres, "Atomic"),
    (Database::Sqlite, "Atomic"),
];

/// What a sale is made of; change what a test is about.
pub struct SaleSpec {
    pub database: Database,
    pub nodes: usize,
    pub replicas: usize,
    pub products: Value,
    pub settings: Vec<(&'static str, String)>,
    /// How the app logs in to Redis; without one as the default user.
    pub user: Option<User>,
    /// The claim by which the sale limits buyers.
    pub limit_claim: Option<&'static str>,
}

impl SaleSpec {
    pub fn on(database: Database) -> Self {
        let products = json!([{"id": "1", "name": "Console", "stock": 100}]);
        Self {
            database,
            nodes: 5,
            replicas: 1,
            products,
            settings: Vec::new(),
            user: None,
            limit_claim: None,
        }
    }
}

pub struct Replica {
    pub api: String,
    pub internal: String,
    shutdown: CancellationToken,
    pub task: JoinHandle<anyhow::Result<()>>,
}

impl Replica {
    /// As a signal does.
    pub fn end(&self) {
        self.shutdown.cancel();
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

pub struct TestSale {
    pub nodes: Vec<RedisServer>,
    pub replicas: Vec<Replica>,
    pub client: Client,
    pub settings: HashMap<&'static str, String>,
    pub limit_claim: Option<&'static str>,
    folder: TempDir,
    _postgres: Option<Arc<Postgres>>,
}

impl TestSale {
    pub async fn start(spec: SaleSpec) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (postgres, database_url) = match spec.database {
            Database::Sqlite => {
                (None, format!("sqlite://{}", folder.path().join("sale.db").display()))
            }
            Database::Postgres => {
                let postgres = Postgres::shared().unwrap();
                let url = postgres.new_database().unwrap();
                (Some(postgres), url)
            }
        };
        let atomic = ("STRATEGY", "Atomic".to_owned());
        let fsync =
            if spec.settings.contains(&atomic) { Fsync::Always } else { Fsync::EverySecond };
        let start = |_| match spec.user {
            Some(user) => RedisServer::start_with_user(fsync, user).unwrap(),
            None => RedisServer::start_with(fsync).unwrap(),
        };
        let nodes: Vec<RedisServer> = (0..spec.nodes).map(start).collect();
        let address = |node: &RedisServer| match spec.user {
            Some(user) => format!("redis://{}@{}", user.name, node.address()),
            None => node.address(),
        };
        let addresses: Vec<String> = nodes.iter().map(address).collect();
        let mut settings = HashMap::from([
            ("DATABASE_URL", database_url),
            ("REDIS_NODES", addresses.join(",")),
            ("JWT_SECRET", JWT_SECRET.to_owned()),
            ("OPERATOR_TOKEN", OPERATOR_TOKEN.to_owned()),
            ("CATALOG_FILE", folder.path().join("catalog.json").display().to_string()),
            ("LOCK_WAIT_SECONDS", "10".to_owned()),
            ("LOCK_NODE_TIMEOUT_SECONDS", "0.3".to_owned()),
            // Tests have no clients that a replica must wait for; `ending.rs` has.
            ("HTTP_DRAIN_SECONDS", "0".to_owned()),
        ]);
        settings.extend(spec.settings);
        // Longer than any wait for a lock, and than a test follows events.
        let client = Client::builder().timeout(Duration::from_mins(3)).build().unwrap();
        let mut sale = Self {
            nodes,
            replicas: Vec::new(),
            client,
            settings,
            limit_claim: spec.limit_claim,
            folder,
            _postgres: postgres,
        };
        if spec.products.as_array().is_some_and(|products| !products.is_empty()) {
            sale.seed(&spec.products).await.unwrap();
        }
        for _ in 0..spec.replicas {
            sale.add_replica().await;
            sale.await_ready(sale.replicas.len() - 1).await;
        }
        sale
    }

    /// For processes that serve this sale too.
    pub fn settings(&self) -> &HashMap<&'static str, String> {
        &self.settings
    }

    /// Where `CATALOG_FILE` is.
    pub fn write_catalog(&self, products: &Value) {
        let mut catalog = json!({ "products": products });
        if let Some(claim) = self.limit_claim {
            catalog["limit_claim"] = claim.into();
        }
        std::fs::write(self.folder.path().join("catalog.json"), catalog.to_string()).unwrap();
    }

    pub async fn seed(&self, products: &Value) -> anyhow::Result<()> {
        self.write_catalog(products);
        let config = SeedConfig::from_variables(|name| self.settings.get(name).cloned());
        seed::run(&config.unwrap()).await
    }

    fn serve_config(&self) -> ServeConfig {
        ServeConfig::from_variables(|name| self.settings.get(name).cloned()).unwrap()
    }

    /// Starts one more replica, without waiting for it.
    pub async fn add_replica(&mut self) {
        let config = self.serve_config();
        let api = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let internal = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shutdown = CancellationToken::new();
        self.replicas.push(Replica {
            api: format!("http://{}", api.local_addr().unwrap()),
            internal: format!("http://{}", internal.local_addr().unwrap()),
            task: tokio::spawn(serve::run(config, api, internal, shutdown.clone())),
            shutdown,
        });
    }

    pub async fn readiness(&self, replica: usize) -> (StatusCode, Value) {
        let url = format!("{}/readyz", self.replicas[replica].internal);
        let response = self.client.get(url).send().await.unwrap();
        (response.status(), response.json().await.unwrap())
    }

    pub async fn await_ready(&self, replica: usize) {
        eventually("the replica is ready", async || {
            self.readiness(replica).await.0 == StatusCode::OK
        })
        .await;
    }

    pub fn buyer(&self, name: &str) -> Buyer<'_> {
        let (token, _) = auth::Tokens::new(JWT_SECRET).sign(name, auth::Role::Buyer).unwrap();
        Buyer { sale: self, token }
    }

    /// A buyer whose token has these claims beside `sub` and `exp`, signed by the shop with the sale's key.
    pub fn buyer_with(&self, name: &str, claims: &Value) -> Buyer<'_> {
        let mut all = json!({"sub": name, "exp": 4_000_000_000_i64});
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        let key = jsonwebtoken::EncodingKey::from_secret(JWT_SECRET.as_bytes());
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &all, &key).unwrap();
        Buyer { sale: self, token }
    }

    pub fn admin(&self, name: &str) -> Buyer<'_> {
        let (token, _) = auth::Tokens::new(JWT_SECRET).sign(name, auth::Role::Admin).unwrap();
        Buyer { sale: self, token }
    }

    pub fn database_url(&self) -> String {
        self.settings["DATABASE_URL"].clone()
    }

    /// Makes the holds of all orders end now. Returns how many lines of orders that are.
    pub async fn end_all_holds(&self) -> u64 {
        self.execute("UPDATE orders SET expires_at_ms = 1 WHERE state = 'pending'").await
    }

    /// Executes statements in the sale's database. Returns how many rows changed.
    pub async fn execute(&self, statements: &str) -> u64 {
        execute(&self.database_url(), statements).await.unwrap()
    }

    /// The first column of what a statement reads, as text.
    pub async fn query(&self, statement: &str) -> Vec<Option<String>> {
        query(&self.database_url(), statement).await.unwrap()
    }

    /// The sale's own database.
    pub fn ledger(&self) -> Ledger {
        Ledger::connect_lazy(&self.database_url(), 4).unwrap()
    }

    /// One more client of the sale's nodes.
    pub async fn redlock(&self) -> Redlock {
        let config = self.serve_config();
        let redlock = Redlock::start(&config.sale.lock.nodes).unwrap();
        eventually("the client is connected", async || {
            redlock.connected().0 == config.sale.lock.nodes.nodes.len()
        })
        .await;
        redlock
    }

    /// Takes this lock with another client, and keeps it until it is released.
    pub async fn block(&self, resource: &str) -> Lease {
        let policy = Policy {
            wait_timeout: Duration::from_secs(20),
            lease_time: Duration::from_secs(2),
            discipline: QueueDiscipline::Unordered,
        };
        let lease = self.redlock().await.acquire(resource, policy).await.unwrap();
        lease.keep_extended();
        lease
    }

    /// What `/sale` tells the operator.
    pub async fn report(&self) -> Value {
        let url = format!("{}/sale", self.replicas[0].internal);
        let request = self.client.get(url).bearer_auth(OPERATOR_TOKEN);
        request.send().await.unwrap().json().await.unwrap()
    }

    pub async fn sold(&self) -> Value {
        self.report().await["products"].clone()
    }

    pub async fn metrics(&self) -> String {
        self.metrics_of(0).await
    }

    pub async fn metrics_of(&self, replica: usize) -> String {
        let url = format!("{}/metrics", self.replicas[replica].internal);
        self.client.get(url).send().await.unwrap().text().await.unwrap()
    }

    /// Waits until every node has this stock.
    pub async fn await_stock_on_nodes(&self, product: &str, stock: &str) {
        let key = format!("stock:{product}");
        eventually("all nodes have the stock", async || {
            self.nodes.iter().all(|node| node.get(&key).unwrap().as_deref() == Some(stock))
        })
        .await;
    }
}

pub struct Buyer<'a> {
    sale: &'a TestSale,
    pub token: String,
}

impl Buyer<'_> {
    pub fn request(&self, replica: usize, method: &str, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.sale.replicas[replica].api);
        self.sale.client.request(method.parse().unwrap(), url).bearer_auth(&self.token)
    }

    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let request = self.request(0, method, path);
        let request = if let Some(body) = body { request.json(body) } else { request };
        Answer::of(request.send().await.unwrap()).await
    }

    pub async fn buy(&self, product: &str, quantity: i64, key: Option<&str>) -> Answer {
        self.buy_from(0, product, quantity, key).await
    }

    pub async fn buy_from(
        &self,
        replica: usize,
        product: &str,
        quantity: i64,
        key: Option<&str>,
    ) -> Answer {
        let body = json!({"product_id": product, "quantity": quantity});
        let mut request = self.request(replica, "POST", "/v1/purchases").json(&body);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        Answer::of(request.send().await.unwrap()).await
    }

    pub async fn send(
        &self,
        replica: usize,
        (method, path): (&str, &str),
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Answer {
        let mut request = self.request(replica, method, path);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        Answer::of(request.send().await.unwrap()).await
    }

    pub async fn cancel(&self, replica: usize, order: &str) -> Answer {
        self.send(replica, ("POST", &format!("/v1/orders/{order}/cancel")), None, None).await
    }

    pub async fn stock(&self, product: &str) -> Value {
        let request = self.request(0, "GET", &format!("/v1/products/{product}/stock"));
        Answer::of(request.send().await.unwrap()).await.body["remaining"].clone()
    }
}

/// The value of a metric (its name with its labels) among those of a replica, if it is there.
pub fn value<T: FromStr>(metrics: &str, name: &str) -> Option<T> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// Waits until something is so; the deadline is generous because it only bounds a failure.
pub async fn eventually(what: &str, so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so().await {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
