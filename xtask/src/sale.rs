//! A replica of the app with real stores, for programs that use the API.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use testkit::{Postgres, RedisServer, free_port};

use crate::binaries::Build;
use crate::local::{secret, token};
use crate::shell::{self, command, nice};

const DATABASE: &str = "sale";
const READY_TIMEOUT: Duration = Duration::from_mins(1);

/// Five Redis nodes, a PostgreSQL and one replica.
pub struct Sale {
    _redis: Vec<RedisServer>,
    postgres: Postgres,
    folder: tempfile::TempDir,
    app: Child,
    api: SocketAddr,
    jwt_secret: String,
}

impl Sale {
    /// Sells these products.
    pub fn start(products: &Value) -> Result<Self> {
        // Not the one package: that would be another choice of features, and another build.
        Build::Test.run()?;
        let redis = RedisServer::start_many(5)?;
        let postgres = Postgres::start()?;
        let database_url = postgres.create_database(DATABASE)?;
        let folder = tempfile::tempdir()?;
        let catalog = folder.path().join("catalog.json");
        std::fs::write(&catalog, json!({ "products": products }).to_string())?;
        let nodes: Vec<String> = redis.iter().map(RedisServer::address).collect();
        let [api, internal] =
            [free_port()?, free_port()?].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let jwt_secret = secret()?;
        let app = |subcommand: &str| {
            let mut app = command(Build::Test.program("flashsale-app"));
            app.arg(subcommand)
                .env("DATABASE_URL", &database_url)
                .env("REDIS_NODES", nodes.join(","))
                .env("JWT_SECRET", &jwt_secret)
                .env("CATALOG_FILE", &catalog)
                .env("LISTEN", api.to_string())
                .env("METRICS_LISTEN", internal.to_string())
                // Slow machines are not what is looked for.
                .env("LOCK_NODE_TIMEOUT_SECONDS", "1")
                .env("RUST_LOG", "warn")
                .stdin(Stdio::null());
            app
        };
        shell::run(&mut app("seed"))?;
        let running = nice(&app("serve")).spawn().context("cannot start flashsale-app serve")?;
        let mut sale = Self { _redis: redis, postgres, folder, app: running, api, jwt_secret };
        sale.await_ready(internal)?;
        Ok(sale)
    }

    fn await_ready(&mut self, internal: SocketAddr) -> Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        let ready = format!("http://{internal}/readyz");
        while !shell::succeeds(command("curl").args(["--fail", "--silent", &ready])) {
            if let Some(status) = self.app.try_wait()? {
                bail!("the app ended at start: {status}");
            }
            if Instant::now() > deadline {
                bail!("the app is not ready after {READY_TIMEOUT:?}");
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Where its API is.
    pub fn url(&self) -> String {
        format!("http://{}", self.api)
    }

    /// The key that signs tokens.
    pub fn jwt_secret(&self) -> &str {
        &self.jwt_secret
    }

    /// A folder that ends with the sale.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The token of a caller who is named as the role.
    pub fn token(&self, role: &str) -> Result<String> {
        token(&self.jwt_secret, role, role)
    }

    /// The units that the database has sold of a product, as its orders have them. They are the units that its stock
    /// lacks.
    pub fn sold(&self, product: &str) -> Result<u64> {
        let orders = "SELECT coalesce(sum(quantity), 0) FROM orders \
                      WHERE state IN ('pending', 'confirmed', 'paid') AND product_id";
        let stock = "SELECT declared - available FROM stock WHERE product_id";
        let [orders, stock] = [orders, stock].map(|query| {
            let answer = self.postgres.query(DATABASE, &format!("{query} = '{product}'"))?;
            answer.parse::<u64>().with_context(|| format!("{query}: {answer}"))
        });
        let (orders, stock) = (orders?, stock?);
        anyhow::ensure!(orders == stock, "{orders} units in orders, {stock} taken from the stock");
        Ok(orders)
    }
}

impl Drop for Sale {
    fn drop(&mut self) {
        let _ = self.app.kill();
        let _ = self.app.wait();
    }
}
