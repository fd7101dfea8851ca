//! The `flashsale-app` command.

#![deny(clippy::print_stdout, clippy::print_stderr, reason = "they panic when the reader is gone")]

use std::fmt::Display;
use std::io::{IsTerminal, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use flashsale_app::config::{
    ConfigError, DatabaseUrl, LogConfig, LogFormat, ParseError, SeedArgs, SeedConfig, ServeArgs,
    ServeConfig, parse_process, sale_name,
};
use flashsale_app::{api, erasures, http, seed, serve};
use ledger::{Ledger, ReleaseOptions};
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
/// Each setting is an environment variable or a flag; the help of a command lists its settings.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves the API until SIGTERM.
    Serve {
        #[command(flatten)]
        serve: Box<ServeArgs>,
        #[command(flatten)]
        log: LogConfig,
    },
    /// Brings the products of a catalog into the database and their stock onto the Redis nodes.
    Seed {
        #[command(flatten)]
        seed: Box<SeedArgs>,
        #[command(flatten)]
        log: LogConfig,
    },
    /// Brings the database's tables up to date.
    Migrate {
        #[command(flatten)]
        database: DatabaseUrl,
        #[command(flatten)]
        log: LogConfig,
    },
    /// Ends a sale's use of the database, so that the next sale starts with its own stock.
    ///
    /// Products, orders and coupons move to the tables `past_products`, `past_orders`,
    /// `past_coupons` and `past_coupon_issues`. Buyers keep their accounts; administrators lose theirs.
    /// Events of orders and of payment services go: it is refused while some of them are still needed.
    ReleaseDatabase {
        /// Name of the sale that has it: its `SALE_NAME`, which is namespace/name for sales of the operator.
        sale: String,
        /// Even if other connections of the app are open.
        #[arg(long)]
        force: bool,
        /// Drops events of orders that are not delivered or were given up.
        #[arg(long)]
        drop_events: bool,
        /// Drops events of payment services that wait for an administrator: a buyer may be owed money.
        #[arg(long)]
        drop_payments: bool,
        #[command(flatten)]
        database: DatabaseUrl,
        #[command(flatten)]
        log: LogConfig,
    },
    /// Gives a sale another name, under which it goes on.
    RenameSale {
        /// Name of the sale that has the database.
        sale: String,
        /// Its `SALE_NAME` from now on.
        #[arg(value_parser = sale_name)]
        new_name: String,
        #[command(flatten)]
        database: DatabaseUrl,
        #[command(flatten)]
        log: LogConfig,
    },
    /// Erases a buyer: the account goes, and a pseudonym takes the buyer's place in orders, coupons and the audit log.
    ///
    /// Stock does not change. Running replicas refuse the buyer's tokens, and erase the buyer in Redis. It takes
    /// about three seconds. Only a replica of the sale finishes it: it removes the idempotency keys of the orders, and
    /// after five minutes the name from the table `erasures`.
    Erase {
        /// The id of the account, or the `sub` of the buyer's tokens.
        buyer: String,
        #[command(flatten)]
        database: DatabaseUrl,
        #[command(flatten)]
        log: LogConfig,
    },
    /// Prints the OpenAPI document.
    Openapi,
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match parse_process::<Cli>() {
        Ok(cli) => run(cli.command).await,
        Err(ParseError::Setting(error)) => Err(error.into()),
        Err(ParseError::Usage(error)) => error.exit(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The exit status says it too, if nobody reads this.
            let _ = writeln!(std::io::stderr(), "flashsale-app: {error:#}");
            let wrong_setting = error.is::<ConfigError>();
            ExitCode::from(if wrong_setting { 2 } else { 1 })
        }
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Serve { serve, log } => {
            log_to_stderr(&log);
            let config = ServeConfig::try_from(*serve)?;
            allow_open_files(config.http.max_connections);
            keep_pages_small();
            let api = bind("LISTEN", config.sockets.api)?;
            let internal = bind("METRICS_LISTEN", config.sockets.metrics)?;
            serve::run(config, api, internal, shutdown_on_signal()?).await
        }
        Command::Seed { seed, log } => {
            log_to_stderr(&log);
            unless_stopped(seed::run(&SeedConfig::try_from(*seed)?)).await
        }
        Command::Migrate { database, log } => {
            log_to_stderr(&log);
            let ledger = connect(&database)?;
            let migration = async { ledger.migrate().await.map_err(anyhow::Error::from) };
            unless_stopped(migration).await.context("cannot migrate the database")
        }
        Command::ReleaseDatabase { sale, force, drop_events, drop_payments, database, log } => {
            log_to_stderr(&log);
            let ledger = connect(&database)?;
            let options = ReleaseOptions { force, drop_events, drop_payments };
            let release = async {
                ledger.migrate_unless_newer().await?;
                Ok(ledger.release_database(&sale, options).await?)
            };
            unless_stopped(release).await?;
            result("released: the next sale that uses this database starts with its own stock")
        }
        Command::RenameSale { sale, new_name, database, log } => {
            log_to_stderr(&log);
            let ledger = connect(&database)?;
            let renaming = async {
                ledger.migrate().await?;
                Ok(ledger.rename_sale(&sale, &new_name).await?)
            };
            unless_stopped(renaming).await?;
            result(format_args!("the database belongs to the sale {new_name:?}"))
        }
        Command::Erase { buyer, database, log } => {
            log_to_stderr(&log);
            let ledger = connect(&database)?;
            let mut done = String::new();
            let erasing = async {
                done = Box::pin(erasures::erase_in_database(&ledger, &buyer)).await?;
                Ok(())
            };
            unless_stopped(erasing).await?;
            result(done)
        }
        Command::Openapi => result(api::openapi().to_pretty_json()?),
    }
}

/// Writes a line of the result to stdout. A reader that is gone is an error, and no panic.
fn result(line: impl Display) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").context("cannot write to stdout")
}

/// For commands that need nothing but the database.
fn connect(database: &DatabaseUrl) -> Result<Ledger> {
    let ledger = Ledger::connect_lazy(&database.url(), 1);
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

fn log_to_stderr(config: &LogConfig) {
    let filter = EnvFilter::new(&config.filter);
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match config.format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
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
