//! How many wait for a resource, and for how long the next one would.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The load of one queue.
#[derive(Debug)]
pub(super) struct Load {
    epoch: Instant,
    waiting: AtomicUsize,
    /// A moving average of a round: from asking for the lock to the end of the batch. 0: none yet.
    nanos_per_round: AtomicU64,
    /// When the lock was last asked for, in nanoseconds after the epoch.
    round_began: AtomicU64,
    /// A batch has begun; until then whoever comes still belongs to it.
    executes: AtomicBool,
}

impl Load {
    pub(super) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            waiting: AtomicUsize::new(0),
            nanos_per_round: AtomicU64::new(0),
            round_began: AtomicU64::new(0),
            executes: AtomicBool::new(false),
        }
    }

    /// How many wait whose batch has not begun.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// One more waits; `None`: so many do already.
    pub(super) fn enter(self: &Arc<Self>, most: usize) -> Option<Place> {
        let place = Place { load: Arc::clone(self), is_counted: AtomicBool::new(true) };
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        // Dropped, it is not counted any more.
        (before < most).then_some(place)
    }

    /// Until a batch begins for one who comes now: the rest of the round under way, and a round for
    /// each full batch that waits. Less than it will be where other clients have their turns in
    /// between; none as long as no round was measured.
    pub(super) fn expected_wait(&self, batch: usize) -> Duration {
        let round = self.nanos_per_round.load(Ordering::Relaxed);
        let rest = if self.executes.load(Ordering::Relaxed) {
            round.saturating_sub(self.round_so_far())
        } else {
            0
        };
        let rounds = (self.waiting() / batch.max(1)) as u64;
        Duration::from_nanos(rest.saturating_add(rounds.saturating_mul(round)))
    }

    /// A round begins: the lock is asked for.
    pub(super) fn ask(&self) {
        self.round_began.store(self.nanos(), Ordering::Relaxed);
    }

    /// Its batch begins.
    pub(super) fn execute(&self) {
        self.executes.store(true, Ordering::Relaxed);
    }

    /// It came to its end.
    pub(super) fn end(&self) {
        self.executes.store(false, Ordering::Relaxed);
        let took = self.round_so_far();
        let average = self.nanos_per_round.load(Ordering::Relaxed);
        // Begun from zero: the first round alone refuses nobody that it would not keep waiting for
        // four times as long.
        self.nanos_per_round.store(average - average / 4 + took / 4, Ordering::Relaxed);
    }

    fn round_so_far(&self) -> u64 {
        self.nanos().saturating_sub(self.round_began.load(Ordering::Relaxed))
    }

    fn nanos(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Counts as waiting until it is dropped, or has left.
#[derive(Debug)]
pub(super) struct Place {
    load: Arc<Load>,
    is_counted: AtomicBool,
}

impl Place {
    pub(super) fn leave(&self) {
        if self.is_counted.swap(false, Ordering::Relaxed) {
            self.load.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_callers_are_counted_up_to_the_bound() {
        let load = Arc::new(Load::new());
        let (one, two) = (load.enter(2).unwrap(), load.enter(2).unwrap());
        assert!(load.enter(2).is_none());
        one.leave();
        one.leave();
        drop(one);
        assert_eq!(load.waiting(), 1);
        drop(two);
        assert_eq!(load.waiting(), 0);
    }

    #[test]
    fn nothing_is_expected_before_a_round_was_measured() {
        let load = Arc::new(Load::new());
        let _places: Vec<_> = (0..100).map(|_| load.enter(100).unwrap()).collect();
        assert_eq!(load.expected_wait(10), Duration::ZERO);
        load.ask();
        load.execute();
        assert_eq!(load.expected_wait(10), Duration::ZERO);
    }

    #[test]
    fn each_full_batch_that_waits_costs_a_round() {
        let load = Arc::new(Load::new());
        load.nanos_per_round.store(1_000, Ordering::Relaxed);
        assert_eq!(load.expected_wait(10), Duration::ZERO);
        let _places: Vec<_> = (0..25).map(|_| load.enter(100).unwrap()).collect();
        assert_eq!(load.expected_wait(10), Duration::from_micros(2));
        load.nanos_per_round.store(3_600_000_000_000, Ordering::Relaxed);
        load.ask();
        assert_eq!(load.expected_wait(100), Duration::ZERO, "who comes now belongs to it");
        load.execute();
        assert!(load.expected_wait(100) > Duration::from_mins(59), "the round under way");
    }

    #[test]
    fn one_slow_round_is_soon_forgotten() {
        let load = Arc::new(Load::new());
        load.nanos_per_round.store(8_000_000_000, Ordering::Relaxed);
        for _ in 0..8 {
            load.ask();
            load.execute();
            load.end();
        }
        assert!(load.nanos_per_round.load(Ordering::Relaxed) < 1_000_000_000);
    }
}
