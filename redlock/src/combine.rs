//! Combining: many callers, one acquisition.
//!
//! Callers submit items for a resource and await each one's result. One worker a resource takes
//! the lock and executes everything that is waiting as one batch; meanwhile the next batch
//! collects. So the cost of the lock is divided by the length of the queue, and a caller that goes
//! away cannot leave a lock behind.

mod fair;
mod unordered;
mod worker;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout_at;

use crate::{AcquireError, Lease, Order, Policy, Redlock};
use worker::Worker;

/// What is done under the lock.
pub trait Batch: Send + Sync + 'static {
    /// What a caller submits.
    type Item: Send + 'static;
    /// What a caller gets back.
    type Output: Send + 'static;

    /// How the lock on a resource is taken; asked before each acquisition. The order is asked for
    /// once, with the first item.
    fn policy(&self, resource: &str) -> Policy;

    /// Answers the entries, in their order of arrival, and releases the lease.
    ///
    /// Returns the entries that must be tried again under a new lease; normally none.
    fn execute(
        &self,
        resource: &str,
        lease: Lease,
        entries: Vec<Entry<Self::Item, Self::Output>>,
    ) -> impl Future<Output = Vec<Entry<Self::Item, Self::Output>>> + Send;
}

/// One submitted item and the caller that waits for it.
#[derive(Debug)]
pub struct Entry<Item, Output> {
    /// What was submitted.
    pub item: Item,
    deadline: Instant,
    /// In a fair line; otherwise 0.
    ticket: u64,
    fate: Arc<Fate>,
    reply: oneshot::Sender<Result<Output, SubmitError>>,
}

/// Whether an entry is still the caller's to give up. Either the worker claims it for execution or
/// the caller's wait ends, never both.
#[derive(Debug, Default)]
struct Fate(AtomicU8);

impl Fate {
    const WAITING: u8 = 0;
    const CLAIMED: u8 = 1;
    const EXPIRED: u8 = 2;

    /// Whether that is its fate, now or already.
    fn decide(&self, fate: u8) -> bool {
        let decided =
            self.0.compare_exchange(Self::WAITING, fate, Ordering::AcqRel, Ordering::Acquire);
        decided.map_or_else(|earlier| earlier == fate, |_waiting| true)
    }
}

impl<Item, Output> Entry<Item, Output> {
    /// Gives the caller its result; a caller that is gone does not matter.
    pub fn reply(self, output: Output) {
        let _ = self.reply.send(Ok(output));
    }

    /// Whether the caller has gone.
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    /// From here on the caller waits for the result, however long it takes.
    fn claim(&self) -> bool {
        !self.is_abandoned() && self.fate.decide(Fate::CLAIMED)
    }

    fn refuse(self, error: SubmitError) {
        let _ = self.reply.send(Err(error));
    }
}

/// Why an item was not executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full.
    #[error("the queue is full, the expected wait is {expected_wait:?}")]
    Overloaded {
        /// How long those in the queue will have to wait, from the last batches.
        expected_wait: Duration,
    },
    /// The lock was not to be had.
    #[error(transparent)]
    Lock(#[from] AcquireError),
    /// The batch failed with this item in it; whether it was executed is not known.
    #[error("the batch ended without an answer")]
    Abandoned,
}

/// How soon after its deadline a caller hears from a worker that waits for the lock.
const WORKER_ANSWERS_WITHIN: Duration = Duration::from_millis(50);

/// Bounds of a [`Combiner`].
#[derive(Debug, Clone, Copy)]
pub struct CombinerConfig {
    /// Items that may wait for one resource; beyond that callers are refused at once.
    pub queue: usize,
    /// Items executed under one acquisition.
    pub batch: usize,
}

impl Default for CombinerConfig {
    fn default() -> Self {
        Self { queue: 16_384, batch: 1_024 }
    }
}

