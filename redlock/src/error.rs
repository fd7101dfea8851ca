//! Why a lock was not acquired, or a set of nodes not accepted.

use std::time::Duration;

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
