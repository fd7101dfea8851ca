//! The moment from which a user waits.

use std::time::Duration;

use tokio::time::Instant;

/// The timer is late by its resolution. A user who comes that much later just comes later; more is a wait, and counts.
const TIMER: Duration = Duration::from_millis(2);

/// The moment when a user wanted to ask who was due then.
pub fn due_or_now(due: Instant) -> Instant {
    let now = Instant::now();
    if now.saturating_duration_since(due) <= TIMER { now } else { due }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_start_counts_as_a_wait() {
        let now = Instant::now();
        assert!(due_or_now(now) >= now);
        let late = now.checked_sub(Duration::from_secs(1)).unwrap();
        assert_eq!(due_or_now(late), late);
    }
}
