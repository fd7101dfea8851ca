//! Combines look-ups of single rows: callers that wait at the same time share a query.
//!
//! A loader runs one query at a time, so it uses one connection of the database, and the number of
//! waiting callers is bounded.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use ledger::LedgerError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use crate::error::PurchaseError;

/// Rows that one query reads.
const BATCH: usize = 512;
/// Callers that may wait for the next queries.
const MAX_WAITING: usize = 8_192;
/// When a caller that found the queue full may try again.
const RETRY: Duration = Duration::from_secs(1);

/// An indexed query for rows by key.
pub(crate) trait RowQuery: Send + Sync + 'static {
    type Key: Eq + Hash + Send + Sync;
    type Value: Clone + Send + Sync;

    /// Finds the rows of these keys; a key without a row is missing in the result.
    fn load(
        &self,
        keys: &[Self::Key],
    ) -> impl Future<Output = Result<HashMap<Self::Key, Self::Value>, LedgerError>> + Send;
}

/// Combines look-ups, see the module. Its task runs on the runtime of the caller of `new`, and ends
/// when the loader is dropped.
#[derive(Debug)]
pub(crate) struct BatchLoader<L: RowQuery> {
    requests: mpsc::Sender<Request<L>>,
    _task: AbortOnDropHandle<()>,
}

struct Request<L: RowQuery> {
    key: L::Key,
    reply: oneshot::Sender<Option<L::Value>>,
}

impl<L: RowQuery> BatchLoader<L> {
    pub(crate) fn new(load: L) -> Self {
        let (requests, waiting) = mpsc::channel(MAX_WAITING);
        Self { requests, _task: AbortOnDropHandle::new(tokio::spawn(serve(load, waiting))) }
    }

    /// The row of this key, if there is one.
    pub(crate) async fn get(&self, key: L::Key) -> Result<Option<L::Value>, PurchaseError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.requests.try_send(Request { key, reply });
        sent.map_err(|_full| PurchaseError::Overloaded { retry_after: RETRY })?;
        // After a failed query the reply is dropped.
        answer.await.map_err(|_failed| PurchaseError::DatabaseUnavailable)
    }
}

async fn serve<L: RowQuery>(load: L, mut waiting: mpsc::Receiver<Request<L>>) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        // Skips callers that stopped waiting.
        batch.retain(|request| !request.reply.is_closed());
        let (keys, replies): (Vec<_>, Vec<_>) =
            batch.drain(..).map(|Request { key, reply }| (key, reply)).unzip();
        if keys.is_empty() {
            continue;
        }
        match load.load(&keys).await {
            Ok(rows) => {
                for (key, reply) in keys.iter().zip(replies) {
                    let _ = reply.send(rows.get(key).cloned());
                }
            }
            Err(error) => warn!(%error, rows = keys.len(), "rows cannot be looked up"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    /// Finds the even numbers. Each query waits for a permit.
    struct Numbers {
        queries: Arc<Mutex<Vec<usize>>>,
        permits: Arc<Semaphore>,
    }

    impl RowQuery for Numbers {
        type Key = usize;
        type Value = usize;

        async fn load(&self, keys: &[usize]) -> Result<HashMap<usize, usize>, LedgerError> {
            self.queries.lock().unwrap().push(keys.len());
            self.permits.acquire().await.unwrap().forget();
            if keys.contains(&usize::MAX) {
                return Err(LedgerError::TimedOut(RETRY));
            }
            let even = keys.iter().filter(|key| *key % 2 == 0);
            Ok(even.map(|key| (*key, key * 10)).collect())
        }
    }

    #[tokio::test]
    async fn waiting_callers_share_a_query_and_are_bounded() {
        let (queries, permits) = (Arc::<Mutex<Vec<usize>>>::default(), Arc::new(Semaphore::new(0)));
        let loader = BatchLoader::new(Numbers {
            queries: Arc::clone(&queries),
            permits: Arc::clone(&permits),
        });
        let most = BATCH + MAX_WAITING;
        let asked = join_all((0..most + 1_000).map(|key| loader.get(key)));
        let release = async {
            tokio::task::yield_now().await;
            permits.add_permits(most);
        };
        let (answers, ()) = tokio::join!(asked, release);
        let refused = answers.iter().filter(|answer| answer.is_err()).count();
        assert!(refused >= 1_000, "{refused}");
        for (key, answer) in answers.iter().enumerate().filter(|(_, answer)| answer.is_ok()) {
            assert_eq!(*answer, Ok((key % 2 == 0).then_some(key * 10)));
        }
        let queries = queries.lock().unwrap();
        assert!(queries.iter().all(|rows| *rows <= BATCH));
        assert!(queries.len() <= most / BATCH + 1, "{}", queries.len());
    }

    #[tokio::test]
    async fn a_failed_query_fails_its_own_callers_only() {
        let permits = Arc::new(Semaphore::new(9));
        let loader = BatchLoader::new(Numbers { queries: Arc::default(), permits });
        assert_eq!(loader.get(usize::MAX).await, Err(PurchaseError::DatabaseUnavailable));
        assert_eq!(loader.get(2).await, Ok(Some(20)));
    }
}
