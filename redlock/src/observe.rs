//! What a user may want to measure, without this crate knowing any metrics library.

use std::time::Duration;

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
}

impl<T> From<&Result<T, AcquireError>> for AcquireOutcome {
    fn from(result: &Result<T, AcquireError>) -> Self {
        match result {
            Ok(_) => Self::Acquired,
            Err(AcquireError::Timeout { .. }) => Self::Timeout,
            Err(_) => Self::QuorumUnavailable,
        }
    }
}

/// Is told what the lock does. Every method is called on a hot path and must not block.
pub trait Observer: Send + Sync + 'static {
    /// An acquisition ended after this wait.
    fn acquired(&self, _outcome: AcquireOutcome, _waited: Duration) {}
    /// A lease was released after this time.
    fn released(&self, _held: Duration) {}
    /// A node (by its index) answered a vote, or did not within its timeout.
    fn node_voted(&self, _node: usize, _took: Duration, _answered: bool) {}
}

/// Observes nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unobserved;

impl Observer for Unobserved {}
