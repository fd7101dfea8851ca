//! The task that sends spans to the collector.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::collector::{Collector, CollectorError};
use super::config::TracesConfig;
use super::otlp::{Resource, rejected_spans};
use super::span::Span;
use super::tracer::Tracer;
use crate::metrics::{SpanLoss, TraceMetrics};

/// Interval at which the queue is checked.
const RHYTHM: Duration = Duration::from_millis(100);
/// Spans of one request: some hundred kilobytes.
const BATCH: usize = 2_048;
/// How long the collector may take for a request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Pauses before a request is sent again. Then its spans are dropped: later ones wait behind them.
const RETRY_AFTER: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// Sends spans in order.
pub(super) struct Exporter {
    tracer: Arc<Tracer>,
    collector: Collector,
    resource: Resource,
    metrics: Arc<TraceMetrics>,
    /// The last request failed, and that was logged.
    is_failing: bool,
}

impl Exporter {
    pub(super) fn new(
        config: &TracesConfig,
        resource: Resource,
        tracer: Arc<Tracer>,
        metrics: Arc<TraceMetrics>,
    ) -> Result<Self, rustls::Error> {
        let collector = Collector::new(config)?;
        Ok(Self { tracer, collector, resource, metrics, is_failing: false })
    }

    /// Sends spans until `flush`, and then what is left.
    pub(super) async fn run(mut self, flush: CancellationToken) {
        info!(endpoint = %self.collector.endpoint(), "exporting traces");
        while flush.run_until_cancelled(sleep(RHYTHM)).await.is_some() {
            self.send_queued(&flush).await;
        }
        self.send_queued(&flush).await;
    }

    async fn send_queued(&mut self, flush: &CancellationToken) {
        let queued = self.tracer.queue.take();
        for spans in queued.chunks(BATCH) {
            if let Err(loss) = self.send(spans, flush).await {
                self.metrics.dropped(loss, spans.len() as u64);
            }
        }
    }

    /// Sends a request; after `flush`, without pauses.
    async fn send(&mut self, spans: &[Span], flush: &CancellationToken) -> Result<(), SpanLoss> {
        let request = Bytes::from(self.resource.request(spans));
        let mut pauses = RETRY_AFTER.into_iter();
        loop {
            match self.collector.post(request.clone(), TIMEOUT).await {
                Ok(response) => {
                    self.accepted(spans.len(), &response);
                    return Ok(());
                }
                Err(error) => {
                    self.log(&error);
                    if !error.is_temporary() {
                        return Err(SpanLoss::Refused);
                    }
                }
            }
            let pause = pauses.next().filter(|_| !flush.is_cancelled());
            let pause = pause.ok_or(SpanLoss::Unreachable)?;
            flush.run_until_cancelled(sleep(pause)).await;
        }
    }

    fn accepted(&mut self, spans: usize, response: &[u8]) {
        let spans = spans as u64;
        let rejected = rejected_spans(response).min(spans);
        self.metrics.exported(spans - rejected);
        self.metrics.dropped(SpanLoss::Refused, rejected);
        if std::mem::take(&mut self.is_failing) {
            info!("the collector of traces accepts spans again");
        }
    }

    /// Logs the first of several failures.
    fn log(&mut self, error: &CollectorError) {
        if !std::mem::replace(&mut self.is_failing, true) {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            let endpoint = self.collector.endpoint();
            warn!(%endpoint, %error, cause, "spans cannot be exported; requests are not affected");
        }
    }
}
