//! `flashsale-operator run`: sets up logging, signals, metrics and leader election around the controller.

use std::io::IsTerminal as _;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use kube::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::config::{Config, Labels, LogFormat};
use crate::controller::{self, Scope};
use crate::flash_sale::app_client::HttpAppClient;
use crate::flash_sale::context::Context;
use crate::flash_sale::operator_pods::OperatorPods;
use crate::http::{self, Readiness};
use crate::leader::{self, Leadership, LeaseName};
use crate::metrics::Metrics;
use crate::tls::{Certificate, TlsListener};

/// The namespace of a pod, mounted with its service account.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Runs the operator until SIGTERM or SIGINT.
///
/// # Errors
/// When the API server or the listening address is unavailable, or the Lease is lost.
pub(crate) async fn run(config: Config) -> Result<()> {
    init_logging(&config);
    let shutdown = cancel_on_signal()?;
    let client = Client::try_default().await.context("cannot connect to an API server")?;
    let metrics = Metrics::new()?;
    let (readiness, answer) =
        watch::channel(Readiness::Unready("the FlashSale CRD is not installed"));
    let server = serve(&config, metrics.clone(), answer, shutdown.clone()).await?;

    let reconciled = reconcile(config, client, metrics, readiness, &shutdown).await;
    shutdown.cancel();
    server.await.context("the server of metrics and probes failed")??;
    reconciled?;
    info!("stopped");
    Ok(())
}

/// Serves metrics and probes in a task, over TLS with a certificate.
async fn serve(
    config: &Config,
    metrics: Metrics,
    readiness: watch::Receiver<Readiness>,
    shutdown: CancellationToken,
) -> Result<JoinHandle<std::io::Result<()>>> {
    let listener = http::listen(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    let Some(folder) = &config.tls_cert_dir else {
        return Ok(tokio::spawn(http::serve(listener, metrics, readiness, shutdown)));
    };
    let listener = TlsListener::new(listener, Certificate::in_folder(folder)).await?;
    Ok(tokio::spawn(http::serve(listener, metrics, readiness, shutdown)))
}

/// Reconciles until `shutdown`; with leader election, only while the Lease is held.
async fn reconcile(
    config: Config,
    client: Client,
    metrics: Metrics,
    readiness: watch::Sender<Readiness>,
    shutdown: &CancellationToken,
) -> Result<()> {
    let scope = Scope::of(config.watch.names());
    let app = Arc::new(HttpAppClient::new()?);
    let identity = config.pod_name.clone();
    let pods = own_pods(config.pod_namespace.as_deref(), config.pod_labels);
    let context =
        Context::new(client.clone(), config.images, app, metrics.clone(), config.pod_name)
            .with_operator_pods(pods);
    controller::wait_for_crd(&client, &scope, shutdown).await;

    let on_leading = || {
        metrics.set_leading();
        readiness.send_replace(Readiness::Working);
    };
    let work = controller::run(Arc::new(context), &scope, shutdown.clone());
    let Some(namespace) = config.pod_namespace.filter(|_| config.leader_election) else {
        on_leading();
        work.await;
        return Ok(());
    };
    let lease = LeaseName { namespace, name: config.lease_name };
    readiness.send_replace(Readiness::StandingBy(lease.to_string()));
    match shutdown.run_until_cancelled(Leadership::start(client, lease, identity)).await {
        Some(leadership) => leader::run(leadership?, shutdown, on_leading, work).await,
        None => Ok(()),
    }
}

/// The operator's own pods; `None` outside of a cluster.
fn own_pods(declared: Option<&str>, labels: Labels) -> Option<OperatorPods> {
    let mounted = || std::fs::read_to_string(NAMESPACE_FILE).ok();
    let namespace = declared.map(str::to_owned).or_else(mounted);
    let namespace = namespace.map(|namespace| namespace.trim().to_owned());
    let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) else {
        warn!(
            "the operator runs outside of the cluster: network policies do not admit it to port 9090 of sales, \
             so their counts are not read where policies are enforced"
        );
        return None;
    };
    Some(OperatorPods { namespace, labels })
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

fn init_logging(config: &Config) {
    let filter = EnvFilter::new(&config.log_filter);
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().with_span_list(false).init(),
    }
}
