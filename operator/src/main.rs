//! `flashsale-operator run` reconciles sales; `flashsale-operator crd` prints the resource
//! definition.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use flashsale_operator::config::{Config, LogFormat};
use flashsale_operator::context::Context;
use flashsale_operator::controller::{self, Scope};
use flashsale_operator::crd::custom_resource_definition;
use flashsale_operator::flash_sale::figures::AppFigures;
use flashsale_operator::http::{self, Readiness};
use flashsale_operator::leader::{self, Leadership, LeaseName};
use flashsale_operator::metrics::Metrics;
use kube::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(version, about = "Reconciles FlashSale resources")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Reconcile until SIGTERM or SIGINT.
    Run(Box<Config>),
    /// Print the `CustomResourceDefinition` as YAML.
    Crd,
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(config) => run(*config).await,
        Command::Crd => print_crd(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_crd() -> Result<()> {
    print!("{}", serde_norway::to_string(&custom_resource_definition()?)?);
    Ok(())
}

async fn run(config: Config) -> Result<()> {
    init_logging(config.log_format);
    let shutdown = cancel_on_signal()?;
    let client = Client::try_default().await.context("no way to an API server")?;
    let metrics = Metrics::new()?;
    let (readiness, answer) =
        watch::channel(Readiness::Unready("the FlashSale resource is not installed"));
    let listener = http::listen(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    let server = http::serve(listener, metrics.clone(), answer, shutdown.clone());
    let server = tokio::spawn(server);

    let reconciled = reconcile(config, client, metrics, readiness, &shutdown).await;
    shutdown.cancel();
    server.await.context("the server of metrics and probes ended")??;
    reconciled?;
    info!("stopped");
    Ok(())
}

/// Reconciles until `shutdown`, if there is a Lease while it is held.
async fn reconcile(
    config: Config,
    client: Client,
    metrics: Metrics,
    readiness: watch::Sender<Readiness>,
    shutdown: &CancellationToken,
) -> Result<()> {
    let scope = Scope(config.watch_namespace);
    let figures = Arc::new(AppFigures::new()?);
    let identity = config.pod_name.clone();
    let context =
        Context::new(client.clone(), config.images, figures, metrics.clone(), config.pod_name);
    controller::wait_for_crd(&client, &scope, shutdown).await;

    let lead = || {
        metrics.lead();
        readiness.send_replace(Readiness::Working);
    };
    let work = controller::run(Arc::new(context), &scope, shutdown.clone());
    let Some(namespace) = config.pod_namespace.filter(|_| config.leader_election) else {
        lead();
        work.await;
        return Ok(());
    };
    let lease = LeaseName { namespace, name: config.lease_name };
    readiness.send_replace(Readiness::StandingBy(lease.to_string()));
    match shutdown.run_until_cancelled(Leadership::seek(client, lease, identity)).await {
        Some(leadership) => leader::run(leadership?, shutdown, lead, work).await,
        None => Ok(()),
    }
}

fn cancel_on_signal() -> Result<CancellationToken> {
    let token = CancellationToken::new();
    let cancelled = token.clone();
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        cancelled.cancel();
    });
    Ok(token)
}

fn init_logging(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,kube_runtime=warn,kube_lease_manager=warn"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().with_span_list(false).init(),
    }
}
