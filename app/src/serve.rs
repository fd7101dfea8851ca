//! `flashsale-app serve`: a replica from start to shutdown.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::serve::ListenerExt;
use redlock::Redlock;
use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::auth::{Passwords, Tokens};
use crate::config::{ConfigError, ServeConfig};
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::router;
use crate::routes::probes::ProbeState;
use crate::sale::Sale;
use crate::state::{AppState, Readiness};

/// How often what is away at start is tried again.
const START_RETRY: Duration = Duration::from_millis(250);
/// How often the ledger is read for news that no notice brought.
const REFRESH: Duration = Duration::from_secs(1);
/// How long requests under way may take after SIGTERM.
const DRAIN: Duration = Duration::from_secs(10);

/// Serves the API and the probes on these sockets until `shutdown`.
///
/// # Errors
/// When a replica with this configuration can never work, or a socket fails.
pub async fn run(
    config: ServeConfig,
    api: TcpListener,
    internal: TcpListener,
    shutdown: CancellationToken,
) -> Result<()> {
    let metrics = Arc::new(Metrics::new().context("metrics")?);
    let database = &config.database;
    let ledger = Ledger::connect_lazy(&database.url, database.max_connections)
        .map_err(|error| ConfigError::unusable("DATABASE_URL", &error))?;
    let redlock = Redlock::start_observed(&config.lock.nodes, Arc::clone(&metrics) as _)
        .map_err(|error| ConfigError::unusable("REDIS_NODES", &error))?;
    let sale = Arc::new(Sale::new(
        ledger.clone(),
        redlock.clone(),
        &config.lock,
        config.window,
        Arc::clone(&metrics),
    ));
    let readiness = Arc::new(Readiness::default());

    let probes = ProbeState {
        readiness: Arc::clone(&readiness),
        sale: Arc::clone(&sale),
        redlock: redlock.clone(),
        metrics: Arc::clone(&metrics),
    };
    let state = AppState {
        sale: Arc::clone(&sale),
        ledger: ledger.clone(),
        tokens: Arc::new(Tokens::new(&config.jwt_secret)),
        passwords: Passwords::new()?,
        metrics,
    };
    info!(api = %api.local_addr()?, internal = %internal.local_addr()?, "listening");

    let upkeep = tokio::spawn({
        let shutdown = shutdown.clone();
        async move {
            let working = async {
                become_ready(&ledger, &redlock, &sale, &readiness).await;
                keep_fresh(&sale).await;
            };
            // None: shut down.
            let _ = shutdown.run_until_cancelled(working).await;
            readiness.set_unready(vec!["shutting down".to_owned()]);
        }
    });
    let served =
        serve(api, router::api(state), internal, router::internal(probes), &shutdown).await;
    // Ends with the same signal.
    let _ = upkeep.await;
    served
}

/// Migrates, reads the catalog and waits for a quorum, saying in the readiness what is missing.
async fn become_ready(ledger: &Ledger, redlock: &Redlock, sale: &Sale, readiness: &Readiness) {
    let mut tick = interval(START_RETRY);
    let mut migrated = false;
    loop {
        tick.tick().await;
        let mut reasons = Vec::new();
        if !migrated {
            match ledger.migrate().await {
                Ok(()) => migrated = true,
                Err(error) => reasons.push(format!("database: {error}")),
            }
        }
        if migrated && let Err(error) = sale.catalog().refresh().await {
            reasons.push(format!("database: {error}"));
        }
        if !redlock.has_quorum() {
            let (connected, nodes) = redlock.connected();
            reasons.push(format!("redis: {connected} of {nodes} nodes connected, no quorum"));
        }
        if reasons.is_empty() {
            info!("ready");
            readiness.set_ready();
            return;
        }
        if readiness.unready().as_ref() != Some(&reasons) {
            warn!(?reasons, "not ready");
        }
        readiness.set_unready(reasons);
    }
}

async fn keep_fresh(sale: &Sale) {
    let mut tick = interval(REFRESH);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tick.tick().await;
        match sale.catalog().refresh().await {
            Ok(()) => failing = false,
            Err(error) => {
                if !failing {
                    warn!(%error, "cannot read the catalog");
                }
                failing = true;
            }
        }
    }
}

async fn serve(
    api: TcpListener,
    api_router: axum::Router,
    internal: TcpListener,
    internal_router: axum::Router,
    shutdown: &CancellationToken,
) -> Result<()> {
    // Answers are small: waiting to fill a packet only delays them.
    let api = api.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let api = axum::serve(api, api_router)
        .with_graceful_shutdown(shutdown.clone().cancelled_owned())
        .into_future();
    // The probes answer as long as requests are under way.
    let drained = CancellationToken::new();
    let internal = axum::serve(internal, internal_router)
        .with_graceful_shutdown(drained.clone().cancelled_owned())
        .into_future();
    let internal = tokio::spawn(internal);

    let deadline = async {
        shutdown.cancelled().await;
        info!("shutting down");
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = api => served.context("API socket")?,
        () = deadline => warn!("requests were still under way after {DRAIN:?}"),
    }
    drained.cancel();
    if let Ok(served) = timeout(Duration::from_secs(1), internal).await {
        served?.context("probe socket")?;
    }
    Ok(())
}
