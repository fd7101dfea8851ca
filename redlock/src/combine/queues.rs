//! The queues and workers of a combiner, one of each per resource.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout_at;
use tracing::error;

use super::batch::Batch;
use super::config::CombinerConfig;
use super::entry::{ClaimState, Entry, SubmitError};
use super::fair::FairQueue;
use super::load::Load;
use super::unordered::{self, UnorderedQueue};
use super::worker::{Worker, panic_message};
use crate::cluster::ClusterClient;
use crate::config::{Policy, QueueDiscipline};
use crate::error::{AcquireError, AcquireOutcome};
use crate::time::after;

/// How soon after its deadline a caller gets the error of a worker that waits for the lock.
const WORKER_REPLIES_WITHIN: Duration = Duration::from_millis(50);

/// All queues of a combiner.
pub(crate) struct BatchQueues<B: Batch> {
    client: Arc<ClusterClient>,
    batch: Arc<B>,
    config: CombinerConfig,
    runtime: Handle,
    queues: Mutex<HashMap<String, Arc<Queue<B>>>>,
    /// Sends new queues to the worker of all unordered queues, which starts with the first one.
    unordered: OnceLock<mpsc::UnboundedSender<UnorderedQueue<B>>>,
}

/// The callers' end of a queue.
struct Queue<B: Batch> {
    sender: mpsc::Sender<Entry<B::Item, B::Output>>,
    load: Arc<Load>,
}

impl<B: Batch> std::fmt::Debug for BatchQueues<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchQueues").field("config", &self.config).finish_non_exhaustive()
    }
}

impl<B: Batch> BatchQueues<B> {
    /// No queues. Their workers will run on the present runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn new(client: Arc<ClusterClient>, batch: B, config: CombinerConfig) -> Self {
        let CombinerConfig { queue, batch: most } = config;
        Self {
            client,
            batch: Arc::new(batch),
            config: CombinerConfig {
                queue: queue.clamp(1, Semaphore::MAX_PERMITS),
                batch: most.max(1),
            },
            runtime: Handle::current(),
            queues: Mutex::default(),
            unordered: OnceLock::new(),
        }
    }

    /// The limits.
    pub(crate) fn config(&self) -> &CombinerConfig {
        &self.config
    }

    /// Submits an item and awaits its result.
    pub(crate) async fn submit(
        &self,
        resource: &str,
        item: B::Item,
    ) -> Result<B::Output, SubmitError> {
        let policy = self.policy(resource, &item)?;
        let queue = self.queue(resource, policy.discipline);
        let (reply, mut result) = oneshot::channel();
        let submitted = Instant::now();
        let deadline = after(submitted, policy.wait_timeout);
        let claim = Arc::<ClaimState>::default();
        let expected_wait = queue.load.expected_wait(self.config.batch);
        // Refuses at once a caller that would wait in vain.
        let waiting = (expected_wait <= policy.wait_timeout)
            .then(|| queue.load.try_enter(self.config.queue))
            .flatten()
            .ok_or(SubmitError::Overloaded { expected_wait })?;
        let (ticket, claim_of_entry) = (0, Arc::clone(&claim));
        let entry = Entry { item, policy, deadline, ticket, waiting, claim: claim_of_entry, reply };
        queue.sender.try_send(entry).map_err(|error| match error {
            TrySendError::Full(_) => SubmitError::Overloaded { expected_wait },
            TrySendError::Closed(_) => SubmitError::Abandoned,
        })?;
        // A worker that waits for the lock refuses expired entries with the reason. A worker that executes
        // a batch does not, and a batch may take long.
        let patience = deadline + WORKER_REPLIES_WITHIN;
        if let Ok(result) = timeout_at(patience.into(), &mut result).await {
            return result.unwrap_or(Err(SubmitError::Abandoned));
        }
        if claim.expire() {
            return Err(AcquireError::Timeout { waited: submitted.elapsed() }.into());
        }
        result.await.unwrap_or(Err(SubmitError::Abandoned))
    }

    /// The policy for an item. Asked for here, where a panic ends no worker, and checked here, where an
    /// invalid one costs no round.
    fn policy(&self, resource: &str, item: &B::Item) -> Result<Policy, SubmitError> {
        let ask = AssertUnwindSafe(|| self.batch.policy(resource, item));
        let policy = catch_unwind(ask).map_err(|panic| {
            error!(resource, panic = panic_message(&*panic), "no policy for an item");
            SubmitError::NoPolicy
        })?;
        let cluster = &self.client.cluster;
        cluster.check_lease(policy.lease_time).map_err(|error| {
            cluster.observer.acquired(AcquireOutcome::Invalid, Duration::ZERO, 0);
            SubmitError::Lock(error)
        })?;
        Ok(policy)
    }

    /// The user's batch.
    pub(crate) fn batch(&self) -> &B {
        &self.batch
    }

    /// The number of items that wait for a resource, without those of the present batch.
    pub(crate) fn queued(&self, resource: &str) -> usize {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.get(resource).map_or(0, |queue| queue.load.waiting())
    }

    fn queue(&self, resource: &str, discipline: QueueDiscipline) -> Arc<Queue<B>> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(resource) {
            return Arc::clone(queue);
        }
        let (sender, receiver) = mpsc::channel(self.config.queue);
        let load = Arc::new(Load::new());
        let worker = Worker {
            client: Arc::clone(&self.client),
            batch: Arc::clone(&self.batch),
            config: self.config,
            resource: resource.into(),
            load: Arc::clone(&load),
        };
        match discipline {
            QueueDiscipline::Unordered => {
                let new_queues = self.unordered.get_or_init(|| {
                    let (sender, new_queues) = mpsc::unbounded_channel();
                    self.runtime.spawn(unordered::run(new_queues));
                    sender
                });
                // The worker lives as long as its combiner.
                let _ = new_queues.send(UnorderedQueue::new(worker, receiver));
            }
            QueueDiscipline::Fair => {
                self.runtime.spawn(FairQueue::new(worker, receiver).run());
            }
        }
        let queue = Arc::new(Queue { sender, load });
        queues.insert(resource.to_owned(), Arc::clone(&queue));
        queue
    }
}
