//! Waiting as data: a condition and a requeue.

use std::time::Duration;

/// The reason to wait, and the time of the next reconcile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady {
    /// `CamelCase`, one of a fixed set.
    pub reason: &'static str,
    /// The missing thing and its remedy.
    pub message: String,
    /// Delay of the next reconcile; absent: the sale waits for a change of its spec.
    pub requeue_after: Option<Duration>,
}
