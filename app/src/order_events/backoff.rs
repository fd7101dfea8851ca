//! When an attempt is repeated: of one event, and of all events of a sink that takes none.

use std::time::Duration;

use tokio::time::Instant;

/// After the first failed attempt of an event. Each further pause is four times as long.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_hours(4);
/// New events that must fail in a row, with no success between them, until the sink counts as away.
const AWAY_AFTER: u32 = 5;
/// The first pause of a sink that is away. Each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The time until the next attempt of an event, after this many that failed before.
pub(super) fn retry_in(failed_before: i64) -> Duration {
    let doublings = u32::try_from(failed_before.clamp(0, 10)).unwrap_or(10) * 2;
    jittered((FIRST_RETRY * 2_u32.pow(doublings)).min(LONGEST_RETRY))
}

/// A fifth shorter or longer: events that failed together are not sent together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.8..1.2))
}

/// Keeps attempts from a sink that takes no events: then one event is sent at a time, with pauses. An event that
/// alone is not taken holds up no others.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// New events that failed in a row.
    failed: u32,
    /// Pauses in a row; 0: the sink is not away.
    pauses: u32,
    /// Nothing is sent before.
    until: Option<Instant>,
    /// The same, because the receiver asked for it.
    asked_until: Option<Instant>,
}

impl Breaker {
    /// Whether events are sent one at a time.
    pub(super) fn is_away(&self) -> bool {
        self.pauses > 0
    }

    /// How many of `most` events may be under way now.
    pub(super) fn allowed(&self, most: usize, now: Instant) -> usize {
        match self.until.max(self.asked_until) {
            Some(until) if now < until => 0,
            _ if self.is_away() => 1,
            _ => most,
        }
    }

    /// An event was taken. Returns whether the sink was away.
    pub(super) fn succeeded(&mut self) -> bool {
        let asked_until = self.asked_until;
        std::mem::replace(self, Self { asked_until, ..Self::default() }).is_away()
    }

    /// An attempt failed: the first one of an event, or a repeated one.
    pub(super) fn failed(&mut self, is_first: bool, retry_after: Option<Duration>, now: Instant) {
        if let Some(pause) = retry_after {
            self.asked_until = self.asked_until.max(Some(now + pause));
        }
        self.failed += u32::from(is_first);
        let is_paused = self.until.max(self.asked_until).is_some_and(|until| now < until);
        if self.failed >= AWAY_AFTER || self.is_away() {
            self.pauses = self.pauses.max(1);
            if !is_paused {
                let pause = FIRST_PAUSE * 2_u32.pow((self.pauses - 1).min(10));
                self.until = Some(now + jittered(pause.min(LONGEST_PAUSE)));
                self.pauses += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_hours_so_that_three_days_have_some_two_dozen_attempts() {
        let (mut waited, mut attempts) = (Duration::ZERO, 0);
        while waited < Duration::from_hours(72) {
            let pause = retry_in(attempts);
            assert!(pause <= LONGEST_RETRY.mul_f64(1.2), "{pause:?}");
            waited += pause;
            attempts += 1;
        }
        assert!((20..35).contains(&attempts), "{attempts}");
        assert!(retry_in(0) < Duration::from_millis(1_201));
    }

    #[test]
    fn a_sink_that_takes_nothing_gets_one_event_after_each_pause() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        for _ in 0..4 {
            breaker.failed(true, None, now);
        }
        assert_eq!(breaker.allowed(64, now), 64);
        breaker.failed(true, None, now);
        let first = breaker.until.unwrap();
        // Those that were under way.
        for _ in 0..60 {
            breaker.failed(true, None, now);
        }
        assert_eq!((breaker.allowed(64, now), breaker.until), (0, Some(first)));
        for _ in 0..20 {
            now = breaker.until.unwrap();
            assert_eq!(breaker.allowed(64, now), 1);
            breaker.failed(false, None, now);
            let pause = breaker.until.unwrap() - now;
            assert!(pause <= LONGEST_PAUSE.mul_f64(1.2), "{pause:?}");
        }
        assert!(breaker.succeeded());
        assert_eq!(breaker.allowed(64, now), 64);
    }

    #[test]
    fn an_event_that_is_never_taken_stops_no_others() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..100 {
            breaker.failed(false, None, now);
        }
        assert_eq!(breaker.allowed(64, now), 64);
    }

    #[test]
    fn a_receiver_can_ask_for_a_pause() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        let pause = Duration::from_secs(20);
        breaker.failed(true, Some(pause), now);
        breaker.failed(true, Some(pause / 2), now);
        // An event that was under way is taken.
        assert!(!breaker.succeeded());
        assert_eq!(breaker.allowed(64, now + pause / 2), 0);
        assert_eq!(breaker.allowed(64, now + pause), 64);
    }
}
