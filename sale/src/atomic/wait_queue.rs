//! Entries that wait to be served, in order of arrival, and the wake-up of the task that serves them.
//!
//! The task is woken when there are enough entries, and not for each: waking costs as much as all else
//! that is done for an entry here. `sale/tests/wait_queue` compiles this file over a model checker's
//! types, which `super::sync` stands for, and tries every order of steps.

use super::sync::{Mutex, MutexGuard, Notify, PoisonError};

/// Entries that may wait in one queue.
pub const MOST: usize = 16_384;

/// See the module.
#[derive(Debug)]
pub struct WaitQueue<T> {
    state: Mutex<State<T>>,
    enough: Notify,
}

#[derive(Debug)]
struct State<T> {
    waiting: Vec<T>,
    /// How many entries are worth a wake-up; `None`: the task does not sleep.
    enough: Option<usize>,
    /// Nobody serves any more.
    ended: bool,
}

impl<T> Default for WaitQueue<T> {
    fn default() -> Self {
        let state = State { waiting: Vec::new(), enough: None, ended: false };
        Self { state: Mutex::new(state), enough: Notify::default() }
    }
}

impl<T> WaitQueue<T> {
    /// Adds an entry. False: the queue is full. After the [end](Self::end) the entry is dropped instead.
    pub fn push(&self, entry: T) -> bool {
        let mut state = self.state();
        if state.ended {
            return true;
        }
        if state.waiting.len() >= MOST {
            return false;
        }
        state.waiting.push(entry);
        let count = state.waiting.len();
        let is_enough = state.enough.take_if(|enough| count >= *enough).is_some();
        drop(state);
        if is_enough {
            self.enough.notify_one();
        }
        true
    }

    /// The first of them, if there are enough; otherwise [`enough`](Self::enough) ends when there are.
    pub fn take(&self, enough: usize, most: usize) -> Option<Vec<T>> {
        let mut state = self.state();
        if state.waiting.len() < enough {
            state.enough = Some(enough);
            return None;
        }
        state.enough = None;
        let count = state.waiting.len().min(most);
        Some(state.waiting.drain(..count).collect())
    }

    /// Puts entries back before all others, for the serving task, which goes on with
    /// [`take`](Self::take). After the [end](Self::end) they are dropped instead.
    pub fn put_back(&self, entries: Vec<T>) {
        let mut state = self.state();
        if !state.ended {
            state.waiting.splice(0..0, entries);
        }
    }

    /// Drops all entries, and those that are added from now on.
    pub fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        state.waiting.clear();
    }

    /// Waits for as many as were not there at the last [`take`](Self::take).
    pub async fn enough(&self) {
        self.enough.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
