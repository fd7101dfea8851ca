//! What a user may want to measure, without this crate knowing any metrics library.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tracing::error;

use crate::AcquireError;

/// How an acquisition ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcquireOutcome {
    /// A majority voted in time.
    Acquired,
    /// Others held it for the whole wait.
    Timeout,
    /// No majority answered.
    QuorumUnavailable,
    /// What was to hold the lock panicked.
    Interrupted,
    /// It was refused before any node was asked: it can never be had so.
    Invalid,
}

impl<T> From<&Result<T, AcquireError>> for AcquireOutcome {
    fn from(result: &Result<T, AcquireError>) -> Self {
        result.as_ref().map_or_else(Self::from, |_| Self::Acquired)
    }
}

impl From<&AcquireError> for AcquireOutcome {
    fn from(error: &AcquireError) -> Self {
        match error {
            AcquireError::Timeout { .. } | AcquireError::Overloaded { .. } => Self::Timeout,
            AcquireError::QuorumUnavailable { .. } => Self::QuorumUnavailable,
            AcquireError::Interrupted => Self::Interrupted,
            AcquireError::LeaseTooLong { .. }
            | AcquireError::LeaseTooShort { .. }
            | AcquireError::BadConfig { .. }
            | AcquireError::BadNode { .. }
            | AcquireError::NoNodes => Self::Invalid,
        }
    }
}

/// Why a node is kept out of votes for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exclusion {
    /// It restarted: it may have forgotten locks and counters.
    Restarted,
    /// Its clock jumped: its locks may have ended too early.
    ClockJumped,
    /// It answers and takes no writes: its memory is full, its disk fails, it is a replica. It votes
    /// again as soon as it takes them.
    RefusesWrites,
    /// A key of it held something else than the lock writes there, and was repaired. Where that was
    /// something that no node may forget, it is kept out as if it had restarted.
    Damaged,
}

/// Is told what the lock does. Every method is called on a hot path and must not block.
///
/// Nodes are numbered in the order in which this client heard of them, from 0: as configured, then
/// those that a change of the membership added.
pub trait Observer: Send + Sync + 'static {
    /// An acquisition ended after this wait and so many rounds of votes; all but the first are
    /// retries.
    fn acquired(&self, _outcome: AcquireOutcome, _waited: Duration, _rounds: u32) {}
    /// A lease was released after this time.
    fn released(&self, _held: Duration) {}
    /// A lease ended before it was released; [`crate::Lease::lost`] fires.
    fn lease_lost(&self) {}
    /// A node answered a vote, or did not within its timeout.
    fn node_voted(&self, _node: usize, _took: Duration, _answered: bool) {}
    /// So many of so many nodes may vote now. Told again and again.
    fn quorum(&self, _voting: usize, _nodes: usize) {}
    /// A node is kept out of votes.
    fn node_excluded(&self, _node: usize, _why: Exclusion) {}
    /// A node that had restarted, or forgot, may vote again.
    fn node_admitted(&self, _node: usize) {}
}

/// Keeps an observer's panics from the tasks that look after the lock: it is told of everything on
/// the way, and a task that ended would never be begun again.
pub(crate) struct Shielded(pub(crate) Arc<dyn Observer>);

impl Shielded {
    fn tell(&self, tell: impl FnOnce(&dyn Observer)) {
        if catch_unwind(AssertUnwindSafe(|| tell(&*self.0))).is_err() {
            error!("the observer of the lock panicked");
        }
    }
}

impl Observer for Shielded {
    fn acquired(&self, outcome: AcquireOutcome, waited: Duration, rounds: u32) {
        self.tell(|observer| observer.acquired(outcome, waited, rounds));
    }

    fn released(&self, held: Duration) {
        self.tell(|observer| observer.released(held));
    }

    fn lease_lost(&self) {
        self.tell(Observer::lease_lost);
    }

    fn node_voted(&self, node: usize, took: Duration, answered: bool) {
        self.tell(|observer| observer.node_voted(node, took, answered));
    }

    fn quorum(&self, voting: usize, nodes: usize) {
        self.tell(|observer| observer.quorum(voting, nodes));
    }

    fn node_excluded(&self, node: usize, why: Exclusion) {
        self.tell(|observer| observer.node_excluded(node, why));
    }

    fn node_admitted(&self, node: usize) {
        self.tell(|observer| observer.node_admitted(node));
    }
}

/// Observes nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unobserved;

impl Observer for Unobserved {}
