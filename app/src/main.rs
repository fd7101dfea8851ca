//! The `flashsale-app` command.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use flashsale_app::config::{
    ConfigError, DatabaseConfig, Environment, LogFormat, SEED_SETTINGS, SERVE_SETTINGS, SeedConfig,
    ServeConfig, check_sale_name,
};
use flashsale_app::{api, http, seed, serve};
use ledger::Ledger;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use tracing_subscriber::EnvFilter;

/// Requests allocate small things on one thread and free them on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The purchase API of a flash sale.
///
/// Configured by the environment; the help of each command lists the settings.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves the API until SIGTERM.
    #[command(after_help = SERVE_SETTINGS)]
    Serve,
    /// Brings the products of a catalog into the database and their stock onto the Redis nodes.
    #[command(after_help = SEED_SETTINGS)]
    Seed,
    /// Brings the database's tables up to date; needs `DATABASE_URL`.
    Migrate,
    /// Ends a sale's use of the database, so that the next sale starts with its own stock; needs
    /// `DATABASE_URL`.
    ///
    /// Products, orders and coupons move to the tables `past_products`, `past_orders`,
    /// `past_coupons` and `past_coupon_issues`. Buyers keep their accounts; administrators lose theirs.
    ReleaseDatabase {
        /// The sale that has it: its `SALE_NAME`, of the operator's sales namespace/name.
        sale: String,
        /// Even if other connections of the app are open.
        #[arg(long)]
        force: bool,
    },
    /// Gives a sale another name, under which it goes on; needs `DATABASE_URL`.
    RenameSale {
        /// The sale that has the database.
        sale: String,
        /// Its `SALE_NAME` from now on.
        #[arg(value_parser = sale_name)]
        new_name: String,
    },
    /// Prints the OpenAPI document.
    Openapi,
}

fn sale_name(text: &str) -> Result<String, &'static str> {
    check_sale_name(text).map(|()| text.to_owned())
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flashsale-app: {error:#}");
            let wrong_setting = error.is::<ConfigError>();
            ExitCode::from(if wrong_setting { 2 } else { 1 })
        }
    }
}

async fn run(command: Command) -> Result<()> {
    if let Command::Openapi = command {
        println!("{}", api::openapi().to_pretty_json()?);
        return Ok(());
    }
    log_to_stderr()?;
    match command {
        Command::Serve => {
            let config = ServeConfig::read(&Environment)?;
            allow_open_files(config.http.max_connections);
            keep_pages_small();
            let api = bind("LISTEN", config.listen)?;
            let internal = bind("METRICS_LISTEN", config.metrics_listen)?;
            serve::run(config, api, internal, shutdown_on_signal()?).await
        }
        Command::Seed => unless_stopped(seed::run(&SeedConfig::read(&Environment)?)).await,
        Command::Migrate => {
            let ledger = database()?;
            let migration = async { ledger.migrate().await.map_err(anyhow::Error::from) };
            unless_stopped(migration).await.context("cannot migrate the database")
        }
        Command::ReleaseDatabase { sale, force } => {
            let ledger = database()?;
            let release = async {
                ledger.migrate().await?;
                Ok(ledger.release_database(&sale, force).await?)
            };
            unless_stopped(release).await?;
            println!("released: the next sale that uses this database starts with its own stock");
            Ok(())
        }
        Command::RenameSale { sale, new_name } => {
            let ledger = database()?;
            let renaming = async {
                ledger.migrate().await?;
                Ok(ledger.rename_sale(&sale, &new_name).await?)
            };
            unless_stopped(renaming).await?;
            println!("the database belongs to the sale {new_name:?}");
            Ok(())
        }
        Command::Openapi => Ok(()),
    }
}

/// For commands that need nothing else.
fn database() -> Result<Ledger> {
    let config = DatabaseConfig::read(&Environment)?;
    let ledger = Ledger::connect_lazy(&config.url, 1);
    Ok(ledger.map_err(|error| ConfigError::unusable("DATABASE_URL", &error))?)
}

/// Each connection is an open file, and a shell's limit is often 1024.
fn allow_open_files(connections: usize) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    // Beside connections: the stores, the sockets themselves and the log.
    let needed = connections as u64 + 256;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft >= needed {
        return;
    }
    let raised = setrlimit(Resource::RLIMIT_NOFILE, needed.min(hard), hard);
    if hard < needed || raised.is_err() {
        warn!(soft, hard, needed, "HTTP_MAX_CONNECTIONS may need more open files; raise ulimit -n");
    }
}

/// A connection touches a part of each of its buffers; huge pages would be there for the whole of
/// them.
fn keep_pages_small() {
    if let Err(error) = nix::sys::prctl::set_thp_disable(true) {
        warn!(%error, "cannot turn off huge pages: more memory is used");
    }
}

fn bind(name: &str, address: SocketAddr) -> Result<TcpListener> {
    http::listen(address).with_context(|| format!("{name}: cannot listen on {address}"))
}

fn log_to_stderr() -> Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match LogFormat::read(&Environment)? {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// Ends at a signal: the first process of a container dies of none by itself.
async fn unless_stopped(work: impl Future<Output = Result<()>>) -> Result<()> {
    let stopped = shutdown_on_signal()?;
    tokio::select! {
        result = work => result,
        () = stopped.cancelled() => bail!("stopped by a signal"),
    }
}

/// Cancelled by the first SIGTERM or SIGINT.
fn shutdown_on_signal() -> Result<CancellationToken> {
    let shutdown = CancellationToken::new();
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        token.cancel();
    });
    Ok(shutdown)
}
