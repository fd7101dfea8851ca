//! The queue of `strategy: Atomic` in every order of the steps of those who submit and of the task that
//! serves them (loom): it never sleeps while enough of them wait. The file under test is the app's own,
//! compiled over loom's types.
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

/// What tokio's `Notify` is for one who waits: a wake-up for one who does not sleep yet is `KEPT`.
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

/// In how many of all executions the task sleeps for ever while `enough` wait; two submit.
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
                    // Once: what has to be looked up first.
                    Some(batch) if !put_back => {
                        put_back = true;
                        queue.put_back(batch);
                    }
                    Some(batch) => taken += batch.len(),
                    None => sleeps = queue.enough().now_or_never().is_none(),
                }
            }
            for caller in callers {
                caller.join().unwrap();
            }
            if sleeps && queue.enough().now_or_never().is_none() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        lost.load(Ordering::Relaxed)
    }};
}

#[test]
fn who_serves_is_woken_when_enough_wait() {
    assert_eq!(wake_ups_lost!(kept::wait_queue::WaitQueue<u8>, 1), 0);
    assert_eq!(wake_ups_lost!(kept::wait_queue::WaitQueue<u8>, 2), 0);
}

#[test]
fn a_wake_up_that_is_not_kept_for_one_who_does_not_sleep_yet_is_lost() {
    assert!(wake_ups_lost!(lost::wait_queue::WaitQueue<u8>, 1) > 0);
    assert!(wake_ups_lost!(lost::wait_queue::WaitQueue<u8>, 2) > 0);
}

/// Submits while the queue ends.
macro_rules! check_the_end {
    ($queue:ty) => {
        loom::model(|| {
            let queue = Arc::new(<$queue>::default());
            let entry = Arc::new(());
            let (submitted_to, submitted) = (Arc::clone(&queue), Arc::clone(&entry));
            let caller = thread::spawn(move || assert!(submitted_to.push(submitted)));
            queue.end();
            caller.join().unwrap();
            assert_eq!(Arc::strong_count(&entry), 1, "it is dropped, which tells its caller");
        });
    };
}

#[test]
fn who_submits_at_the_end_is_not_kept_waiting() {
    check_the_end!(kept::wait_queue::WaitQueue<Arc<()>>);
    // Whatever becomes of wake-ups.
    check_the_end!(lost::wait_queue::WaitQueue<Arc<()>>);
}
