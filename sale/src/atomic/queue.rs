//! Purchases that wait to be sent to Redis.

use ledger::Purchase;
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::wait_queue::WaitQueue;
use crate::batch_report::Origin;
use crate::error::PurchaseError;
use crate::purchase::Receipt;

/// A purchase and the caller that waits for it.
#[derive(Debug)]
pub(crate) struct QueuedPurchase {
    pub(crate) purchase: Purchase,
    /// After this time it is refused, unless a call with it is under way.
    pub(crate) deadline: Instant,
    /// The epoch of the keys in which the database had no order for its key.
    pub(crate) checked: Option<Uuid>,
    pub(crate) reply: Reply,
    /// The mark of the caller.
    pub(crate) origin: Option<Origin>,
}

/// The caller's side of the answer.
pub(crate) type Reply = oneshot::Sender<Result<Receipt, PurchaseError>>;

/// The purchases of one product. A dropped one is answered by the drop of its `Reply`.
pub(crate) type Queue = WaitQueue<QueuedPurchase>;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::super::wait_queue::CAPACITY;
    use super::*;

    fn queued(quantity: i64) -> QueuedPurchase {
        let (buyer, idempotency_key) = ("a".to_owned(), None);
        let purchase = Purchase { buyer, quantity, idempotency_key, limit_key: None };
        let deadline = Instant::now() + Duration::from_secs(1);
        let reply = oneshot::channel().0;
        QueuedPurchase { purchase, deadline, checked: None, reply, origin: None }
    }

    fn quantities(batch: &[QueuedPurchase]) -> Vec<i64> {
        batch.iter().map(|queued| queued.purchase.quantity).collect()
    }

    #[tokio::test]
    async fn the_worker_is_woken_once_enough_purchases_are_queued() {
        let queue = Queue::default();
        assert!(queue.take(2, 10).is_none());
        queue.push(queued(1));
        assert!(queue.ready().now_or_never().is_none());
        queue.push(queued(2));
        assert!(queue.ready().now_or_never().is_some());
        queue.push(queued(3));
        assert!(queue.ready().now_or_never().is_none());
        assert_eq!(quantities(&queue.take(2, 10).unwrap()), [1, 2, 3]);
    }

    #[tokio::test]
    async fn a_worker_that_does_not_wait_is_not_woken() {
        let queue = Queue::default();
        queue.push(queued(1));
        assert!(queue.take(1, 10).is_some());
        queue.push(queued(2));
        assert!(queue.ready().now_or_never().is_none());
    }

    #[test]
    fn purchases_are_taken_in_order_of_arrival() {
        let queue = Queue::default();
        for quantity in 1..=3 {
            queue.push(queued(quantity));
        }
        assert_eq!(quantities(&queue.take(1, 2).unwrap()), [1, 2]);
        assert_eq!(quantities(&queue.take(1, 2).unwrap()), [3]);
    }

    #[test]
    fn returned_purchases_come_first_and_a_closed_queue_drops_them() {
        let queue = Queue::default();
        (1..=3).for_each(|quantity| assert!(queue.push(queued(quantity))));
        let first = queue.take(1, 2).unwrap();
        queue.put_back(first);
        assert_eq!(quantities(&queue.take(1, 9).unwrap()), [1, 2, 3]);
        queue.close();
        queue.put_back(vec![queued(1)]);
        assert!(queue.take(1, 9).is_none());
    }

    #[test]
    fn a_full_queue_refuses_more() {
        let queue = Queue::default();
        for _ in 0..CAPACITY {
            assert!(queue.push(queued(1)));
        }
        assert!(!queue.push(queued(1)));
        queue.take(1, 1).unwrap();
        assert!(queue.push(queued(1)));
    }
}
