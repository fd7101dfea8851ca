//! The `flashsale-app` command.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use flashsale_app::config::{
    ConfigError, DatabaseConfig, Environment, LogFormat, SEED_SETTINGS, SERVE_SETTINGS, SeedConfig,
    ServeConfig,
};
use flashsale_app::ledger::Ledger;
use flashsale_app::{router, seed, serve};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

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
    /// Prints the OpenAPI document.
    Openapi,
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
        println!("{}", router::openapi().to_pretty_json()?);
        return Ok(());
    }
    log_to_stderr()?;
    match command {
        Command::Serve => {
            let config = ServeConfig::read(&Environment)?;
            let api = bind("LISTEN", config.listen).await?;
            let internal = bind("METRICS_LISTEN", config.metrics_listen).await?;
            serve::run(config, api, internal, shutdown_on_signal()?).await
        }
        Command::Seed => seed::run(&SeedConfig::read(&Environment)?).await,
        Command::Migrate => {
            let config = DatabaseConfig::read(&Environment)?;
            let ledger = Ledger::connect_lazy(&config.url, 1)
                .map_err(|error| ConfigError::unusable("DATABASE_URL", &error))?;
            ledger.migrate().await.context("cannot migrate the database")
        }
        Command::Openapi => Ok(()),
    }
}

async fn bind(name: &str, address: std::net::SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{name}: cannot listen on {address}"))
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
