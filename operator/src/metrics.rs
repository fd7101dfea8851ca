//! What the operator counts about itself.

use std::time::Instant;

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

/// Counters of the reconcile loop.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    reconciliations: IntCounterVec,
    errors: IntCounterVec,
    seconds: Histogram,
    leader: IntGauge,
    unreadable: IntGauge,
}

impl Metrics {
    /// Registers all of them.
    ///
    /// # Errors
    /// When a name is taken, which a test rules out.
    pub fn new() -> prometheus::Result<Self> {
        let metrics = Self {
            registry: Registry::new(),
            reconciliations: IntCounterVec::new(
                Opts::new(
                    "flashsale_operator_reconciliations_total",
                    "Passes over a sale, by how they ended.",
                ),
                &["outcome"],
            )?,
            errors: IntCounterVec::new(
                Opts::new(
                    "flashsale_operator_reconcile_errors_total",
                    "Passes that could not be finished, by step.",
                ),
                &["step"],
            )?,
            seconds: Histogram::with_opts(HistogramOpts::new(
                "flashsale_operator_reconcile_seconds",
                "How long a pass over a sale took.",
            ))?,
            leader: IntGauge::new(
                "flashsale_operator_leader",
                "1 if this replica reconciles, 0 if it stands by.",
            )?,
            unreadable: IntGauge::new(
                "flashsale_operator_unreadable_sales",
                "Sales that this version of the operator can't read; they stay as they are.",
            )?,
        };
        metrics.registry.register(Box::new(metrics.reconciliations.clone()))?;
        metrics.registry.register(Box::new(metrics.errors.clone()))?;
        metrics.registry.register(Box::new(metrics.seconds.clone()))?;
        metrics.registry.register(Box::new(metrics.leader.clone()))?;
        metrics.registry.register(Box::new(metrics.unreadable.clone()))?;
        Ok(metrics)
    }

    /// Times a pass.
    #[must_use]
    pub fn reconcile_timer(&self) -> ReconcileTimer<'_> {
        ReconcileTimer { metrics: self, start: Instant::now() }
    }

    /// This replica reconciles from now on.
    pub fn set_leading(&self) {
        self.leader.set(1);
    }

    /// Counts a pass that failed in `step`.
    pub fn reconcile_failed(&self, step: &'static str) {
        self.errors.with_label_values(&[step]).inc();
    }

    /// Notes how many sales can't be read.
    pub fn set_unreadable(&self, sales: usize) {
        self.unreadable.set(i64::try_from(sales).unwrap_or(i64::MAX));
    }

    /// Passes so far that ended with `outcome`.
    #[must_use]
    pub fn reconciliations(&self, outcome: &str) -> u64 {
        self.reconciliations.with_label_values(&[outcome]).get()
    }

    /// All metrics in Prometheus' text format.
    ///
    /// # Errors
    /// When a metric can't be written as text.
    pub fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// A pass that is being timed.
#[derive(Debug)]
pub struct ReconcileTimer<'a> {
    metrics: &'a Metrics,
    start: Instant,
}

impl ReconcileTimer<'_> {
    /// Records how the pass ended and how long it took.
    pub fn observe(self, outcome: &'static str) {
        self.metrics.reconciliations.with_label_values(&[outcome]).inc();
        self.metrics.seconds.observe(self.start.elapsed().as_secs_f64());
    }
}
