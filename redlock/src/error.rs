//! Why a lock was not acquired, or a set of nodes not accepted.

use std::time::Duration;

use crate::AcquireOutcome;

/// Why [`crate::Redlock::acquire`] gave up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AcquireError {
    /// Others held the lock for the whole wait.
    #[error("the lock was held by others for {waited:?}")]
    Timeout {
        /// How long the caller waited.
        waited: Duration,
    },
    /// Fewer nodes than a majority answered, for the whole wait.
    #[error("{reachable} of {nodes} lock nodes answer, {quorum} are needed")]
    QuorumUnavailable {
        /// Nodes that answered in the last round.
        reachable: usize,
        /// All nodes.
        nodes: usize,
        /// The majority.
        quorum: usize,
    },
    /// Too many callers wait in the fair line.
    #[error("the line is full, the expected wait is {expected_wait:?}")]
    Overloaded {
        /// How long those in the line will have to wait, from the last leases.
        expected_wait: Duration,
    },
    /// What ran under the lock, or waited for it, panicked; the lock is released.
    #[error("what held the lock or waited for it ended without a result")]
    Interrupted,
    /// A lease may not be longer than what nodes are kept out for after a restart.
    #[error("a lease of {lease_time:?} is longer than the longest allowed, {longest:?}")]
    LeaseTooLong {
        /// What was asked for.
        lease_time: Duration,
        /// [`crate::Config::longest_lease`].
        longest: Duration,
    },
    /// A lease must last a millisecond at least.
    #[error("a lease of {lease_time:?} is shorter than the shortest allowed, {shortest:?}")]
    LeaseTooShort {
        /// What was asked for.
        lease_time: Duration,
        /// [`crate::SHORTEST_LEASE`].
        shortest: Duration,
    },
    /// A setting of [`crate::Config`] with which nothing can ever be locked.
    #[error("{field} {rule}")]
    BadConfig {
        /// The setting.
        field: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// The nodes' addresses cannot be used.
    #[error("lock node {index}: {reason}")]
    BadNode {
        /// Position in the configuration, from 0.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// There are no nodes at all.
    #[error("no lock nodes are configured")]
    NoNodes,
}

impl AcquireError {
    /// Whether it was asked for what can never be had; to try again is of no use.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        AcquireOutcome::from(self) == AcquireOutcome::Invalid
    }
}

/// Why [`crate::Lease::extend`] did not extend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExtendError {
    /// The lease was over already; others may have held the lock since.
    #[error("the lease is over")]
    Expired,
    /// No majority has held the lock for this lease without a break.
    #[error("{extended} of {nodes} lock nodes still hold the lease, {quorum} are needed")]
    NoQuorum {
        /// Nodes that extended it.
        extended: usize,
        /// All nodes.
        nodes: usize,
        /// The majority.
        quorum: usize,
    },
    /// As [`AcquireError::LeaseTooLong`].
    #[error("a lease of {lease_time:?} is longer than the longest allowed, {longest:?}")]
    LeaseTooLong {
        /// What was asked for.
        lease_time: Duration,
        /// [`crate::Config::longest_lease`].
        longest: Duration,
    },
    /// As [`AcquireError::LeaseTooShort`].
    #[error("a lease of {lease_time:?} is shorter than the shortest allowed, {shortest:?}")]
    LeaseTooShort {
        /// What was asked for.
        lease_time: Duration,
        /// [`crate::SHORTEST_LEASE`].
        shortest: Duration,
    },
}

/// Why [`crate::Redlock::change_members`] did not come to an end. Nothing is broken by that: the
/// nodes stay as they are, or in between, and the same call goes on from there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The nodes to come cannot be used.
    #[error(transparent)]
    BadNodes(AcquireError),
    /// The change is guarded by the lock itself.
    #[error("cannot lock the membership: {0}")]
    Lock(AcquireError),
    /// The lock was lost on the way, so another change may have begun. The same call tries again.
    #[error("the lock on the membership was lost: {0}")]
    LockLost(ExtendError),
    /// Another change has begun and must be ended first.
    #[error("a change to {0:?} is under way: end it first")]
    InProgress(Vec<String>),
    /// Too few nodes of the present set or of the set to come took part.
    #[error("no majority of the present nodes and of those to come answers")]
    NoQuorum,
}
