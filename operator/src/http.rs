//! Metrics and probes of the operator itself: `/metrics`, `/livez`, `/readyz`.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Why the operator does not do its work; absent: it does.
pub type Unready = Option<&'static str>;

#[derive(Clone)]
struct Shared {
    metrics: Metrics,
    unready: watch::Receiver<Unready>,
}

/// Answers until `shutdown`.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    unready: watch::Receiver<Unready>,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics_text))
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(readyz))
        .with_state(Shared { metrics, unready });
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

async fn metrics_text(State(shared): State<Shared>) -> Result<String, StatusCode> {
    shared.metrics.render().map_err(|error| {
        tracing::error!(%error, "metrics can't be written");
        StatusCode::INTERNAL_SERVER_ERROR
    })
}

async fn readyz(State(shared): State<Shared>) -> (StatusCode, &'static str) {
    match *shared.unready.borrow() {
        None => (StatusCode::OK, "ok"),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
    }
}
