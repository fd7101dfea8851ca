//! Whether something happened lately.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const LATELY: Duration = Duration::from_millis(500);

/// When something happened last, such as a purchase that an attempt to decide at once could not decide: for half a second,
/// the next attempts are left out.
#[derive(Debug, Default)]
pub struct Lately(Mutex<Option<Instant>>);

impl Lately {
    /// It happens now.
    pub fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether it happened in the last half second.
    pub fn is_noted(&self) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|at| at.elapsed() < LATELY)
    }
}
