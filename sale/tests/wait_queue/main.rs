//! The queue of `strategy: Atomic` in every order of the steps of its callers and of the task that
//! serves it (loom): the task never sleeps while enough entries wait. The test compiles the crate's
//! own file over loom's types.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::duplicate_mod, reason = "one file over two kinds of wake-ups")]

mod kept;
mod lost;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;

use futures::FutureExt;
use loom::sync::Mutex;
use loom::thread;

/// A model of tokio's `Notify` with one waiter. `KEPT`: a wake-up that comes before the waiter sleeps
/// is kept for it.
#[derive(Debug, Default)]
pub struct Notify<const KEPT: bool> {
    state: Mutex<Wakeup>,
}

#[derive(Debug, Default)]
struct Wakeup {
    sleeps: bool,
    is_there: bool,
}

impl<const KEPT: bool> Notify<KEPT> {
    fn notify_one(&self) {
        let mut state = self.state.lock().unwrap();
        if KEPT || state.sleeps {
            state.is_there = true;
        }
    }

    async fn notified(&self) {
        std::future::poll_fn(|_| {
            let mut state = self.state.lock().unwrap();
            state.sleeps = !std::mem::take(&mut state.is_there);
            if state.sleeps { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }
}

/// The number of executions in which the task sleeps for ever although `enough` entries wait. Two
/// callers submit.
macro_rules! wake_ups_lost {
    ($queue:ty, $enough:expr) => {{
        let lost = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&lost);
        loom::model(move || {
            let queue = Arc::new(<$queue>::default());
            let callers = [0, 1].map(|caller| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || assert!(queue.push(caller)))
            });
            let (mut taken, mut sleeps, mut put_back) = (0, false, false);
            while taken < 2 && !sleeps {
                match queue.take($enough, 2) {
                    // Once, like purchases that must be looked up first.
                    Some(batch) if !put_back => {
                        put_back = true;
                        queue.put_back(batch);
                    }
                    Some(batch) => taken += batch.len(),
                    None => sleeps = queue.ready().now_or_never().is_none(),
                }
            }
            for caller in callers {
                caller.join().unwrap();
            }
            if sleeps && queue.ready().now_or_never().is_none() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        lost.load(Ordering::Relaxed)
    }};
}

#[test]
fn the_task_is_woken_when_enough_wait() {
    assert_eq!(wake_ups_lost!(kept::wait_queue::WaitQueue<u8>, 1), 0);
    assert_eq!(wake_ups_lost!(kept::wait_queue::WaitQueue<u8>, 2), 0);
}

#[test]
fn without_kept_wake_ups_the_task_sleeps_for_ever() {
    assert!(wake_ups_lost!(lost::wait_queue::WaitQueue<u8>, 1) > 0);
    assert!(wake_ups_lost!(lost::wait_queue::WaitQueue<u8>, 2) > 0);
}

/// Submits while the queue is closed.
macro_rules! check_the_end {
    ($queue:ty) => {
        loom::model(|| {
            let queue = Arc::new(<$queue>::default());
            let entry = Arc::new(());
            let (submitted_to, submitted) = (Arc::clone(&queue), Arc::clone(&entry));
            let caller = thread::spawn(move || assert!(submitted_to.push(submitted)));
            queue.close();
            caller.join().unwrap();
            assert_eq!(Arc::strong_count(&entry), 1, "it is dropped, which answers its caller");
        });
    };
}

#[test]
fn a_caller_of_a_closed_queue_does_not_wait() {
    check_the_end!(kept::wait_queue::WaitQueue<Arc<()>>);
    // The kind of wake-up does not matter here.
    check_the_end!(lost::wait_queue::WaitQueue<Arc<()>>);
}
