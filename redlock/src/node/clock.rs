//! Detects jumps of a node's clock.
//!
//! A node's locks expire by its wall clock. After a jump they expire too early or too late, so such a
//! node is excluded. The detector compares how far the node's `TIME` moves with how far this process's
//! monotonic clock moves; it never compares the two readings themselves.

use std::time::{Duration, Instant};

/// Differences up to this many microseconds are not jumps: they come from scheduling and from NTP.
const TOLERANCE_MICROS: i64 = 50_000;
/// A sound clock drifts by at most 1 / `MAX_DRIFT`.
const MAX_DRIFT: i64 = 100;

/// One reading of a node's clock, taken between two instants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClockSample {
    /// When the request was sent.
    pub(crate) sent: Instant,
    /// When the reply arrived.
    pub(crate) received: Instant,
    /// Microseconds since the Unix epoch.
    pub(crate) micros: i64,
}

/// The last sample of a node's clock.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    last: Option<ClockSample>,
}

impl Clock {
    /// Records a sample. Returns by how many microseconds the clock jumped since the last sample
    /// (negative: backwards). After a jump the new time counts.
    pub(crate) fn jumped(&mut self, sample: ClockSample) -> Option<i64> {
        let last = self.last.replace(sample)?;
        let moved = sample.micros - last.micros;
        // Replies arrive in any order, and each reading was taken at some time in its interval.
        let at_least = micros_between(last.received, sample.sent);
        let at_most = micros_between(last.sent, sample.received);
        let tolerance = TOLERANCE_MICROS + at_most.abs() / MAX_DRIFT;
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

    /// Two samples: sent and received in milliseconds of this process, read in those of the node.
    fn jump(samples: [(u64, u64, i64); 2]) -> Option<i64> {
        let start = Instant::now();
        let mut clock = Clock::default();
        let [first, second] = samples.map(|(sent, received, millis)| ClockSample {
            sent: start + Duration::from_millis(sent),
            received: start + Duration::from_millis(received),
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
    fn a_slow_reply_is_not_a_jump() {
        assert_eq!(jump([(0, 1, 0), (500, 5_000, 700)]), None);
        assert_eq!(jump([(0, 4_000, 3_900), (4_100, 4_101, 4_100)]), None);
    }

    #[test]
    fn a_jump_in_either_direction_is_detected() {
        assert!(jump([(0, 1, 0), (500, 501, 3_500)]).is_some_and(|by| by > 2_900_000));
        assert!(jump([(0, 1, 0), (500, 501, -2_500)]).is_some_and(|by| by < -2_800_000));
        assert!(jump([(0, 1, 0), (500, 501, 600)]).is_some(), "a tenth of a second");
    }
}