/// Collects items by resource and executes them in batches.
///
/// A resource keeps its queue and worker as long as the combiner lives: submit only for resources
/// that exist.
pub struct Combiner<B: Batch> {
    redlock: Redlock,
    batch: Arc<B>,
    config: CombinerConfig,
    queues: Mutex<HashMap<String, Queue<B>>>,
}

struct Queue<B: Batch> {
    sender: mpsc::Sender<Entry<B::Item, B::Output>>,
    /// A moving average of what one item costs.
    nanos_per_item: Arc<AtomicU64>,
}

// Not derived: that would ask `B: Clone`.
impl<B: Batch> Clone for Queue<B> {
    fn clone(&self) -> Self {
        let Self { sender, nanos_per_item } = self;
        Self { sender: sender.clone(), nanos_per_item: Arc::clone(nanos_per_item) }
    }
}

impl<B: Batch> std::fmt::Debug for Combiner<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Combiner").field("config", &self.config).finish_non_exhaustive()
    }
}

impl<B: Batch> Combiner<B> {
    /// Executes `batch` under locks from `redlock`.
    #[must_use]
    pub fn new(redlock: Redlock, batch: B, config: CombinerConfig) -> Self {
        Self { redlock, batch: Arc::new(batch), config, queues: Mutex::default() }
    }

    /// Submits an item and awaits its result.
    ///
    /// A caller that drops this future before its batch begins is not executed.
    ///
    /// # Errors
    /// [`SubmitError`], each of which but `Abandoned` means that nothing was executed.
    pub async fn submit(&self, resource: &str, item: B::Item) -> Result<B::Output, SubmitError> {
        let queue = self.queue(resource);
        let (reply, mut answer) = oneshot::channel();
        let submitted = Instant::now();
        let deadline = submitted + self.batch.policy(resource).wait_timeout;
        let fate = Arc::<Fate>::default();
        let entry = Entry { item, deadline, ticket: 0, fate: Arc::clone(&fate), reply };
        queue.sender.try_send(entry).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SubmitError::Overloaded {
                expected_wait: Duration::from_nanos(
                    queue.nanos_per_item.load(Ordering::Relaxed) * self.config.queue as u64,
                ),
            },
            mpsc::error::TrySendError::Closed(_) => SubmitError::Abandoned,
        })?;
        // A worker that waits for the lock tells those whose time is up why. One that executes a
        // batch does not, and a batch may be long.
        let patience = deadline + WORKER_ANSWERS_WITHIN;
        if let Ok(answer) = timeout_at(patience.into(), &mut answer).await {
            return answer.unwrap_or(Err(SubmitError::Abandoned));
        }
        if fate.decide(Fate::EXPIRED) {
            return Err(AcquireError::Timeout { waited: submitted.elapsed() }.into());
        }
        answer.await.unwrap_or(Err(SubmitError::Abandoned))
    }

    /// What is executed.
    pub fn batch(&self) -> &B {
        &self.batch
    }

    /// How many items wait for a resource, not counting the batch under way.
    #[must_use]
    pub fn queued(&self, resource: &str) -> usize {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |queue: &Queue<B>| queue.sender.max_capacity() - queue.sender.capacity();
        queues.get(resource).map_or(0, waiting)
    }

    fn queue(&self, resource: &str) -> Queue<B> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(resource) {
            return queue.clone();
        }
        let (sender, receiver) = mpsc::channel(self.config.queue);
        let queue = Queue { sender, nanos_per_item: Arc::default() };
        let worker = Worker {
            redlock: self.redlock.clone(),
            batch: Arc::clone(&self.batch),
            config: self.config,
            resource: resource.to_owned(),
            nanos_per_item: Arc::clone(&queue.nanos_per_item),
        };
        match self.batch.policy(resource).order {
            Order::Unordered => tokio::spawn(unordered::run(worker, receiver)),
            Order::Fair => tokio::spawn(fair::Line::new(worker, receiver).run()),
        };
        queues.insert(resource.to_owned(), queue.clone());
        queue
    }
}
