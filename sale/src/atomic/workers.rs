//! The workers of this replica: for each product, a queue of purchases and the task that serves it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::queue::Queue;

/// The workers by product. Their tasks run on the runtime of the caller of `new`, and end when this is
/// dropped.
#[derive(Debug)]
pub(crate) struct Workers {
    runtime: Handle,
    by_product: Mutex<HashMap<String, Worker>>,
}

#[derive(Debug)]
struct Worker {
    queue: Arc<Queue>,
    task: AbortOnDropHandle<()>,
}

/// Closes the queue when the task ends, also by a panic.
struct CloseOnDrop(Arc<Queue>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Workers {
    pub(crate) fn new() -> Self {
        Self { runtime: Handle::current(), by_product: Mutex::default() }
    }

    /// The queue of a product. Starts its worker if there is none.
    pub(crate) fn queue<F: Future<Output = ()> + Send + 'static>(
        &self,
        product_id: &str,
        serve: impl FnOnce(Arc<Queue>) -> F,
    ) -> Arc<Queue> {
        let mut workers = self.by_product.lock().unwrap_or_else(PoisonError::into_inner);
        // After a panic a new worker starts.
        if let Some(worker) = workers.get(product_id).filter(|worker| !worker.task.is_finished()) {
            return Arc::clone(&worker.queue);
        }
        let queue = Arc::<Queue>::default();
        let (close, serving) = (CloseOnDrop(Arc::clone(&queue)), serve(Arc::clone(&queue)));
        let task = self.runtime.spawn(async move {
            let _close = close;
            serving.await;
        });
        let task = AbortOnDropHandle::new(task);
        workers.insert(product_id.to_owned(), Worker { queue: Arc::clone(&queue), task });
        queue
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::task::yield_now;
    use tokio::time::{Instant, timeout};

    use super::super::queue::QueuedPurchase;
    use super::*;
    use ledger::Purchase;

    #[tokio::test]
    async fn a_product_has_one_queue() {
        let workers = Workers::new();
        let first = workers.queue("1", |_| pending());
        assert!(Arc::ptr_eq(&first, &workers.queue("1", |_| pending())));
        assert!(!Arc::ptr_eq(&first, &workers.queue("2", |_| pending())));
    }

    #[tokio::test]
    async fn after_a_panic_callers_are_answered_and_a_new_worker_starts() {
        let workers = Workers::new();
        let panicking = |queue: Arc<Queue>| async move {
            assert!(queue.take(1, 1).is_some(), "somebody waits");
            panic!("as a defect would");
        };
        let broken = workers.queue("1", panicking);
        let wait = || {
            let (reply, answer) = oneshot::channel();
            let (buyer, idempotency_key) = ("ann".to_owned(), None);
            let purchase = Purchase { buyer, quantity: 1, idempotency_key, limit_key: None };
            let deadline = Instant::now() + Duration::from_secs(1);
            assert!(broken.push(QueuedPurchase {
                purchase,
                deadline,
                checked: None,
                reply,
                origin: None
            }));
            timeout(Duration::from_secs(20), answer)
        };
        let (taken, queued) = (wait(), wait());
        assert!(taken.await.unwrap().is_err(), "interrupted");
        assert!(queued.await.expect("answered, too").is_err(), "interrupted");
        assert!(wait().await.expect("answered at once").is_err(), "it came too late");

        let restarted = async {
            while Arc::ptr_eq(&broken, &workers.queue("1", |_| pending())) {
                yield_now().await;
            }
        };
        timeout(Duration::from_secs(20), restarted).await.expect("another worker");
    }
}
