//! A sale without its operator: Redis nodes, PostgreSQL and replicas, each a real process.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use jsonwebtoken::{EncodingKey, Header};
use reqwest::Client;
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use testkit::{Postgres, RedisServer};

use crate::exposition::Exposition;
use crate::programs;
use crate::stripe;
use crate::wait::eventually;

/// The namespace of the sale.
pub const NAMESPACE: &str = "shop";
/// The name of the sale.
pub const SALE: &str = "black-friday";
/// What the operator sends to read the report of the sale.
pub(crate) const OPERATOR_TOKEN: &str = "the operator's token, thirty-two bytes or more";
const JWT_SECRET: &str = "a key of the tests, thirty-two bytes or more";
const DATABASE: &str = "sale";
/// How long a replica may take to become ready.
const READY: Duration = Duration::from_mins(1);

/// A sale of two products: `1` lasts, `2` sells out.
pub struct Shop {
    /// The Redis nodes.
    pub nodes: Vec<RedisServer>,
    /// The replicas.
    pub replicas: Vec<Replica>,
    /// For requests to them.
    pub http: Client,
    settings: Vec<(&'static str, String)>,
    database_url: String,
    maintenance_url: String,
    folder: TempDir,
    _postgres: Postgres,
}

/// A replica, on the ports of its pod and a loopback address of its own. It ends when dropped.
#[derive(Debug)]
pub struct Replica {
    child: Child,
    /// Its loopback address.
    pub host: String,
    command: Vec<(&'static str, String)>,
    log: std::path::PathBuf,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    role: &'a str,
    exp: u64,
}

impl Shop {
    /// Starts five nodes and the database, seeds the products, and starts replicas.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn open(replicas: usize) -> Result<Self> {
        let postgres = Postgres::start()?;
        let database_url = postgres.create_database(DATABASE)?;
        let nodes = RedisServer::start_many(5)?;
        let folder = tempfile::tempdir()?;
        let catalog = folder.path().join("catalog.json");
        std::fs::write(&catalog, json!({ "products": products() }).to_string())?;
        let webhook_secret = folder.path().join("stripe-webhook-secret");
        std::fs::write(&webhook_secret, stripe::SECRET)?;
        let addresses: Vec<String> = nodes.iter().map(RedisServer::address).collect();
        let settings = vec![
            ("DATABASE_URL", database_url.clone()),
            ("REDIS_NODES", addresses.join(",")),
            ("SALE_NAME", SALE.to_owned()),
            ("JWT_SECRET", JWT_SECRET.to_owned()),
            ("OPERATOR_TOKEN", OPERATOR_TOKEN.to_owned()),
            ("CATALOG_FILE", catalog.display().to_string()),
            ("STRIPE_WEBHOOK_FILE", webhook_secret.display().to_string()),
            ("COMPARE_SECONDS", "1".to_owned()),
            ("LOCK_WAIT_SECONDS", "1".to_owned()),
            ("LOCK_TIMEOUT_SECONDS", "2".to_owned()),
            ("LOCK_NODE_TIMEOUT_SECONDS", "0.3".to_owned()),
            ("RUST_LOG", "warn".to_owned()),
        ];
        let http = Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        let maintenance_url = database_url.replace(&format!("/{DATABASE}"), "/postgres");
        let mut shop = Self {
            nodes,
            replicas: Vec::new(),
            http,
            settings,
            database_url,
            maintenance_url,
            folder,
            _postgres: postgres,
        };
        let mut seed = shop.app("seed")?;
        let output =
            seed.envs([("ADMIN_ID", "admin"), ("ADMIN_PASSWORD", "a password")]).output()?;
        ensure!(output.status.success(), "seed: {}", String::from_utf8_lossy(&output.stderr));
        for _ in 0..replicas {
            shop.add_replica(&[])?;
        }
        for replica in &shop.replicas {
            shop.await_ready(replica).await?;
        }
        Ok(shop)
    }

    fn app(&self, subcommand: &str) -> Result<Command> {
        let mut app = Command::new(programs::built("flashsale-app")?);
        app.arg(subcommand).stdin(Stdio::null());
        app.envs(self.settings.iter().map(|(name, value)| (name, value)));
        Ok(app)
    }

    /// Starts one more replica with these settings, without waiting for it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn add_replica(&mut self, settings: &[(&'static str, String)]) -> Result<()> {
        let host = own_address()?;
        let mut command = [&self.settings, settings].concat();
        command.push(("LISTEN", format!("{host}:8080")));
        command.push(("METRICS_LISTEN", format!("{host}:9090")));
        let log = self.folder.path().join(format!("{host}.log"));
        let child = Replica::spawn(&command, &log)?;
        self.replicas.push(Replica { child, host, command, log });
        Ok(())
    }

