//! Everything that a purchase passes through, as processes of its own: replicas of the app, Redis
//! nodes with the operator's settings, and a database with its default durability.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tempfile::TempDir;
use testkit::{Authority, Fsync, Postgres, RedisServer, TlsFolder, free_port};
use tokio::task::block_in_place;
use tokio::time::sleep;

use super::http;
use super::ledger::Ledger;
use super::metrics::sample;
use super::network::Network;
use super::sink::HttpSink;
use super::tokens::{PERSON, secret, sign};
use super::wrk;
use crate::figures::Round;

/// Buyers whose tokens are signed before.
pub(super) const BUYERS: usize = 10_000;
/// More than any run can sell.
pub(super) const ENDLESS: u32 = 1_000_000_000;
const START_TIMEOUT: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(20);

/// What a sale is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) replicas: usize,
    pub(crate) nodes: usize,
    pub(crate) order: &'static str,
    pub(crate) strategy: &'static str,
    pub(crate) database: Database,
    pub(crate) products: usize,
    /// Of each product.
    pub(crate) stock: u32,
    /// Units of each product for one buyer; `None`: as many as there are.
    pub(crate) max_per_buyer: Option<u32>,
    /// The limit counts for persons, whom a claim of the tokens names (`limitBy`).
    pub(crate) limits_persons: bool,
    /// The share of requests that are traced; `None`: traces are off.
    pub(crate) traced: Option<f64>,
    /// Events of orders.
    pub(crate) events: Events,
    /// Buyers come over TLS.
    pub(crate) tls: bool,
    /// Connections that a replica takes; `None`: the app's default.
    pub(crate) max_connections: Option<u32>,
    /// From the replicas to the nodes and to PostgreSQL, and back; `None`: loopback itself, without a proxy.
    pub(crate) round_trip: Option<Duration>,
}

/// Where orders are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Database {
    Postgres,
    Sqlite,
}

/// Whether events of orders are written, and what becomes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Events {
    None,
    /// Nothing listens at the receiver's port.
    Away,
    /// The receiver takes each at once.
    Taken,
}

/// What the figures are about unless their names say otherwise.
pub(crate) const USUAL: Shape = Shape {
    replicas: 1,
    nodes: 5,
    order: "Unordered",
    strategy: "Locked",
    database: Database::Postgres,
    products: 1,
    stock: ENDLESS,
    max_per_buyer: None,
    limits_persons: false,
    traced: None,
    events: Events::None,
    tls: false,
    max_connections: None,
    round_trip: None,
};

/// A running sale. Dropping it ends all of its processes, the clients first.
pub(super) struct Stage {
    pub(super) replicas: Vec<Replica>,
    pub(super) redis: Vec<RedisServer>,
    pub(super) ledger: Ledger,
    pub(super) postgres: Option<Postgres>,
    pub(super) products: Vec<String>,
    pub(super) tokens: Vec<String>,
    pub(super) secret: String,
    pub(super) database_url: String,
    pub(super) network: Network,
    pub(super) tls: Option<TlsFolder>,
    app: PathBuf,
    _sinks: [Option<HttpSink>; 2],
    folder: TempDir,
}

/// A process of the app.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) port: u16,
    pub(super) metrics: u16,
    child: Child,
    log: PathBuf,
}

