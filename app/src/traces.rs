//! Traces over OTLP: a span for each sampled request, and one for each batch that decided it.
//!
//! Off by default; then neither the layer of requests nor the observer of batches exists. A span is put into a
//! bounded queue and sent by a task of its own, so that a collector can never delay a request.
//!
//! `context` reads `traceparent`, `sampler` chooses, `tracer` makes spans, `request` and `batch` know what to trace,
//! `queue`, `otlp`, `collector` and `exporter` send.

mod batch;
mod collector;
mod config;
mod context;
mod exporter;
mod otlp;
mod queue;
mod request;
mod sampler;
mod span;
mod tracer;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use sale::Observer;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

pub use config::{Endpoint, Identity, TracesConfig};
pub use sampler::{RootSampler, Sampler};

use self::batch::BatchTracer;
use self::exporter::Exporter;
use self::otlp::Resource;
use self::tracer::Tracer;
use crate::metrics::TraceMetrics;

/// How long the last spans may take at the end of a replica. Its pod has 30 s for all; when requests are answered, at
/// least 16 s are left.
const FLUSH: Duration = Duration::from_secs(5);

/// The traces of a replica.
#[derive(Debug)]
pub(crate) struct Traces {
    tracer: Arc<Tracer>,
    flush: CancellationToken,
    exporting: AbortOnDropHandle<()>,
}

impl Traces {
    /// Starts to export on the present runtime.
    ///
    /// # Errors
    /// When the certificate authorities cannot be used.
    pub(crate) fn start(
        config: &TracesConfig,
        identity: &Identity,
        metrics: Arc<TraceMetrics>,
    ) -> Result<Self, rustls::Error> {
        let tracer = Arc::new(Tracer::new(config.sampler, identity, Arc::clone(&metrics)));
        let resource = Resource::new(&config.service, identity);
        let exporter = Exporter::new(config, resource, Arc::clone(&tracer), metrics)?;
        let flush = CancellationToken::new();
        let exporting = AbortOnDropHandle::new(tokio::spawn(exporter.run(flush.clone())));
        Ok(Self { tracer, flush, exporting })
    }

    /// The observer of the sale that makes the spans of batches.
    pub(crate) fn observer(&self) -> Arc<dyn Observer> {
        Arc::new(BatchTracer::new(Arc::clone(&self.tracer)))
    }

    /// Makes a span for each sampled request.
    pub(crate) fn trace_requests(&self, router: Router) -> Router {
        router.layer(from_fn_with_state(Arc::clone(&self.tracer), request::trace))
    }

    /// Sends what is left, within [`FLUSH`].
    pub(crate) async fn flush(self) {
        self.flush.cancel();
        if timeout(FLUSH, self.exporting).await.is_err() {
            warn!("the last spans are lost: the collector did not take them within {FLUSH:?}");
        }
    }
}
