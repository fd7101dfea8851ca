//! What is measured of the two stores' agreement.

use jiff::Timestamp;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use sale::{Drift, Job};

/// A metric's help text is its documentation. Products are in the log, not in labels.
#[derive(Debug)]
pub struct StoreMetrics {
    runs: IntCounterVec,
    last_run: IntGaugeVec,
    drift: IntCounterVec,
    repairs: IntCounter,
    repair_failures: IntCounter,
    unrecorded: IntGauge,
    recorded: IntCounter,
    refused: IntCounter,
}

impl StoreMetrics {
    pub(super) fn registered(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            runs: IntCounterVec::new(
                Opts::new(
                    "flashsale_store_runs_total",
                    "Runs of the jobs that keep Redis and the database in agreement, by job.",
                ),
                &["job"],
            )?,
            last_run: IntGaugeVec::new(
                Opts::new(
                    "flashsale_store_last_run_timestamp_seconds",
                    "When this replica last ended such a job, by job; another may have since.",
                ),
                &["job"],
            )?,
            drift: IntCounterVec::new(
                Opts::new(
                    "flashsale_store_drift_total",
                    "Stock values on a Redis node that did not agree with the database, by kind.",
                ),
                &["kind"],
            )?,
            repairs: IntCounter::new(
                "flashsale_store_repairs_total",
                "Products whose stock was written to Redis again, from the database.",
            )?,
            repair_failures: IntCounter::new(
                "flashsale_store_repair_failures_total",
                "Products whose stock could not be repaired; the next run tries again.",
            )?,
            unrecorded: IntGauge::new(
                "flashsale_orders_unrecorded",
                "Orders that Redis decided (Atomic) and the database does not have yet.",
            )?,
            recorded: IntCounter::new(
                "flashsale_orders_recorded_total",
                "Orders that Redis decided (Atomic) and this replica recorded.",
            )?,
            refused: IntCounter::new(
                "flashsale_orders_refused_total",
                "Orders that Redis decided (Atomic) and the database could not take.",
            )?,
        };
        // Without `..`: a metric that is not registered does not compile.
        let Self { runs, last_run, drift, repairs, repair_failures, unrecorded, recorded, refused } =
            &metrics;
        registry.register(Box::new(runs.clone()))?;
        registry.register(Box::new(last_run.clone()))?;
        registry.register(Box::new(drift.clone()))?;
        registry.register(Box::new(repairs.clone()))?;
        registry.register(Box::new(repair_failures.clone()))?;
        registry.register(Box::new(unrecorded.clone()))?;
        registry.register(Box::new(recorded.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        for job in Job::ALL {
            runs.with_label_values(&[job.label()]);
        }
        // So that an alert sees the first one rise from zero.
        for kind in Drift::ALL {
            drift.with_label_values(&[kind.label()]);
        }
        Ok(metrics)
    }

    /// Counts a run that came to its end.
    pub(super) fn ran(&self, job: Job) {
        self.runs.with_label_values(&[job.label()]).inc();
        self.last_run.with_label_values(&[job.label()]).set(Timestamp::now().as_second());
    }

    /// Counts a value that was found wrong.
    pub(super) fn drifted(&self, kind: Drift) {
        self.drift.with_label_values(&[kind.label()]).inc();
    }

    /// Counts a product whose stock was written again, or could not be.
    pub(super) fn repaired(&self, done: bool) {
        if done {
            self.repairs.inc();
        } else {
            self.repair_failures.inc();
        }
    }

    /// Takes over how many orders wait to be recorded.
    pub(super) fn unrecorded(&self, orders: i64) {
        self.unrecorded.set(orders);
    }

    /// Counts orders that were recorded now, and those that could not be.
    pub(super) fn recorded(&self, new: usize, refused: usize) {
        self.recorded.inc_by(new as u64);
        self.refused.inc_by(refused as u64);
    }
}
