//! Counts the callers that wait for a resource and estimates the wait of the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The load of one queue.
#[derive(Debug)]
pub(super) struct Load {
    epoch: Instant,
    waiting: AtomicUsize,
    /// The moving average of a round, from the request for the lock to the end of the batch. 0: none yet.
    nanos_per_round: AtomicU64,
    /// When the last round began, in nanoseconds after the epoch.
    round_began: AtomicU64,
    /// A batch is being executed. Callers that arrive earlier still join it.
    is_executing: AtomicBool,
}

impl Load {
    /// No load.
    pub(super) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            waiting: AtomicUsize::new(0),
            nanos_per_round: AtomicU64::new(0),
            round_began: AtomicU64::new(0),
            is_executing: AtomicBool::new(false),
        }
    }

    /// The number of callers whose batch has not begun.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Counts one more caller; `None` if `limit` callers wait already.
    pub(super) fn try_enter(self: &Arc<Self>, limit: usize) -> Option<WaitingGuard> {
        let guard = WaitingGuard { load: Arc::clone(self), is_counted: AtomicBool::new(true) };
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        // A dropped guard is no longer counted.
        (before < limit).then_some(guard)
    }

    /// The expected wait of a caller that arrives now, until its batch begins: the rest of the present
    /// round, plus one round for each full batch that waits. Zero until a round was measured. The real
    /// wait is longer if other clients hold the lock in between.
    pub(super) fn expected_wait(&self, batch: usize) -> Duration {
        let round = self.nanos_per_round.load(Ordering::Relaxed);
        let rest = if self.is_executing.load(Ordering::Relaxed) {
            round.saturating_sub(self.round_so_far())
        } else {
            0
        };
        let rounds = (self.waiting() / batch.max(1)) as u64;
        Duration::from_nanos(rest.saturating_add(rounds.saturating_mul(round)))
    }

    /// A round begins with the request for the lock.
    pub(super) fn round_started(&self) {
        self.round_began.store(self.nanos(), Ordering::Relaxed);
    }

    /// The batch of the round begins.
    pub(super) fn batch_started(&self) {
        self.is_executing.store(true, Ordering::Relaxed);
    }

    /// The batch and the round are over.
    pub(super) fn round_ended(&self) {
        self.is_executing.store(false, Ordering::Relaxed);
        let took = self.round_so_far();
        let average = self.nanos_per_round.load(Ordering::Relaxed);
        // The average begins at zero, so a single round refuses a caller only if it took four times the
        // caller's wait.
        self.nanos_per_round.store(average - average / 4 + took / 4, Ordering::Relaxed);
    }

    fn round_so_far(&self) -> u64 {
        self.nanos().saturating_sub(self.round_began.load(Ordering::Relaxed))
    }

    fn nanos(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Counts one waiting caller until it leaves or is dropped.
#[derive(Debug)]
pub(super) struct WaitingGuard {
    load: Arc<Load>,
    is_counted: AtomicBool,
}

impl WaitingGuard {
    /// Ends the wait. Further calls do nothing.
    pub(super) fn leave(&self) {
        if self.is_counted.swap(false, Ordering::Relaxed) {
            self.load.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for WaitingGuard {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_callers_are_counted_up_to_the_limit() {
        let load = Arc::new(Load::new());
        let (one, two) = (load.try_enter(2).unwrap(), load.try_enter(2).unwrap());
        assert!(load.try_enter(2).is_none());
        one.leave();
        one.leave();
        drop(one);
        assert_eq!(load.waiting(), 1);
        drop(two);
        assert_eq!(load.waiting(), 0);
    }

    #[test]
    fn no_wait_is_expected_before_a_round_was_measured() {
        let load = Arc::new(Load::new());
        let _waiting: Vec<_> = (0..100).map(|_| load.try_enter(100).unwrap()).collect();
        assert_eq!(load.expected_wait(10), Duration::ZERO);
        load.round_started();
        load.batch_started();
        assert_eq!(load.expected_wait(10), Duration::ZERO);
    }

    #[test]
    fn each_waiting_full_batch_costs_a_round() {
        let load = Arc::new(Load::new());
        load.nanos_per_round.store(1_000, Ordering::Relaxed);
        assert_eq!(load.expected_wait(10), Duration::ZERO);
        let _waiting: Vec<_> = (0..25).map(|_| load.try_enter(100).unwrap()).collect();
        assert_eq!(load.expected_wait(10), Duration::from_micros(2));
        load.nanos_per_round.store(3_600_000_000_000, Ordering::Relaxed);
        load.round_started();
        assert_eq!(load.expected_wait(100), Duration::ZERO, "a new caller joins the batch");
        load.batch_started();
        assert!(load.expected_wait(100) > Duration::from_mins(59), "the rest of the round");
    }

    #[test]
    fn one_slow_round_is_soon_forgotten() {
        let load = Arc::new(Load::new());
        load.nanos_per_round.store(8_000_000_000, Ordering::Relaxed);
        for _ in 0..8 {
            load.round_started();
            load.batch_started();
            load.round_ended();
        }
        assert!(load.nanos_per_round.load(Ordering::Relaxed) < 1_000_000_000);
    }
}
