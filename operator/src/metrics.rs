//! Metrics of the operator itself. They take labels only.

use std::time::Instant;

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

/// Metrics of the reconcile loop.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    reconciliations: IntCounterVec,
    errors: IntCounterVec,
    seconds: Histogram,
    leader: IntGauge,
    unreadable: IntGauge,
    stalled: IntGauge,
}

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// When a name is registered twice, which a test rules out.
    pub fn new() -> prometheus::Result<Self> {
        let metrics = Self {
            registry: Registry::new(),
            reconciliations: IntCounterVec::new(
                Opts::new(
                    "flashsale_operator_reconciliations_total",
                    "Reconciles of FlashSale objects, by outcome.",
                ),
                &["outcome"],
            )?,
            errors: IntCounterVec::new(
                Opts::new(
                    "flashsale_operator_reconcile_errors_total",
                    "Reconciles that failed, by step.",
                ),
                &["step"],
            )?,
            seconds: Histogram::with_opts(HistogramOpts::new(
                "flashsale_operator_reconcile_seconds",
                "Duration of a reconcile in seconds.",
            ))?,
            leader: IntGauge::new(
                "flashsale_operator_leader",
                "1 if this replica is the leader and reconciles, 0 if it is a standby.",
            )?,
            unreadable: IntGauge::new(
                "flashsale_operator_unreadable_sales",
                "FlashSale objects that this version of the operator cannot read. Their parts stay unchanged.",
            )?,
            stalled: IntGauge::new(
                "flashsale_operator_stalled_sales",
                "FlashSale objects whose condition Stalled is True: a person must act.",
            )?,
        };
        metrics.registry.register(Box::new(metrics.reconciliations.clone()))?;
        metrics.registry.register(Box::new(metrics.errors.clone()))?;
        metrics.registry.register(Box::new(metrics.seconds.clone()))?;
        metrics.registry.register(Box::new(metrics.leader.clone()))?;
        metrics.registry.register(Box::new(metrics.unreadable.clone()))?;
        metrics.registry.register(Box::new(metrics.stalled.clone()))?;
        Ok(metrics)
    }

    /// Starts to time a reconcile.
    #[must_use]
    pub fn reconcile_timer(&self) -> ReconcileTimer<'_> {
        ReconcileTimer { metrics: self, start: Instant::now() }
    }

    /// Marks this replica as the leader.
    pub fn set_leading(&self) {
        self.leader.set(1);
    }

    /// Counts a reconcile that failed in `step`.
    pub fn reconcile_failed(&self, step: &'static str) {
        self.errors.with_label_values(&[step]).inc();
    }

    /// Sets the number of sales that cannot be read.
    pub fn set_unreadable(&self, sales: usize) {
        self.unreadable.set(i64::try_from(sales).unwrap_or(i64::MAX));
    }

    /// Sets the number of sales that are stalled.
    pub fn set_stalled(&self, sales: usize) {
        self.stalled.set(i64::try_from(sales).unwrap_or(i64::MAX));
    }

    /// Number of reconciles with this `outcome`.
    #[must_use]
    pub fn reconciliations(&self, outcome: &str) -> u64 {
        self.reconciliations.with_label_values(&[outcome]).get()
    }

    /// All metrics in Prometheus' text format.
    ///
    /// # Errors
    /// When a metric cannot be encoded.
    pub fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// Timer of one reconcile.
#[derive(Debug)]
pub struct ReconcileTimer<'a> {
    metrics: &'a Metrics,
    start: Instant,
}

impl ReconcileTimer<'_> {
    /// Records the outcome and the duration.
    pub fn observe(self, outcome: &'static str) {
        self.metrics.reconciliations.with_label_values(&[outcome]).inc();
        self.metrics.seconds.observe(self.start.elapsed().as_secs_f64());
    }
}
