//! Metrics and probes of the operator itself: `/metrics`, `/livez`, `/readyz`.

use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// What the operator does, as its readiness probe says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can't work yet, for this reason.
    Unready(&'static str),
    /// It takes over when this Lease is free.
    StandingBy(String),
    /// It reconciles.
    Working,
}

#[derive(Clone)]
struct Shared {
    metrics: Metrics,
    readiness: watch::Receiver<Readiness>,
}

/// Listens on this address. Where `[::]` cannot be had, as without IPv6, on all of IPv4.
///
/// # Errors
/// When neither can be had.
pub async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() => {
            let instead = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            TcpListener::bind(instead).await.map_err(|_| error)
        }
        listening => listening,
    }
}

/// Answers until `shutdown`.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    readiness: watch::Receiver<Readiness>,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics_text))
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(readyz))
        .with_state(Shared { metrics, readiness });
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

async fn metrics_text(State(shared): State<Shared>) -> Result<String, StatusCode> {
    shared.metrics.render().map_err(|error| {
        tracing::error!(%error, "metrics can't be written");
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
