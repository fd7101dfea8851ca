//! Metrics of the operator. They take labels only; `sale_metrics` makes those of sales.

use std::fmt::Debug;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use process_metrics::ProcessMetrics;
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

/// Makes metrics for each scrape.
pub trait Source: Debug + Send + Sync {
    /// The metrics now.
    ///
    /// # Errors
    /// When one has an invalid name.
    fn collect(&self) -> prometheus::Result<Vec<MetricFamily>>;
}

/// Metrics of the reconcile loop.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// Of the sales, once this replica reconciles them.
    sales: Arc<OnceLock<Box<dyn Source>>>,
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
            sales: Arc::default(),
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
        let build = "1, with the version of the operator as a label.";
        let build = Opts::new("flashsale_operator_build_info", build);
        let build = IntGauge::with_opts(build.const_label("version", env!("CARGO_PKG_VERSION")))?;
        build.set(1);
        metrics.registry.register(Box::new(build))?;
        metrics.registry.register(Box::new(ProcessMetrics::of_this_process()))?;
        metrics.registry.register(Box::new(metrics.reconciliations.clone()))?;
        metrics.registry.register(Box::new(metrics.errors.clone()))?;
        metrics.registry.register(Box::new(metrics.seconds.clone()))?;
        metrics.registry.register(Box::new(metrics.leader.clone()))?;
        metrics.registry.register(Box::new(metrics.unreadable.clone()))?;
        metrics.registry.register(Box::new(metrics.stalled.clone()))?;
        Ok(metrics)
    }

    /// Makes the series of these outcomes and steps. `rate` does not see the first event of a series that begins with
    /// it.
    pub fn start_series(&self, outcomes: &[&str], steps: &[&str]) {
        for outcome in outcomes.iter().chain(&["error"]) {
            self.reconciliations.with_label_values(&[*outcome]);
        }
        for step in steps {
            self.errors.with_label_values(&[*step]);
        }
    }

    /// Adds the metrics of the sales. Only the first call counts.
    pub fn add_sales(&self, sales: Box<dyn Source>) {
        // A second reconcile loop in this process watches the same sales.
        let _ = self.sales.set(sales);
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
        let mut families = self.registry.gather();
        if let Some(sales) = self.sales.get() {
            families.extend(sales.collect()?);
        }
        TextEncoder::new().encode_to_string(&families)
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
