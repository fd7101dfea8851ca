//! Metrics and probes of the operator itself: `/metrics`, `/livez`, `/readyz`.

use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::serve::Listener;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// State of the operator for its readiness probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Not ready, for this reason.
    Unready(&'static str),
    /// Standby: waits for this Lease.
    StandingBy(String),
    /// Reconciles.
    Working,
}

#[derive(Clone)]
struct Shared {
    metrics: Metrics,
    readiness: watch::Receiver<Readiness>,
}

/// Listens on this address. If `[::]` is unavailable, for example without IPv6, listens on all IPv4 addresses.
///
/// # Errors
/// When neither address is available.
pub async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() => {
            let instead = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            TcpListener::bind(instead).await.map_err(|_| error)
        }
        listening => listening,
    }
}

/// Serves until `shutdown`.
///
/// # Errors
/// When the listener fails.
pub async fn serve<L>(
    listener: L,
    metrics: Metrics,
    readiness: watch::Receiver<Readiness>,
    shutdown: CancellationToken,
) -> std::io::Result<()>
where
    L: Listener<Addr = SocketAddr>,
{
    let router = Router::new()
        .route("/metrics", get(metrics_text))
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(readyz))
        .with_state(Shared { metrics, readiness });
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

async fn metrics_text(State(shared): State<Shared>) -> Result<String, StatusCode> {
    shared.metrics.render().map_err(|error| {
        tracing::error!(%error, "cannot encode metrics");
        StatusCode::INTERNAL_SERVER_ERROR
    })
}

async fn readyz(State(shared): State<Shared>) -> (StatusCode, String) {
    match &*shared.readiness.borrow() {
        Readiness::Unready(why) => (StatusCode::SERVICE_UNAVAILABLE, (*why).to_owned()),
        Readiness::StandingBy(lease) => {
            (StatusCode::OK, format!("standing by for the lease {lease}"))
        }
        Readiness::Working => (StatusCode::OK, "ok".to_owned()),
    }
}
