//! Whether a node's clock runs as ours does.
//!
//! A node's locks expire by its wall clock. If that jumps, they end too early or too late, so a
//! node that jumped is left out. What is compared is how the node's `TIME` moves against this
//! process's monotonic clock, never the two readings themselves.

use std::time::{Duration, Instant};

/// Longer than any wait or lease that is meant, and an instant can be reckoned that far ahead.
const FOREVER: Duration = Duration::from_hours(24 * 365);

/// A duration of the user's, as far as can be reckoned: nothing is added to it or multiplied before.
pub(crate) fn bounded(duration: Duration) -> Duration {
    duration.min(FOREVER)
}

/// So long after an instant; `Instant + Duration` panics where that is too far ahead.
pub(crate) fn after(start: Instant, duration: Duration) -> Instant {
    start + bounded(duration)
}

/// What no sample can tell from a jump: scheduling, slewing by NTP. In microseconds.
const TOLERANCE: i64 = 50_000;
/// A sound clock runs faster or slower by no more than one part in so many.
const DRIFT: i64 = 100;

/// One reading of a node's clock; it was taken between the two instants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) asked: Instant,
    pub(crate) answered: Instant,
    /// Microseconds since the Unix epoch.
    pub(crate) micros: i64,
}

/// A node's clock as its samples show it.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    last: Option<Sample>,
}

impl Clock {
    /// Takes in a sample and says by how many microseconds the clock jumped since the last one
    /// (negative: backwards). After a jump the new time counts.
    pub(crate) fn jumped(&mut self, sample: Sample) -> Option<i64> {
        let last = self.last.replace(sample)?;
        let moved = sample.micros - last.micros;
        // The answers come in any order, and each reading was taken at some time in its interval.
        let at_least = micros_between(last.answered, sample.asked);
        let at_most = micros_between(last.asked, sample.answered);
        let tolerance = TOLERANCE + at_most.abs() / DRIFT;
        if moved > at_most + tolerance {
            Some(moved - at_most)
        } else if moved < at_least - tolerance {
            Some(moved - at_least)
        } else {
            None
        }
    }
}

fn micros_between(earlier: Instant, later: Instant) -> i64 {
    let micros = |ahead: Duration| i64::try_from(ahead.as_micros()).unwrap_or(i64::MAX);
    match later.checked_duration_since(earlier) {
        Some(ahead) => micros(ahead),
        None => -micros(earlier.duration_since(later)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asked and answered at these milliseconds of ours, the node said those of its own.
    fn jump(samples: [(u64, u64, i64); 2]) -> Option<i64> {
        let start = Instant::now();
        let mut clock = Clock::default();
        let [first, second] = samples.map(|(asked, answered, millis)| Sample {
            asked: start + Duration::from_millis(asked),
            answered: start + Duration::from_millis(answered),
            micros: 1_700_000_000_000_000 + millis * 1000,
        });
        assert_eq!(clock.jumped(first), None);
        clock.jumped(second)
    }

    #[test]
    fn a_sound_clock_does_not_jump() {
        assert_eq!(jump([(0, 1, 0), (500, 501, 500)]), None);
        assert_eq!(jump([(0, 1, 0), (10_000, 10_001, 10_090)]), None, "within the drift");
        assert_eq!(jump([(500, 501, 500), (0, 1, 0)]), None, "samples out of order");
    }

    #[test]
    fn an_answer_that_took_long_is_not_a_jump() {
        assert_eq!(jump([(0, 1, 0), (500, 5_000, 700)]), None);
        assert_eq!(jump([(0, 4_000, 3_900), (4_100, 4_101, 4_100)]), None);
    }

    #[test]
    fn a_jump_either_way_is_seen() {
        assert!(jump([(0, 1, 0), (500, 501, 3_500)]).is_some_and(|by| by > 2_900_000));
        assert!(jump([(0, 1, 0), (500, 501, -2_500)]).is_some_and(|by| by < -2_800_000));
        assert!(jump([(0, 1, 0), (500, 501, 600)]).is_some(), "a tenth of a second");
    }
}