impl Stage {
    /// Starts all processes and waits until every replica is ready. The proxies run on the threads
    /// of this runtime, so it waits for programs by [`block_in_place`] only.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub(super) async fn start(round: &Round, shape: Shape) -> Result<Self> {
        // Before the first process, which inherits it.
        wrk::allow_files()?;
        let folder = tempfile::Builder::new().prefix("flashsale-bench-").tempdir()?;
        // As the operator sets them.
        let fsync = if shape.strategy == "Atomic" { Fsync::Always } else { Fsync::EverySecond };
        let redis: Vec<RedisServer> =
            (0..shape.nodes).map(|_| RedisServer::start_with(fsync)).collect::<Result<_>>()?;
        let (postgres, url) = match shape.database {
            Database::Postgres => {
                let postgres = Postgres::start()?;
                let url = postgres.create_database("sale")?;
                (Some(postgres), url)
            }
            Database::Sqlite => {
                (None, format!("sqlite://{}", folder.path().join("sale.db").display()))
            }
        };
        let nodes: Vec<String> = redis.iter().map(RedisServer::address).collect();
        let network = Network::start(shape.round_trip, &nodes, postgres.as_ref(), &url).await?;
        let nodes = network.nodes.clone();
        let secret = secret()?;
        let environment = [
            ("DATABASE_URL", network.database_url.clone()),
            ("JWT_SECRET", secret.clone()),
            ("USE_REDLOCK", (nodes.len() > 1).to_string()),
            ("REDIS_NODES", nodes.join(",")),
            ("LOCK_ORDER", shape.order.to_owned()),
            ("STRATEGY", shape.strategy.to_owned()),
        ];
        let (sink, traces) = traces(shape.traced).await?;
        let (receiver, events) = events(shape.events).await?;
        let tls = shape.tls.then(certificate).transpose()?;
        let command = |subcommand: &str| {
            let mut command = Command::new(&round.app);
            command
                .arg(subcommand)
                .envs(environment.clone())
                .envs(traces.clone())
                .envs(events.clone())
                .envs(shape.max_connections.map(|most| ("HTTP_MAX_CONNECTIONS", most.to_string())))
                .envs(tls.iter().flat_map(tls_settings));
            command.stdin(Stdio::null());
            command
        };

        let products = product_ids(shape.products);
        block_in_place(|| seed(command("seed"), folder.path(), &products, shape))?;
        let mut replicas = Vec::new();
        for number in 0..shape.replicas {
            replicas.push(Replica::start(command("serve"), folder.path(), number)?);
        }
        for replica in &mut replicas {
            replica.await_ready().await?;
        }
        let tokens = (0..BUYERS)
            .map(|number| sign(&secret, &format!("buyer-{number}"), shape.limits_persons))
            .collect::<Result<Vec<_>>>()?;
        std::fs::write(folder.path().join(TOKENS), tokens.join("\n"))?;
        let ledger = Ledger::connect(&url).await?;
        ledger.make_log_files().await?;
        let app = round.app.clone();
        Ok(Self {
            replicas,
            redis,
            ledger,
            postgres,
            products,
            tokens,
            secret,
            database_url: url,
            network,
            tls,
            app,
            _sinks: [sink, receiver],
            folder,
        })
    }

    /// A token of a buyer that is none of [`Stage::tokens`]; not in a sale that limits persons.
    pub(super) fn sign(&self, buyer: &str) -> Result<String> {
        sign(&self.secret, buyer, false)
    }

    /// Where files of this sale may be put.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file with one token a line.
    pub(super) fn tokens_file(&self) -> PathBuf {
        self.folder.path().join(TOKENS)
    }

    /// Another database on the sale's server with the same tables and the sale's first product, for
    /// limits; its URL.
    pub(super) fn another_database(&self) -> Result<String> {
        let postgres = self.postgres.as_ref().context("this sale has no PostgreSQL")?;
        let url = postgres.create_database("another")?;
        let mut migrate = Command::new(&self.app);
        migrate.arg("migrate").env("DATABASE_URL", &url);
        let ended = block_in_place(|| migrate.output())?;
        let said = String::from_utf8_lossy(&ended.stderr);
        ensure!(ended.status.success(), "flashsale-app migrate failed: {said}");
        Ok(url)
    }

    /// The sum of a metric's samples over all replicas whose labels contain all of these.
    pub(super) async fn metric(&self, name: &str, labels: &[&str]) -> Result<f64> {
        let mut sum = 0.0;
        for replica in &self.replicas {
            sum += sample(&http::get(replica.metrics, "/metrics").await?, name, labels);
        }
        Ok(sum)
    }
}

/// A collector, and the app's settings for it.
async fn traces(share: Option<f64>) -> Result<(Option<HttpSink>, Vec<(&'static str, String)>)> {
    let Some(share) = share else { return Ok((None, Vec::new())) };
    let sink = HttpSink::start().await?;
    let settings = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url.clone()),
        ("OTEL_TRACES_SAMPLER", "traceidratio".to_owned()),
        ("OTEL_TRACES_SAMPLER_ARG", share.to_string()),
    ];
    Ok((Some(sink), settings))
}

