//! `cargo xtask local`: the sale without a cluster. Redis processes, a database, replicas of the app; one
//! JSON line on stdout once all is ready, so that any client or load tool can drive it.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use jsonwebtoken::{EncodingKey, Header};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use serde_json::json;
use testkit::{Fsync, RedisServer, free_port};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, interval, sleep, timeout};

use crate::binaries::Build;
use crate::interrupt;
use crate::shell::{print, say};
use crate::tools;

const PRODUCT: &str = "1";
const ADMIN: &str = "admin";
const TOKEN_LIFETIME: Duration = Duration::from_hours(24);
const READY_TIMEOUT: Duration = Duration::from_mins(1);
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(200);

/// Options of `cargo xtask local`.
#[derive(clap::Args)]
pub struct Options {
    /// Redis nodes: 5, or 1 without a quorum.
    #[arg(long, default_value = "5", value_parser = ["1", "5"])]
    nodes: String,
    /// Replicas of the app, on one port after the other.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    replicas: u16,
    /// Items for sale.
    #[arg(long, default_value_t = 100)]
    stock: u32,
    /// Order in which waiting buyers are served.
    #[arg(long, value_enum, default_value_t = Order::Unordered, ignore_case = true)]
    order: Order,
    /// What decides a purchase: Atomic needs `--nodes 1`.
    #[arg(long, value_enum, default_value_t = Strategy::Locked, ignore_case = true)]
    strategy: Strategy,
    /// Port of the first replica.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// A PostgreSQL (`postgres://...`) instead of SQLite in a temporary folder.
    #[arg(long)]
    database_url: Option<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Order {
    /// The fastest buyer is served first.
    Unordered,
    /// The buyer who asked first is served first.
    Fair,
}

impl Order {
    /// As the app knows it.
    fn name(self) -> &'static str {
        match self {
            Self::Unordered => "Unordered",
            Self::Fair => "Fair",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Strategy {
    /// The database, under the lock.
    Locked,
    /// One script in Redis.
    Atomic,
}

impl Strategy {
    /// As the app knows it.
    fn name(self) -> &'static str {
        match self {
            Self::Locked => "Locked",
            Self::Atomic => "Atomic",
        }
    }

    fn fsync(self) -> Fsync {
        match self {
            Self::Locked => Fsync::EverySecond,
            Self::Atomic => Fsync::Always,
        }
    }
}

/// The line on stdout.
#[derive(Serialize)]
struct Ready<'a> {
    urls: Vec<String>,
    admin_token: String,
    jwt_secret: &'a str,
    redis: Vec<String>,
    database_url: &'a str,
    product_id: &'a str,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    role: &'a str,
    exp: u64,
}

/// How the app is configured, for all of its processes.
struct Sale {
    binary: PathBuf,
    environment: Vec<(&'static str, String)>,
}

struct Replica {
    name: String,
    metrics: SocketAddr,
    child: Child,
}

/// `cargo xtask local`.
pub fn run(options: &Options) -> Result<ExitCode> {
    ensure!(
        options.strategy == Strategy::Locked || options.nodes == "1",
        "--strategy atomic needs --nodes 1, the one node that decides"
    );
    let ports = ports(options)?;
    tools::ensure_packages(tools::LOCAL)?;
    Build::Release.run()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(options, &ports))
}

/// The replicas' ports, free at this moment.
fn ports(options: &Options) -> Result<Vec<u16>> {
    (0..options.replicas)
        .map(|index| {
            let port = options.port.checked_add(index).context("the ports end at 65535")?;
            TcpListener::bind((Ipv4Addr::LOCALHOST, port))
                .with_context(|| format!("port {port} is not free; choose others with --port"))?;
            Ok(port)
        })
        .collect()
}

async fn serve(options: &Options, ports: &[u16]) -> Result<ExitCode> {
    let mut ctrl_c = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // A terminal that closes reaches this process alone, too; under nohup it goes on.
    let mut hangup = interrupt::hangup()?;
    let folder = tempfile::Builder::new().prefix("flashsale-local-").tempdir()?;
    let fsync = options.strategy.fsync();
    let mut redis = (0..options.nodes.parse::<usize>()?)
        // As the app: it is stopped after the replicas, which still use it.
        .map(|_| RedisServer::start_in_own_group(fsync))
        .collect::<Result<Vec<_>>>()?;
    let jwt_secret = secret()?;
    let database_url = options
        .database_url
        .clone()
        .unwrap_or_else(|| format!("sqlite://{}", folder.path().join("sale.db").display()));
    let sale = Sale::new(options, &redis, &jwt_secret, &database_url);

    let mut replicas = Vec::new();
    // In this order, and listening to signals before the first process: whatever happens, all are stopped.
    let ended = tokio::select! {
        biased;
        _ = ctrl_c.recv() => None,
        _ = terminate.recv() => None,
        () = interrupt::comes(hangup.as_mut()) => None,
        ended = async {
            sale.seed(folder.path(), options.stock).await?;
            for &port in ports {
                replicas.push(sale.replica(port)?);
            }
            for replica in &mut replicas {
                replica.await_ready().await?;
            }
            let ready = Ready {
                urls: ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect(),
                admin_token: token(&jwt_secret, ADMIN, ADMIN)?,
                jwt_secret: &jwt_secret,
                redis: redis.iter().map(RedisServer::address).collect(),
                database_url: &database_url,
                product_id: PRODUCT,
            };
            print(&serde_json::to_string(&ready)?);
            interrupt::ensure_may_go_on()?;
            say("ready; Ctrl-C stops everything");
            first_to_end(&mut replicas, &mut redis).await
        } => Some(ended),
    };
    say("stopping");
    stop(replicas).await;
    match ended {
        None => Ok(ExitCode::SUCCESS),
        Some(ended) => bail!("{}; stopped the rest", ended?),
    }
}

impl Sale {
    fn new(options: &Options, redis: &[RedisServer], jwt_secret: &str, database_url: &str) -> Self {
        let nodes: Vec<String> = redis.iter().map(RedisServer::address).collect();
        Self {
            binary: Build::Release.program("flashsale-app"),
            environment: vec![
                ("DATABASE_URL", database_url.to_owned()),
                ("SALE_NAME", "local".to_owned()),
                ("JWT_SECRET", jwt_secret.to_owned()),
                ("USE_REDLOCK", (nodes.len() > 1).to_string()),
                ("REDIS_NODES", nodes.join(",")),
                ("LOCK_ORDER", options.order.name().to_owned()),
                ("STRATEGY", options.strategy.name().to_owned()),
            ],
        }
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .arg(subcommand)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(std::io::stderr())
            .kill_on_drop(true)
            // Ctrl-C reaches this process alone, which then stops its children in good order.
            .process_group(0);
        command
    }

