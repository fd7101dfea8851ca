//! What is measured of the lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use redlock::{AcquireOutcome, Exclusion, Observer};

use super::durations::{DurationFamily, DurationHistogram};
use super::family::Family;

/// Outcomes of an acquisition, in the order of [`outcome_index`].
const OUTCOMES: [&str; 5] = ["acquired", "timeout", "quorum_unavailable", "interrupted", "invalid"];
/// Reasons of an exclusion.
const EXCLUSIONS: [Exclusion; 4] =
    [Exclusion::Restarted, Exclusion::ClockJumped, Exclusion::RefusesWrites, Exclusion::Damaged];

/// A metric's help text is its documentation.
#[derive(Debug)]
pub struct LockMetrics {
    wait: DurationFamily,
    /// Of `wait`, by outcome: what is counted most is not looked up each time.
    waits: [Arc<DurationHistogram>; OUTCOMES.len()],
    hold: DurationFamily,
    holds: Arc<DurationHistogram>,
    acquisitions: IntCounterVec,
    /// Of `acquisitions`, by outcome.
    acquired: [IntCounter; OUTCOMES.len()],
    retries: IntCounter,
    leases_lost: IntCounter,
    node_seconds: DurationFamily,
    /// Number of nodes whose series exist.
    known_nodes: AtomicUsize,
    node_failures: IntCounterVec,
    node_exclusions: IntCounterVec,
    node_admissions: IntCounterVec,
    nodes: IntGauge,
    nodes_voting: IntGauge,
}

impl LockMetrics {
    pub(super) fn registered(registry: &Registry) -> prometheus::Result<Self> {
        let wait = DurationFamily::by(
            "outcome",
            "flashsale_lock_wait_seconds",
            "Time until the lock was acquired or given up, by outcome.",
        );
        let (hold, holds) = DurationFamily::single(
            "flashsale_lock_hold_seconds",
            "Time from the acquisition of the lock to its release.",
        );
        let acquisitions = IntCounterVec::new(
            Opts::new(
                "flashsale_lock_acquisitions_total",
                "Attempts to acquire the lock, by outcome.",
            ),
            &["outcome"],
        )?;
        let metrics = Self {
            waits: OUTCOMES.map(|outcome| wait.with(outcome)),
            wait,
            hold,
            holds,
            acquired: OUTCOMES.map(|outcome| acquisitions.with_label_values(&[outcome])),
            acquisitions,
            retries: IntCounter::new(
                "flashsale_lock_retries_total",
                "Rounds of votes after the first of an acquisition.",
            )?,
            leases_lost: IntCounter::new(
                "flashsale_lock_leases_lost_total",
                "Leases that ended before what was done under them.",
            )?,
            node_seconds: DurationFamily::by(
                "node",
                "flashsale_lock_node_seconds",
                "Time one Redis node took to vote, by node; one that did not vote in time counts with its timeout.",
            ),
            known_nodes: AtomicUsize::new(0),
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
        let waits = self.waits[outcome_index(AcquireOutcome::Acquired)].snapshot();
        LockWait {
            count: waits.count(),
            seconds: waits.seconds,
            buckets: waits.classic().collect(),
        }
    }

    /// The histograms.
    pub(super) fn durations(&self) -> impl Iterator<Item = Family> {
        [&self.wait, &self.hold, &self.node_seconds].into_iter().filter_map(DurationFamily::collect)
    }

    /// Makes the series of the nodes up to this number. `rate` does not see the first event of a series that begins
    /// with it.
    fn know_nodes(&self, nodes: usize) {
        let known = self.known_nodes.fetch_max(nodes, Ordering::Relaxed);
        for node in (known..nodes).map(node_label) {
            self.node_seconds.with(node);
            self.node_failures.with_label_values(&[node]);
            self.node_admissions.with_label_values(&[node]);
            for reason in EXCLUSIONS.map(exclusion_label) {
                self.node_exclusions.with_label_values(&[node, reason]);
            }
        }
    }

    fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        // Without `..`: a metric that is not registered does not compile.
        let Self {
            wait: _,
            waits: _,
            hold: _,
            holds: _,
            acquisitions,
            acquired: _,
            retries,
            leases_lost,
            node_seconds: _,
            known_nodes: _,
            node_failures,
            node_exclusions,
            node_admissions,
            nodes,
            nodes_voting,
        } = self;
        registry.register(Box::new(acquisitions.clone()))?;
        registry.register(Box::new(retries.clone()))?;
        registry.register(Box::new(leases_lost.clone()))?;
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
    /// Pairs: an upper bound in seconds, and how many waited no longer.
    // A tuple's `items: false` is refused by generators of clients.
    #[schema(value_type = Vec<Vec<f64>>, example = json!([[0.001, 40], [0.0025, 100], [0.005, 120]]))]
    buckets: Vec<(f64, u64)>,
}

impl Observer for LockMetrics {
    fn acquired(&self, outcome: AcquireOutcome, waited: Duration, rounds: u32) {
        let outcome = outcome_index(outcome);
        self.waits[outcome].observe(waited);
        self.acquired[outcome].inc();
        self.retries.inc_by(u64::from(rounds.saturating_sub(1)));
    }

    fn released(&self, held: Duration) {
        self.holds.observe(held);
    }

    fn lease_lost(&self) {
        self.leases_lost.inc();
    }

    fn node_voted(&self, node: usize, took: Duration, answered: bool) {
        let node = node_label(node);
        self.node_seconds.with(node).observe(took);
        if !answered {
            self.node_failures.with_label_values(&[node]).inc();
        }
    }

    fn quorum(&self, voting: usize, nodes: usize) {
        self.know_nodes(nodes);
        self.nodes_voting.set(i64::try_from(voting).unwrap_or(i64::MAX));
        self.nodes.set(i64::try_from(nodes).unwrap_or(i64::MAX));
    }

    fn node_excluded(&self, node: usize, why: Exclusion) {
        self.node_exclusions.with_label_values(&[node_label(node), exclusion_label(why)]).inc();
    }

    fn node_admitted(&self, node: usize) {
        self.node_admissions.with_label_values(&[node_label(node)]).inc();
    }
}

fn outcome_index(outcome: AcquireOutcome) -> usize {
    match outcome {
        AcquireOutcome::Acquired => 0,
        AcquireOutcome::Timeout => 1,
        AcquireOutcome::QuorumUnavailable => 2,
        AcquireOutcome::Interrupted => 3,
        AcquireOutcome::Invalid => 4,
    }
}

fn exclusion_label(why: Exclusion) -> &'static str {
    match why {
        Exclusion::Restarted => "restarted",
        Exclusion::ClockJumped => "clock_jumped",
        Exclusion::RefusesWrites => "refuses_writes",
        Exclusion::Damaged => "damaged",
    }
}

/// A sale has one node or five; those that a change of the membership adds are numbered on.
fn node_label(node: usize) -> &'static str {
    ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"].get(node).copied().unwrap_or("other")
}
