//! Whether a statement that decides at once had to leave its work to the rules lately.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// After orders that the rules had to decide, the next ones go to the rules at once for this long.
const LEFT_TO_THE_RULES: Duration = Duration::from_millis(500);

/// Whether the rules had to decide lately.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<Option<Instant>>);

impl Refusals {
    pub(crate) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    pub(crate) fn were_lately(&self) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|at| at.elapsed() < LEFT_TO_THE_RULES)
    }
}