    async fn seed(&self, folder: &Path, stock: u32) -> Result<()> {
        let catalog = folder.join("catalog.json");
        let products = json!({"products": [{"id": PRODUCT, "name": "Console", "stock": stock}]});
        std::fs::write(&catalog, products.to_string())?;
        let status = self
            .command("seed")
            .env("CATALOG_FILE", catalog)
            .env("ADMIN_ID", ADMIN)
            .env("ADMIN_PASSWORD", secret()?)
            .status()
            .await
            .context("cannot start flashsale-app seed")?;
        ensure!(status.success(), "flashsale-app seed failed: {status}");
        Ok(())
    }

    fn replica(&self, port: u16) -> Result<Replica> {
        let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let name = format!("the app on port {port}");
        say(&format!("{name}: metrics and probes on {metrics}"));
        let child = self
            .command("serve")
            .env("LISTEN", format!("127.0.0.1:{port}"))
            .env("METRICS_LISTEN", metrics.to_string())
            // No load balancer has to learn of the end.
            .env("HTTP_DRAIN_SECONDS", "0")
            .spawn()
            .context("cannot start flashsale-app serve")?;
        Ok(Replica { name, metrics, child })
    }
}

impl Replica {
    async fn await_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at start: {status}", self.name);
            }
            let answer = readiness(self.metrics).await.unwrap_or_default();
            if answer.starts_with("HTTP/1.") && answer[8..].starts_with(" 200") {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} is not ready after {READY_TIMEOUT:?}: {answer}", self.name);
            }
            sleep(POLL / 4).await;
        }
    }
}

/// The answer of `/readyz`, head and body.
async fn readiness(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    timeout(POLL * 10, stream.read_to_string(&mut answer)).await??;
    Ok(answer)
}

/// Waits until a process ends by itself, and says which.
async fn first_to_end(replicas: &mut [Replica], redis: &mut [RedisServer]) -> Result<String> {
    let ended = |name: &str, status: ExitStatus| format!("{name} ended by itself: {status}");
    let mut poll = interval(POLL);
    loop {
        poll.tick().await;
        for replica in &mut *replicas {
            if let Some(status) = replica.child.try_wait()? {
                return Ok(ended(&replica.name, status));
            }
        }
        for server in &mut *redis {
            if let Some(status) = server.exit_status()? {
                return Ok(ended(&format!("redis-server {}", server.address()), status));
            }
        }
    }
}

/// Asks all replicas to end, and gives them time to answer their last requests.
async fn stop(mut replicas: Vec<Replica>) {
    for replica in &replicas {
        if let Some(id) = replica.child.id().and_then(|id| i32::try_from(id).ok())
            && let Err(error) = kill(Pid::from_raw(id), Signal::SIGTERM)
        {
            say(&format!("cannot stop {}: {error}", replica.name));
        }
    }
    for replica in &mut replicas {
        if timeout(STOP_TIMEOUT, replica.child.wait()).await.is_err() {
            say(&format!("{} does not end; killing it", replica.name));
        }
    }
}

/// 32 random bytes as text.
pub fn secret() -> Result<String> {
    let mut text = String::new();
    for byte in rand::random::<[u8; 32]>() {
        write!(text, "{byte:02x}")?;
    }
    Ok(text)
}

/// A token as a login gives one.
pub fn token(jwt_secret: &str, sub: &str, role: &str) -> Result<String> {
    let exp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)? + TOKEN_LIFETIME;
    let claims = Claims { sub, role, exp: exp.as_secs() };
    jsonwebtoken::encode(
        &Header::default(),
        &claims,
        &EncodingKey::from_secret(jwt_secret.as_bytes()),
    )
    .context("cannot sign a token")
}
