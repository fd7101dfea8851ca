//! The workers of this replica: for each product, a queue of purchases and the task that serves it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::queue::Queue;

/// Their tasks run where this was made, and end with it.
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

/// However the task ends.
struct EndsWithTask(Arc<Queue>);

impl Drop for EndsWithTask {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Workers {
    pub(crate) fn new() -> Self {
        Self { runtime: Handle::current(), by_product: Mutex::default() }
    }

    /// Where to wait for a product; what serves it is made where there is none.
    pub(crate) fn queue<F: Future<Output = ()> + Send + 'static>(
        &self,
        product_id: &str,
        serve: impl FnOnce(Arc<Queue>) -> F,
    ) -> Arc<Queue> {
        let mut workers = self.by_product.lock().unwrap_or_else(PoisonError::into_inner);
        // After a panic it is begun anew.
        if let Some(worker) = workers.get(product_id).filter(|worker| !worker.task.is_finished()) {
            return Arc::clone(&worker.queue);
        }
        let queue = Arc::<Queue>::default();
        let (ends, serving) = (EndsWithTask(Arc::clone(&queue)), serve(Arc::clone(&queue)));
        let task = self.runtime.spawn(async move {
            let _ends = ends;
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

    use super::super::queue::Waiting;
    use super::*;
    use ledger::Purchase;

    #[tokio::test]
    async fn a_product_has_one_line() {
        let workers = Workers::new();
        let first = workers.queue("1", |_| pending());
        assert!(Arc::ptr_eq(&first, &workers.queue("1", |_| pending())));
        assert!(!Arc::ptr_eq(&first, &workers.queue("2", |_| pending())));
    }

    #[tokio::test]
    async fn a_line_that_panicked_is_begun_anew_and_who_waited_is_told() {
        let workers = Workers::new();
        let panicking = |queue: Arc<Queue>| async move {
            assert!(queue.take(1, 1).is_some(), "somebody waits");
            panic!("as a defect would");
        };
        let broken = workers.queue("1", panicking);
        let wait = || {
            let (reply, told) = oneshot::channel();
            let purchase = Purchase { buyer: "ann".to_owned(), quantity: 1, idempotency_key: None };
            let deadline = Instant::now() + Duration::from_secs(1);
            assert!(broken.push(Waiting { purchase, deadline, checked: None, reply }));
            timeout(Duration::from_secs(20), told)
        };
        let (taken, left) = (wait(), wait());
        assert!(taken.await.unwrap().is_err(), "interrupted");
        assert!(left.await.expect("told, too").is_err(), "interrupted");
        assert!(wait().await.expect("told at once").is_err(), "it came too late");

        let anew = async {
            while Arc::ptr_eq(&broken, &workers.queue("1", |_| pending())) {
                yield_now().await;
            }
        };
        timeout(Duration::from_secs(20), anew).await.expect("another worker");
    }
}
