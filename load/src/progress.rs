//! How far a run is: the users of this pod, and what the other pods say of theirs.

mod display;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::display::{ProgressDisplay, State};
use crate::buyers::buyer::BuyerResult;
use crate::observed::Outcome;

/// Numbers of users.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Users that started
    pub came: u32,
    /// Users that are done
    pub done: u32,
    /// Of them: who bought
    pub sold: u32,
    /// Of them: who got no final answer
    pub unanswered: u32,
    /// The longest response time in microseconds
    pub slowest_us: u64,
}

impl Counts {
    fn and(self, other: &Self) -> Self {
        Self {
            came: self.came + other.came,
            done: self.done + other.done,
            sold: self.sold + other.sold,
            unanswered: self.unanswered + other.unanswered,
            slowest_us: self.slowest_us.max(other.slowest_us),
        }
    }
}

/// Counters that all users of a pod share.
#[derive(Debug, Default)]
pub struct Progress {
    came: AtomicU32,
    done: AtomicU32,
    sold: AtomicU32,
    unanswered: AtomicU32,
    slowest_us: AtomicU64,
    others: Mutex<BTreeMap<u32, Counts>>,
    display: ProgressDisplay,
}

impl Progress {
    /// A user starts.
    pub fn start(&self) {
        self.came.fetch_add(1, Ordering::Relaxed);
    }

    /// A user is done.
    pub fn end(&self, result: &BuyerResult) {
        self.done.fetch_add(1, Ordering::Relaxed);
        match result.purchase.outcome {
            Outcome::Sold(_) => drop(self.sold.fetch_add(1, Ordering::Relaxed)),
            Outcome::Declined(_) => {}
            Outcome::Unanswered(_) => drop(self.unanswered.fetch_add(1, Ordering::Relaxed)),
        }
        let slowest = result.attempts.iter().map(|attempt| attempt.took).max().unwrap_or_default();
        let slowest = u64::try_from(slowest.as_micros()).unwrap_or(u64::MAX);
        self.slowest_us.fetch_max(slowest, Ordering::Relaxed);
    }

    /// What another pod counted so far.
    pub fn of_pod(&self, pod: u32, counts: Counts) {
        self.others.lock().unwrap_or_else(PoisonError::into_inner).insert(pod, counts);
    }

    /// The users of this pod.
    pub fn own(&self) -> Counts {
        let read = |counter: &AtomicU32| counter.load(Ordering::Relaxed);
        Counts {
            came: read(&self.came),
            done: read(&self.done),
            sold: read(&self.sold),
            unanswered: read(&self.unanswered),
            slowest_us: self.slowest_us.load(Ordering::Relaxed),
        }
    }

    /// The users of all pods.
    pub fn all(&self) -> Counts {
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.values().fold(self.own(), Counts::and)
    }

    fn state(&self, more_come: bool) -> State {
        let Counts { came, done, sold, unanswered, slowest_us } = self.all();
        let slowest = Duration::from_micros(slowest_us);
        State { users: came, more_come, done, sold, unanswered, slowest }
    }

    /// Tells the person who watches. `more_come`: other users will start.
    pub fn show(&self, more_come: bool, elapsed: Duration) {
        self.display.show(&self.state(more_come), elapsed);
    }

    /// Tells the person who watches that all users are done.
    pub fn finish(&self, elapsed: Duration) {
        self.display.finish(&self.state(false), elapsed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::Purchase;

    #[test]
    fn pods_are_added_and_replaced_by_their_latest_count() {
        let progress = Progress::default();
        progress.start();
        let outcome = Outcome::Unanswered("no_answer".to_owned());
        let purchase = Purchase { buyer: "a".to_owned(), outcome, lost_answers: 1 };
        progress.end(&BuyerResult { purchase, attempts: Vec::new() });
        let counts = |came, done, sold, unanswered, slowest_us| Counts {
            came,
            done,
            sold,
            unanswered,
            slowest_us,
        };
        progress.of_pod(1, counts(5, 1, 1, 0, 70));
        progress.of_pod(1, counts(6, 4, 2, 1, 80));
        progress.of_pod(2, counts(1, 0, 0, 0, 0));
        assert_eq!(progress.all(), counts(8, 5, 2, 2, 80));
        assert_eq!(progress.own(), counts(1, 1, 0, 1, 0));
    }
}
