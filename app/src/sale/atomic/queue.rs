//! Purchases that wait to be sent to Redis.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::ledger::Purchase;
use crate::sale::{PurchaseError, Receipt};

/// Purchases that may wait at this replica for one product.
const MOST: usize = 16_384;

/// A purchase and the caller that waits for it.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) purchase: Purchase,
    /// When it is given up, unless it is on its way to Redis.
    pub(super) deadline: Instant,
    pub(super) reply: Reply,
}

/// Where a caller waits.
pub(super) type Reply = oneshot::Sender<Result<Receipt, PurchaseError>>;

/// In the order in which they came. Who sends them hears when there are enough of them, and not of
/// each: waking costs as much as all else that is done here for a purchase.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    enough: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Waiting>,
    /// How many are worth waking for; `None`: nobody wants to hear.
    enough: Option<usize>,
    /// Nobody sends any more.
    ended: bool,
}

impl Queue {
    /// One more waits. False: too many do. After the [end](Self::end) it is told so instead.
    pub(super) fn push(&self, waiting: Waiting) -> bool {
        let mut state = self.state();
        if state.ended {
            return true;
        }
        if state.waiting.len() >= MOST {
            return false;
        }
        state.waiting.push(waiting);
        let count = state.waiting.len();
        let is_enough = state.enough.take_if(|enough| count >= *enough).is_some();
        drop(state);
        if is_enough {
            self.enough.notify_one();
        }
        true
    }

    /// The first of them, if there are enough; otherwise [`enough`](Self::enough) tells when.
    pub(super) fn take(&self, enough: usize, most: usize) -> Option<Vec<Waiting>> {
        let mut state = self.state();
        if state.waiting.len() < enough {
            state.enough = Some(enough);
            return None;
        }
        state.enough = None;
        let count = state.waiting.len().min(most);
        Some(state.waiting.drain(..count).collect())
    }

    /// Tells all who wait, and who comes from now on, that nobody sends them: their replies are dropped.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        state.waiting.clear();
    }

    /// When there are as many as were not there at the last [`take`](Self::take).
    pub(super) async fn enough(&self) {
        self.enough.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;

    fn waiting(quantity: i64) -> Waiting {
        let purchase = Purchase { buyer: "a".to_owned(), quantity, idempotency_key: None };
        let deadline = Instant::now() + Duration::from_secs(1);
        Waiting { purchase, deadline, reply: oneshot::channel().0 }
    }

    fn quantities(batch: &[Waiting]) -> Vec<i64> {
        batch.iter().map(|waiting| waiting.purchase.quantity).collect()
    }

    #[tokio::test]
    async fn who_sends_hears_once_and_when_there_are_enough() {
        let queue = Queue::default();
        assert!(queue.take(2, 10).is_none());
        queue.push(waiting(1));
        assert!(queue.enough().now_or_never().is_none());
        queue.push(waiting(2));
        assert!(queue.enough().now_or_never().is_some());
        queue.push(waiting(3));
        assert!(queue.enough().now_or_never().is_none());
        assert_eq!(quantities(&queue.take(2, 10).unwrap()), [1, 2, 3]);
    }

    #[tokio::test]
    async fn nobody_is_woken_who_does_not_wait() {
        let queue = Queue::default();
        queue.push(waiting(1));
        assert!(queue.take(1, 10).is_some());
        queue.push(waiting(2));
        assert!(queue.enough().now_or_never().is_none());
    }

    #[test]
    fn they_are_taken_in_the_order_in_which_they_came() {
        let queue = Queue::default();
        for quantity in 1..=3 {
            queue.push(waiting(quantity));
        }
        assert_eq!(quantities(&queue.take(1, 2).unwrap()), [1, 2]);
        assert_eq!(quantities(&queue.take(1, 2).unwrap()), [3]);
    }

    #[test]
    fn beyond_the_bound_nobody_is_taken_in() {
        let queue = Queue::default();
        for _ in 0..MOST {
            assert!(queue.push(waiting(1)));
        }
        assert!(!queue.push(waiting(1)));
        queue.take(1, 1).unwrap();
        assert!(queue.push(waiting(1)));
    }
}
