//! Durations that a user chose, and how far a lease can be trusted.

use std::time::{Duration, Instant};

/// The longest duration that counts: a year. Longer than any useful wait or lease, and short enough to
/// be added to any instant.
const LONGEST_DURATION: Duration = Duration::from_hours(24 * 365);
/// How much faster the clock of a node may run than the client's.
const DRIFT_FACTOR: f64 = 0.01;
/// The resolution of Redis's expiry.
const DRIFT_FIXED: Duration = Duration::from_millis(2);

/// Limits a duration of the user's, so that sums and products with it cannot overflow.
pub(crate) fn bounded(duration: Duration) -> Duration {
    duration.min(LONGEST_DURATION)
}

/// The instant after a duration of the user's. `Instant + Duration` panics on overflow.
pub(crate) fn after(start: Instant, duration: Duration) -> Instant {
    start + bounded(duration)
}

/// How long this process can rely on a lease, by its own clock.
pub(crate) fn usable(lease_time: Duration) -> Duration {
    lease_time.saturating_sub(lease_time.mul_f64(DRIFT_FACTOR) + DRIFT_FIXED)
}