    /// Waits until a replica is ready.
    ///
    /// # Errors
    /// When it is not.
    pub async fn await_ready(&self, replica: &Replica) -> Result<()> {
        let url = format!("http://{}/readyz", replica.internal());
        let ready = eventually("the replica is ready", READY, async || {
            Ok(self.http.get(&url).send().await?.error_for_status()?)
        });
        let log = || std::fs::read_to_string(&replica.log).unwrap_or_default();
        ready.await.map(drop).with_context(log)
    }

    /// The text of `/metrics`.
    ///
    /// # Errors
    /// When the replica does not answer.
    pub async fn metrics(&self, replica: &Replica) -> Result<String> {
        let url = format!("http://{}/metrics", replica.internal());
        Ok(self.http.get(url).send().await?.error_for_status()?.text().await?)
    }

    /// What `/metrics` serves.
    ///
    /// # Errors
    /// When the replica does not answer.
    pub async fn exposition(&self, replica: &Replica) -> Result<Exposition> {
        Ok(Exposition::read(&self.metrics(replica).await?))
    }

    /// Sends a request as a buyer or an administrator (`role`).
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn call(
        &self,
        (name, role): (&str, &str),
        method: &str,
        path: &str,
        body: Value,
    ) -> Result<(u16, Value)> {
        let url = format!("{}{path}", self.replicas[0].api());
        let request = self.http.request(method.parse()?, url).bearer_auth(token(name, role)?);
        let answer = request.json(&body).send().await?;
        Ok((answer.status().as_u16(), answer.json().await.unwrap_or_default()))
    }

    /// Places an order of one unit, which holds it until it is paid, and returns its id.
    ///
    /// # Errors
    /// When the order is refused.
    pub async fn place(&self, buyer: &str, product: &str) -> Result<String> {
        let items = json!({ "items": [{ "product_id": product }] });
        let placed = self.call((buyer, "buyer"), "POST", "/v1/orders", items).await?;
        let id = placed.1["order_id"].as_str().with_context(|| format!("{placed:?}"))?;
        Ok(id.to_owned())
    }

    /// The only value that a query of the sale's database returns.
    ///
    /// # Errors
    /// When the database refuses the query.
    pub async fn number(&self, query: &'static str) -> Result<i64> {
        let mut connection = PgConnection::connect(&self.database_url).await?;
        let number = sqlx::query_scalar(query).fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(number)
    }

    /// Executes statements in the sale's database.
    ///
    /// # Errors
    /// When the database refuses one.
    pub async fn sql(&self, statements: &'static str) -> Result<()> {
        execute(&self.database_url, statements).await
    }

    /// Closes the database: its connections end, and it takes no others. Or opens it again.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn set_database_open(&self, open: bool) -> Result<()> {
        // One after the other: a connection that ends before the first is committed is made anew.
        let statements: &[&'static str] = if open {
            &["ALTER DATABASE sale ALLOW_CONNECTIONS true"]
        } else {
            &[
                "ALTER DATABASE sale ALLOW_CONNECTIONS false",
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'sale'",
            ]
        };
        for statement in statements {
            execute(&self.maintenance_url, statement).await?;
        }
        Ok(())
    }
}

impl Replica {
    fn spawn(settings: &[(&'static str, String)], log: &std::path::Path) -> Result<Child> {
        let mut app = Command::new(programs::built("flashsale-app")?);
        app.arg("serve").envs(settings.iter().map(|(name, value)| (name, value)));
        let file = File::create(log)?;
        let spawned = app.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn();
        spawned.context("cannot start a replica")
    }

    /// Such as `http://127.42.7.77:8080`.
    #[must_use]
    pub fn api(&self) -> String {
        format!("http://{}:8080", self.host)
    }

    /// Address of metrics and probes.
    #[must_use]
    pub fn internal(&self) -> String {
        format!("{}:9090", self.host)
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts a killed replica again.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_again(&mut self) -> Result<()> {
        self.child = Self::spawn(&self.command, &self.log)?;
        Ok(())
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // Nothing can be done about a process that is gone already.
        let _ = self.kill();
    }
}

/// What is sold: the first lasts as long as the tests, the second does not.
pub(crate) fn products() -> Value {
    json!([
        { "id": "1", "name": "Console", "stock": 50_000 },
        { "id": "2", "name": "Limited", "stock": 50 },
    ])
}

/// A token as a log-in gives one.
pub(crate) fn token(sub: &str, role: &str) -> Result<String> {
    let exp = SystemTime::UNIX_EPOCH.elapsed()?.as_secs() + 3600;
    let key = EncodingKey::from_secret(JWT_SECRET.as_bytes());
    Ok(jsonwebtoken::encode(&Header::default(), &Claims { sub, role, exp }, &key)?)
}

/// A loopback address that no other process of the tests has: made from a reserved port.
fn own_address() -> Result<String> {
    let [high, low] = testkit::free_port()?.to_be_bytes();
    Ok(format!("127.{high}.{low}.77"))
}

async fn execute(url: &str, statements: &'static str) -> Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql(statements).execute(&mut connection).await?;
    Ok(connection.close().await?)
}
