//! Callers who each ask the database for one row, many at once: those who wait share a query.
//!
//! One query of a loader is under way at a time, so however many ask, the database is asked over one
//! connection, and what waits is bounded.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use ledger::LedgerError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use crate::error::PurchaseError;

/// Rows that one query asks for.
const BATCH: usize = 512;
/// Callers that may wait for the next queries.
const MOST_WAITING: usize = 8_192;
/// When it is worth trying again while more wait.
const RETRY: Duration = Duration::from_secs(1);

/// What is asked, by an indexed query.
pub(crate) trait Load: Send + Sync + 'static {
    type Key: Eq + Hash + Send + Sync;
    type Value: Clone + Send + Sync;

    /// The rows of those of these keys that have one.
    fn load(
        &self,
        keys: &[Self::Key],
    ) -> impl Future<Output = Result<HashMap<Self::Key, Self::Value>, LedgerError>> + Send;
}

/// See the module. Its task runs where this was made, and ends with it.
#[derive(Debug)]
pub(crate) struct BatchLoader<L: Load> {
    asked: mpsc::Sender<Asked<L>>,
    _task: AbortOnDropHandle<()>,
}

struct Asked<L: Load> {
    key: L::Key,
    reply: oneshot::Sender<Option<L::Value>>,
}

impl<L: Load> BatchLoader<L> {
    pub(crate) fn new(load: L) -> Self {
        let (asked, waiting) = mpsc::channel(MOST_WAITING);
        Self { asked, _task: AbortOnDropHandle::new(tokio::spawn(serve(load, waiting))) }
    }

    /// The row of this key, if there is one.
    pub(crate) async fn get(&self, key: L::Key) -> Result<Option<L::Value>, PurchaseError> {
        let (reply, answer) = oneshot::channel();
        let asked = self.asked.try_send(Asked { key, reply });
        asked.map_err(|_full| PurchaseError::Overloaded { retry_after: RETRY })?;
        // A query that fails answers nobody.
        answer.await.map_err(|_failed| PurchaseError::DatabaseUnavailable)
    }
}

async fn serve<L: Load>(load: L, mut waiting: mpsc::Receiver<Asked<L>>) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        // Nobody waits for these any more.
        batch.retain(|asked| !asked.reply.is_closed());
        let (keys, replies): (Vec<_>, Vec<_>) =
            batch.drain(..).map(|Asked { key, reply }| (key, reply)).unzip();
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

    /// Answers each query when it is let, with the even numbers.
    struct Numbers {
        queries: Arc<Mutex<Vec<usize>>>,
        let_go: Arc<Semaphore>,
    }

    impl Load for Numbers {
        type Key = usize;
        type Value = usize;

        async fn load(&self, keys: &[usize]) -> Result<HashMap<usize, usize>, LedgerError> {
            self.queries.lock().unwrap().push(keys.len());
            self.let_go.acquire().await.unwrap().forget();
            if keys.contains(&usize::MAX) {
                return Err(LedgerError::TimedOut(RETRY));
            }
            let even = keys.iter().filter(|key| *key % 2 == 0);
            Ok(even.map(|key| (*key, key * 10)).collect())
        }
    }

    #[tokio::test]
    async fn callers_who_wait_share_a_query_and_their_number_is_bounded() {
        let (queries, let_go) = (Arc::<Mutex<Vec<usize>>>::default(), Arc::new(Semaphore::new(0)));
        let loader = BatchLoader::new(Numbers {
            queries: Arc::clone(&queries),
            let_go: Arc::clone(&let_go),
        });
        let most = BATCH + MOST_WAITING;
        let asked = join_all((0..most + 1_000).map(|key| loader.get(key)));
        let release = async {
            tokio::task::yield_now().await;
            let_go.add_permits(most);
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
    async fn a_query_that_fails_is_told_to_those_who_asked_and_to_nobody_else() {
        let let_go = Arc::new(Semaphore::new(9));
        let loader = BatchLoader::new(Numbers { queries: Arc::default(), let_go });
        assert_eq!(loader.get(usize::MAX).await, Err(PurchaseError::DatabaseUnavailable));
        assert_eq!(loader.get(2).await, Ok(Some(20)));
    }
}
