//! A queue in order of arrival, with a wake-up for the task that serves it.
//!
//! The task is woken once enough entries are queued, not for each one: a wake-up costs as much as all
//! other work for an entry here. `sale/tests/wait_queue` compiles this file over a model checker's
//! types instead of `super::sync`, and tries every order of steps.

use super::sync::{Mutex, MutexGuard, Notify, PoisonError};

/// Entries that one queue can hold.
pub const CAPACITY: usize = 16_384;

/// A queue of entries, see the module.
#[derive(Debug)]
pub struct WaitQueue<T> {
    state: Mutex<State<T>>,
    wakeup: Notify,
}

#[derive(Debug)]
struct State<T> {
    waiting: Vec<T>,
    /// The number of entries that wakes the task; `None`: the task does not sleep.
    wake_at: Option<usize>,
    /// No task serves the queue any more.
    closed: bool,
}

impl<T> Default for WaitQueue<T> {
    fn default() -> Self {
        let state = State { waiting: Vec::new(), wake_at: None, closed: false };
        Self { state: Mutex::new(state), wakeup: Notify::default() }
    }
}

impl<T> WaitQueue<T> {
    /// Adds an entry. False: the queue is full. A [closed](Self::close) queue drops the entry.
    pub fn push(&self, entry: T) -> bool {
        let mut state = self.state();
        if state.closed {
            return true;
        }
        if state.waiting.len() >= CAPACITY {
            return false;
        }
        state.waiting.push(entry);
        let count = state.waiting.len();
        let is_due = state.wake_at.take_if(|wake_at| count >= *wake_at).is_some();
        drop(state);
        if is_due {
            self.wakeup.notify_one();
        }
        true
    }

    /// Takes the first entries, if there are at least `at_least`. Otherwise [`ready`](Self::ready)
    /// ends when there are.
    pub fn take(&self, at_least: usize, at_most: usize) -> Option<Vec<T>> {
        let mut state = self.state();
        if state.waiting.len() < at_least {
            state.wake_at = Some(at_least);
            return None;
        }
        state.wake_at = None;
        let count = state.waiting.len().min(at_most);
        Some(state.waiting.drain(..count).collect())
    }

    /// Puts entries back in front of all others, for the serving task, which continues with
    /// [`take`](Self::take). A [closed](Self::close) queue drops them.
    pub fn put_back(&self, entries: Vec<T>) {
        let mut state = self.state();
        if !state.closed {
            state.waiting.splice(0..0, entries);
        }
    }

    /// Drops all entries, now and in future.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.waiting.clear();
    }

    /// Waits for the number of entries that the last [`take`](Self::take) asked for.
    pub async fn ready(&self) {
        self.wakeup.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
