//! Traces.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry, Result};

/// Metrics of traces.
#[derive(Debug)]
pub struct TraceMetrics {
    exported: IntCounter,
    dropped: IntCounterVec,
}

/// Why a span was not exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanLoss {
    /// Too many spans waited: the collector is slow or away, or the sampling ratio is too high.
    QueueFull,
    /// The collector could not be reached, or did not answer in time, several times in a row.
    Unreachable,
    /// The collector refused it.
    Refused,
}

impl SpanLoss {
    const ALL: [Self; 3] = [Self::QueueFull, Self::Unreachable, Self::Refused];

    /// The label in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
        }
    }
}

impl TraceMetrics {
    pub(super) fn registered(registry: &Registry) -> Result<Self> {
        let metrics = Self {
            exported: IntCounter::new(
                "flashsale_trace_spans_exported_total",
                "Spans of traces that the collector accepted.",
            )?,
            dropped: IntCounterVec::new(
                Opts::new(
                    "flashsale_trace_spans_dropped_total",
                    "Spans of traces that the collector did not get, by reason.",
                ),
                &["reason"],
            )?,
        };
        for reason in SpanLoss::ALL {
            metrics.dropped.with_label_values(&[reason.label()]);
        }
        // Without `..`: a metric that is not registered does not compile.
        let Self { exported, dropped } = &metrics;
        registry.register(Box::new(exported.clone()))?;
        registry.register(Box::new(dropped.clone()))?;
        Ok(metrics)
    }

    /// Counts exported spans.
    pub fn exported(&self, spans: u64) {
        self.exported.inc_by(spans);
    }

    /// Counts spans that were dropped.
    pub fn dropped(&self, reason: SpanLoss, spans: u64) {
        self.dropped.with_label_values(&[reason.label()]).inc_by(spans);
    }
}
