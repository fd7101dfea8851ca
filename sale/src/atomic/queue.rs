//! Purchases that wait to be sent to Redis.

use ledger::Purchase;
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::wait_queue::WaitQueue;
use crate::error::PurchaseError;
use crate::purchase::Receipt;

/// A purchase and the caller that waits for it.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) purchase: Purchase,
    /// When it is given up, unless it is on its way to Redis.
    pub(crate) deadline: Instant,
    /// In this epoch of the keys the database was found to have no order for this one's.
    pub(crate) checked: Option<Uuid>,
    pub(crate) reply: Reply,
}

/// Where a caller waits.
pub(crate) type Reply = oneshot::Sender<Result<Receipt, PurchaseError>>;

/// Purchases of one product; those that are dropped are told so by their replies.
pub(crate) type Queue = WaitQueue<Waiting>;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::super::wait_queue::MOST;
    use super::*;

    fn waiting(quantity: i64) -> Waiting {
        let purchase = Purchase { buyer: "a".to_owned(), quantity, idempotency_key: None };
        let deadline = Instant::now() + Duration::from_secs(1);
        Waiting { purchase, deadline, checked: None, reply: oneshot::channel().0 }
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
    fn those_who_are_put_back_come_first_unless_nobody_serves_any_more() {
        let queue = Queue::default();
        (1..=3).for_each(|quantity| assert!(queue.push(waiting(quantity))));
        let first = queue.take(1, 2).unwrap();
        queue.put_back(first);
        assert_eq!(quantities(&queue.take(1, 9).unwrap()), [1, 2, 3]);
        queue.end();
        queue.put_back(vec![waiting(1)]);
        assert!(queue.take(1, 9).is_none());
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
