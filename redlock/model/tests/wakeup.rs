//! A worker that goes idle while callers submit, in every order of their steps and with every value that
//! the memory model allows (loom). No caller may wait for a worker that sleeps.
//!
//! The combiner contains no such code: its worker receives from tokio's channels, which follow
//! [`Rule::Swap`] (register the waker, then check again) and are checked by their authors. [`Rule::Store`]
//! is a flag that fails.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use loom::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use loom::sync::atomic::{AtomicBool, AtomicUsize};
use loom::thread;

/// How a worker that found no caller ensures that the next one wakes it.
#[derive(Debug, Clone, Copy)]
enum Rule {
    /// It swaps, then checks. Either it finds the caller whose swap preceded its own, or that caller's swap
    /// comes later and finds the worker asleep.
    Swap,
    /// It stores, then checks. A processor may check first.
    Store,
    /// It checks, then swaps.
    LookFirst,
}

#[derive(Default)]
struct Line {
    queued: AtomicUsize,
    worker_sleeps: AtomicBool,
    wakeups: AtomicUsize,
}

impl Line {
    fn submit(&self) {
        self.queued.fetch_add(1, Release);
        if self.worker_sleeps.swap(false, AcqRel) {
            self.wakeups.fetch_add(1, AcqRel);
        }
    }

    fn is_empty(&self) -> bool {
        self.queued.load(Acquire) == 0
    }

    /// Whether the worker now sleeps until a caller wakes it.
    fn sleeps(&self, rule: Rule) -> bool {
        match rule {
            Rule::Swap => {
                self.worker_sleeps.swap(true, AcqRel);
                self.is_empty()
            }
            Rule::Store => {
                self.worker_sleeps.store(true, Release);
                self.is_empty()
            }
            Rule::LookFirst => {
                let is_empty = self.is_empty();
                self.worker_sleeps.swap(true, AcqRel);
                is_empty
            }
        }
    }
}

/// The number of executions in which a caller waits for a worker that never wakes.
fn wake_ups_lost(rule: Rule) -> u32 {
    let lost = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&lost);
    loom::model(move || {
        let line = Arc::new(Line::default());
        let callers = [0, 1].map(|_| {
            let line = Arc::clone(&line);
            thread::spawn(move || line.submit())
        });
        let sleeps = line.sleeps(rule);
        for caller in callers {
            caller.join().unwrap();
        }
        let wakeups = line.wakeups.load(Acquire);
        assert!(wakeups <= 1, "the first of many wakes it");
        if sleeps && wakeups == 0 {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    lost.load(Ordering::Relaxed)
}

#[test]
fn a_worker_that_swaps_before_it_looks_is_always_woken() {
    assert_eq!(wake_ups_lost(Rule::Swap), 0);
}

#[test]
fn a_worker_that_stores_before_it_looks_may_never_be_woken() {
    assert!(wake_ups_lost(Rule::Store) > 0);
}

#[test]
fn a_worker_that_looks_before_it_swaps_may_never_be_woken() {
    assert!(wake_ups_lost(Rule::LookFirst) > 0);
}
