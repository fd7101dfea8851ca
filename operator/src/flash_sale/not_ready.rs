//! Waiting as data.

use std::time::Duration;

/// Why a sale can't go on, and when to look again. Becomes a condition and a requeue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady {
    /// `CamelCase`, one of a fixed set.
    pub reason: &'static str,
    /// What is missing and what to do about it.
    pub message: String,
    /// Absent: only a change of the sale helps.
    pub requeue_after: Option<Duration>,
}
