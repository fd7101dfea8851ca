//! Why an attempt to send an event failed.

use std::error::Error;
use std::time::Duration;

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AttemptError {
    /// For the administrator. It has no key.
    pub(super) text: String,
    /// When the receiver wants the next attempt.
    pub(super) retry_after: Option<Duration>,
    /// The receiver wants no events any more.
    pub(super) is_gone: bool,
}

impl AttemptError {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), retry_after: None, is_gone: false }
    }

    /// With the causes of the error.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Self {
        let causes = std::iter::successors(Some(error), |&error| error.source());
        Self::new(causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
    }
}
