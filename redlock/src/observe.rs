//! The interface to metrics. This crate knows no metrics library.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tracing::error;

use crate::error::AcquireOutcome;

/// Why a node is excluded from votes for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exclusion {
    /// The node restarted and may have lost locks and counters.
    Restarted,
    /// The node's clock jumped, so its locks may have expired too early.
    ClockJumped,
    /// The node answers but refuses writes: its memory is full, its disk fails, or it is a replica. It
    /// votes again as soon as it accepts a write.
    RefusesWrites,
    /// A key of the node had a content that the lock does not write, and was repaired. If no node may
    /// forget that key, the node is excluded as after a restart.
    Damaged,
}

/// Receives the events of a lock. The methods are called on hot paths and must not block.
///
/// Nodes are numbered from 0 in the order in which this client learned of them: the configured nodes
/// first, then those that a change of the membership added.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use std::time::Duration;
///
/// use redlock::{AcquireOutcome, Observer, Redlock};
/// # use redlock::{Config, NodeConfig, Policy};
///
/// #[derive(Default)]
/// struct Acquisitions(AtomicU32);
///
/// impl Observer for Acquisitions {
///     fn acquired(&self, outcome: AcquireOutcome, _waited: Duration, _rounds: u32) {
///         if outcome == AcquireOutcome::Acquired {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let servers = testkit::RedisServer::start_many(3)?;
/// # let nodes = servers.iter().map(|server| NodeConfig { address: server.address(), password: None });
/// # let config = Config { node_timeout: Duration::from_secs(5), ..Config::new(nodes.collect()) };
/// # let policy = Policy { wait_timeout: Duration::from_secs(20), ..Policy::default() };
/// let acquisitions = Arc::new(Acquisitions::default());
/// let redlock = Redlock::start_observed(&config, acquisitions.clone())?;
/// redlock.acquire("stock:1", policy).await?.release().await;
/// assert_eq!(acquisitions.0.load(Ordering::Relaxed), 1);
/// # Ok(())
/// # }
/// ```
pub trait Observer: Send + Sync + 'static {
    /// An acquisition ended after this wait and this number of rounds of votes. All rounds but the first
    /// are retries.
    fn acquired(&self, _outcome: AcquireOutcome, _waited: Duration, _rounds: u32) {}
    /// A lease was released after this time.
    fn released(&self, _held: Duration) {}
    /// A lease ended before it was released; [`crate::Lease::lost`] fires.
    fn lease_lost(&self) {}
    /// A node answered a vote, or did not answer within its time-out.
    fn node_voted(&self, _node: usize, _took: Duration, _answered: bool) {}
    /// The number of nodes that may vote now, and of all nodes. Called also when neither has changed.
    fn quorum(&self, _voting: usize, _nodes: usize) {}
    /// A node was excluded from votes.
    fn node_excluded(&self, _node: usize, _why: Exclusion) {}
    /// A node that had restarted or lost its data may vote again.
    fn node_admitted(&self, _node: usize) {}
}

/// Catches an observer's panics, which would otherwise end the tasks that call it.
pub(crate) struct PanicSafeObserver(pub(crate) Arc<dyn Observer>);

impl PanicSafeObserver {
    fn call(&self, call: impl FnOnce(&dyn Observer)) {
        if catch_unwind(AssertUnwindSafe(|| call(&*self.0))).is_err() {
            error!("the observer of the lock panicked");
        }
    }
}

impl Observer for PanicSafeObserver {
    fn acquired(&self, outcome: AcquireOutcome, waited: Duration, rounds: u32) {
        self.call(|observer| observer.acquired(outcome, waited, rounds));
    }

    fn released(&self, held: Duration) {
        self.call(|observer| observer.released(held));
    }

    fn lease_lost(&self) {
        self.call(Observer::lease_lost);
    }

    fn node_voted(&self, node: usize, took: Duration, answered: bool) {
        self.call(|observer| observer.node_voted(node, took, answered));
    }

    fn quorum(&self, voting: usize, nodes: usize) {
        self.call(|observer| observer.quorum(voting, nodes));
    }

    fn node_excluded(&self, node: usize, why: Exclusion) {
        self.call(|observer| observer.node_excluded(node, why));
    }

    fn node_admitted(&self, node: usize) {
        self.call(|observer| observer.node_admitted(node));
    }
}

/// Ignores all events.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoopObserver;

impl Observer for NoopObserver {}