/// A receiver of events, and the app's settings for it.
async fn events(events: Events) -> Result<(Option<HttpSink>, Vec<(&'static str, String)>)> {
    let (receiver, url) = match events {
        Events::None => return Ok((None, Vec::new())),
        Events::Away => (None, format!("http://127.0.0.1:{}/", free_port()?)),
        Events::Taken => {
            let receiver = HttpSink::start().await?;
            let url = receiver.url.clone();
            (Some(receiver), url)
        }
    };
    let key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned();
    Ok((receiver, vec![("EVENTS_WEBHOOK_URL", url), ("EVENTS_WEBHOOK_SECRET", key)]))
}

/// A certificate for `localhost`, and its authority.
fn certificate() -> Result<TlsFolder> {
    let authority = Authority::new()?;
    TlsFolder::new(&authority.issue("localhost", 30)?, authority.certificate())
}

fn tls_settings(files: &TlsFolder) -> [(&'static str, PathBuf); 2] {
    [("TLS_CERT_FILE", files.path("tls.crt")), ("TLS_KEY_FILE", files.path("tls.key"))]
}

const TOKENS: &str = "tokens";

/// Ids of one length.
fn product_ids(count: usize) -> Vec<String> {
    if count == 1 {
        return vec!["1".to_owned()];
    }
    (100..100 + count).map(|id| id.to_string()).collect()
}

fn seed(mut command: Command, folder: &Path, products: &[String], shape: Shape) -> Result<()> {
    let catalog = folder.join("catalog.json");
    let Shape { stock, max_per_buyer, limits_persons, .. } = shape;
    let product = |id: &String| json!({"id": id, "name": "Console", "stock": stock, "max_per_buyer": max_per_buyer});
    let products: Vec<_> = products.iter().map(product).collect();
    let mut file = json!({ "products": products });
    // An older app, such as one to compare with, refuses a catalog that names a claim.
    if limits_persons {
        file["limit_claim"] = PERSON.into();
    }
    std::fs::write(&catalog, file.to_string())?;
    let ended = command
        .env("CATALOG_FILE", catalog)
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "flashsale-app seed failed: {}\n{said}", ended.status);
    Ok(())
}

impl Replica {
    fn start(mut command: Command, folder: &Path, number: usize) -> Result<Self> {
        let (port, metrics) = (free_port()?, free_port()?);
        let log = folder.join(format!("replica-{number}.log"));
        let file = File::create(&log)?;
        let child = command
            .env("LISTEN", format!("127.0.0.1:{port}"))
            .env("METRICS_LISTEN", format!("127.0.0.1:{metrics}"))
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("cannot start flashsale-app serve")?;
        Ok(Self { port, metrics, child, log })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    async fn await_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while http::get(self.metrics, "/readyz").await.is_err() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                bail!("the app did not become ready ({ended:?}); it said\n{log}");
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Files and connections that it has open now.
    pub(super) fn open_files(&self) -> Result<usize> {
        Ok(Path::new(&format!("/proc/{}/fd", self.pid())).read_dir()?.count())
    }

    /// The most memory that was resident, in millions of bytes.
    pub(super) fn peak_memory(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = peak.and_then(|text| text.trim().strip_suffix(" kB")).context("VmHWM")?;
        Ok(kibibytes.parse::<f64>()? * 1024.0 / 1e6)
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // What it sold is committed; nothing can be done about a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mut said = std::fs::read_to_string(&self.log).unwrap_or_default();
        said.retain(|c| c != '\u{1b}');
        let complaints = said.lines().filter(|line| line.contains(" ERROR ")).take(3);
        for line in complaints {
            let _ = writeln!(std::io::stderr(), "    the app said: {line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_products_have_one_length() {
        assert_eq!(product_ids(1), ["1"]);
        let ids = product_ids(100);
        assert_eq!((ids.len(), ids.iter().all(|id| id.len() == 3)), (100, true));
    }
}
