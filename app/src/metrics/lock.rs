//! What is measured of the lock.

use std::time::Duration;

use prometheus::core::Metric;
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use redlock::{AcquireOutcome, Exclusion, Observer};

use super::buckets::histogram;

/// A metric's help text is its documentation.
#[derive(Debug)]
pub struct LockMetrics {
    wait: HistogramVec,
    hold: Histogram,
    acquisitions: IntCounterVec,
    retries: IntCounter,
    leases_lost: IntCounter,
    node_seconds: HistogramVec,
    node_failures: IntCounterVec,
    node_exclusions: IntCounterVec,
    node_admissions: IntCounterVec,
    nodes: IntGauge,
    nodes_voting: IntGauge,
}

impl LockMetrics {
    pub(super) fn registered(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            wait: HistogramVec::new(
                histogram(
                    "flashsale_lock_wait_seconds",
                    "Time until the lock was acquired or given up, by outcome.",
                ),
                &["outcome"],
            )?,
            hold: Histogram::with_opts(histogram(
                "flashsale_lock_hold_seconds",
                "Time from the acquisition of the lock to its release.",
            ))?,
            acquisitions: IntCounterVec::new(
                Opts::new(
                    "flashsale_lock_acquisitions_total",
                    "Attempts to acquire the lock, by outcome.",
                ),
                &["outcome"],
            )?,
            retries: IntCounter::new(
                "flashsale_lock_retries_total",
                "Rounds of votes after the first of an acquisition.",
            )?,
            leases_lost: IntCounter::new(
                "flashsale_lock_leases_lost_total",
                "Leases that ended before what was done under them.",
            )?,
            node_seconds: HistogramVec::new(
                histogram(
                    "flashsale_lock_node_seconds",
                    "Time one Redis node took to vote, by node; one that did not vote in time counts with its timeout.",
                ),
                &["node"],
            )?,
            node_failures: IntCounterVec::new(
                Opts::new(
                    "flashsale_lock_node_failures_total",
                    "Votes that a Redis node did not give in time, by node.",
                ),
                &["node"],
            )?,
            node_exclusions: IntCounterVec::new(
                Opts::new(
                    "flashsale_lock_node_exclusions_total",
                    "Times a Redis node was kept out of votes, by node and reason.",
                ),
                &["node", "reason"],
            )?,
            node_admissions: IntCounterVec::new(
                Opts::new(
                    "flashsale_lock_node_admissions_total",
                    "Times a Redis node that had restarted was let vote again, by node.",
                ),
                &["node"],
            )?,
            nodes: IntGauge::new("flashsale_lock_nodes", "Redis nodes that the lock is made of.")?,
            nodes_voting: IntGauge::new(
                "flashsale_lock_nodes_voting",
                "Redis nodes that this replica is connected to and that may vote.",
            )?,
        };
        metrics.register(registry)?;
        Ok(metrics)
    }

    /// The waits of acquisitions that were granted, since the replica started.
    #[must_use]
    pub fn waited(&self) -> LockWait {
        let wait = self.wait.with_label_values(&["acquired"]);
        let metric = wait.metric();
        let histogram = metric.get_histogram();
        let buckets = histogram.get_bucket().iter();
        LockWait {
            count: histogram.get_sample_count(),
            seconds: histogram.get_sample_sum(),
            buckets: buckets.map(|b| (b.upper_bound(), b.cumulative_count())).collect(),
        }
    }

    fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        // Without `..`: a metric that is not registered does not compile.
        let Self {
            wait,
            hold,
            acquisitions,
            retries,
            leases_lost,
            node_seconds,
            node_failures,
            node_exclusions,
            node_admissions,
            nodes,
            nodes_voting,
        } = self;
        registry.register(Box::new(wait.clone()))?;
        registry.register(Box::new(hold.clone()))?;
        registry.register(Box::new(acquisitions.clone()))?;
        registry.register(Box::new(retries.clone()))?;
        registry.register(Box::new(leases_lost.clone()))?;
        registry.register(Box::new(node_seconds.clone()))?;
        registry.register(Box::new(node_failures.clone()))?;
        registry.register(Box::new(node_exclusions.clone()))?;
        registry.register(Box::new(node_admissions.clone()))?;
        registry.register(Box::new(nodes.clone()))?;
        registry.register(Box::new(nodes_voting.clone()))
    }
}

/// How long the lock was waited for, as counts that only grow: what is between two of them is what
/// happened between.
#[derive(Debug, Clone, PartialEq, serde::Serialize, utoipa::ToSchema)]
pub struct LockWait {
    /// Acquisitions.
    #[schema(example = 120)]
    count: u64,
    /// The sum of their waits.
    #[schema(example = 0.35)]
    seconds: f64,
    /// Upper bounds in seconds, each with how many waited no longer.
    #[schema(example = json!([[0.001, 40], [0.0025, 100], [0.005, 120]]))]
    buckets: Vec<(f64, u64)>,
}

impl Observer for LockMetrics {
    fn acquired(&self, outcome: AcquireOutcome, waited: Duration, rounds: u32) {
        let outcome = match outcome {
            AcquireOutcome::Acquired => "acquired",
            AcquireOutcome::Timeout => "timeout",
            AcquireOutcome::QuorumUnavailable => "quorum_unavailable",
            AcquireOutcome::Interrupted => "interrupted",
            AcquireOutcome::Invalid => "invalid",
        };
        self.wait.with_label_values(&[outcome]).observe(waited.as_secs_f64());
        self.acquisitions.with_label_values(&[outcome]).inc();
        self.retries.inc_by(u64::from(rounds.saturating_sub(1)));
    }

    fn released(&self, held: Duration) {
        self.hold.observe(held.as_secs_f64());
    }

    fn lease_lost(&self) {
        self.leases_lost.inc();
    }

    fn node_voted(&self, node: usize, took: Duration, answered: bool) {
        let node = node_label(node);
        self.node_seconds.with_label_values(&[node]).observe(took.as_secs_f64());
        if !answered {
            self.node_failures.with_label_values(&[node]).inc();
        }
    }

    fn quorum(&self, voting: usize, nodes: usize) {
        self.nodes_voting.set(i64::try_from(voting).unwrap_or(i64::MAX));
        self.nodes.set(i64::try_from(nodes).unwrap_or(i64::MAX));
    }

    fn node_excluded(&self, node: usize, why: Exclusion) {
        let reason = match why {
            Exclusion::Restarted => "restarted",
            Exclusion::ClockJumped => "clock_jumped",
            Exclusion::RefusesWrites => "refuses_writes",
            Exclusion::Damaged => "damaged",
        };
        self.node_exclusions.with_label_values(&[node_label(node), reason]).inc();
    }

    fn node_admitted(&self, node: usize) {
        self.node_admissions.with_label_values(&[node_label(node)]).inc();
    }
}

/// A sale has one node or five; those that a change of the membership adds are numbered on.
fn node_label(node: usize) -> &'static str {
    ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"].get(node).copied().unwrap_or("other")
}
