//! Why a call of this crate failed, and how an acquisition ended.

use std::time::Duration;

/// Why [`crate::Redlock::acquire`] failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AcquireError {
    /// Others held the lock for the whole wait.
    #[error("the lock was held by others for {waited:?}")]
    Timeout {
        /// How long the caller waited.
        waited: Duration,
    },
    /// No majority of the nodes answered during the whole wait.
    #[error("{reachable} of {nodes} lock nodes answer, {quorum} are needed")]
    QuorumUnavailable {
        /// The number of nodes that answered in the last round.
        reachable: usize,
        /// The number of all nodes.
        nodes: usize,
        /// The majority.
        quorum: usize,
    },
    /// The queue of this client is full, in fair order.
    #[error("the queue is full, the expected wait is {expected_wait:?}")]
    Overloaded {
        /// The expected wait of the callers in the queue, from the duration of the last leases.
        expected_wait: Duration,
    },
    /// A section that ran under the lock, or a task that waited for the lock, panicked. The lock is
    /// released.
    #[error("the task that held or awaited the lock ended without a result")]
    Interrupted,
    /// The lease is longer than [`crate::Config::longest_lease`].
    #[error("a lease of {lease_time:?} is longer than the longest allowed, {longest:?}")]
    LeaseTooLong {
        /// The requested lease.
        lease_time: Duration,
        /// [`crate::Config::longest_lease`].
        longest: Duration,
    },
    /// The lease is shorter than [`crate::SHORTEST_LEASE`].
    #[error("a lease of {lease_time:?} is shorter than the shortest allowed, {shortest:?}")]
    LeaseTooShort {
        /// The requested lease.
        lease_time: Duration,
        /// [`crate::SHORTEST_LEASE`].
        shortest: Duration,
    },
    /// A setting of [`crate::Config`] rules out every lock.
    #[error("{field} {rule}")]
    BadConfig {
        /// The setting.
        field: &'static str,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// The address of a node cannot be used.
    #[error("lock node {index}: {reason}")]
    BadNode {
        /// The node's position in the configuration, from 0.
        index: usize,
        /// What is wrong with the address.
        reason: String,
    },
    /// No node is configured.
    #[error("no lock nodes are configured")]
    NoNodes,
}

impl AcquireError {
    /// Whether the same call fails every time, so that a retry is useless.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        AcquireOutcome::from(self) == AcquireOutcome::Invalid
    }
}

/// How an acquisition ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcquireOutcome {
    /// A majority granted the lock in time.
    Acquired,
    /// Others held the lock for the whole wait.
    Timeout,
    /// No majority answered.
    QuorumUnavailable,
    /// The section under the lock panicked.
    Interrupted,
    /// The call can never succeed. It failed before any node was asked.
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

/// Why [`crate::Lease::extend`] failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExtendError {
    /// The lease had expired; another client may have held the lock since.
    #[error("the lease is over")]
    Expired,
    /// No majority has held the lock for this lease without a break.
    #[error("{extended} of {nodes} lock nodes still hold the lease, {quorum} are needed")]
    NoQuorum {
        /// The number of nodes that extended the lease.
        extended: usize,
        /// The number of all nodes.
        nodes: usize,
        /// The majority.
        quorum: usize,
    },
    /// As [`AcquireError::LeaseTooLong`].
    #[error("a lease of {lease_time:?} is longer than the longest allowed, {longest:?}")]
    LeaseTooLong {
        /// The requested lease.
        lease_time: Duration,
        /// [`crate::Config::longest_lease`].
        longest: Duration,
    },
    /// As [`AcquireError::LeaseTooShort`].
    #[error("a lease of {lease_time:?} is shorter than the shortest allowed, {shortest:?}")]
    LeaseTooShort {
        /// The requested lease.
        lease_time: Duration,
        /// [`crate::SHORTEST_LEASE`].
        shortest: Duration,
    },
}

/// Why [`crate::Redlock::change_members`] failed. The nodes keep their membership or the joint one, the
/// lock stays usable, and the same call resumes the change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The future nodes cannot be used.
    #[error(transparent)]
    BadNodes(AcquireError),
    /// The lock that guards the membership was not acquired.
    #[error("cannot lock the membership: {0}")]
    Lock(AcquireError),
    /// The lock was lost during the change, so another change may have begun. The same call retries.
    #[error("the lock on the membership was lost: {0}")]
    LockLost(ExtendError),
    /// Another change has begun and must be completed first.
    #[error("a change to {0:?} is in progress: complete it first")]
    InProgress(Vec<String>),
    /// No majority of the present or of the future nodes took part.
    #[error("no majority of the present nodes and of the future nodes answers")]
    NoQuorum,
}
