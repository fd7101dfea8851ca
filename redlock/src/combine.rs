//! Combining: many callers, one acquisition.
//!
//! Callers submit items for a resource and await each one's result. A worker takes the lock and
//! executes everything that is waiting as one batch; meanwhile the next batch collects. Where
//! callers wait for several resources, and it is in no order, one batch may have all their locks. So
//! the cost of the lock is divided by the length of the queue, and a caller that goes away cannot
//! leave a lock behind.

mod direct;
mod fair;
mod load;
mod unordered;
mod worker;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout_at;
use tracing::error;

use crate::clock::after;
use crate::{AcquireError, AcquireOutcome, Lease, Order, Policy, Redlock};
pub(crate) use direct::FairLines;
use load::{Load, Place};
use worker::{Worker, panic_message};

/// What is done under the lock.
pub trait Batch: Send + Sync + 'static {
    /// What a caller submits.
    type Item: Send + 'static;
    /// What a caller gets back.
    type Output: Send + 'static;

    /// On how many resources the locks are taken together, where callers wait for several at once:
    /// that costs as much as one lock. Fair lines stay on their own.
    const TOGETHER: usize = 1;

    /// How the lock on a resource is taken for an item; asked once, by the caller that submits it. An
    /// acquisition goes by the item that has waited longest, the order by the first item of all.
    ///
    /// A panic is the caller's alone: [`SubmitError::NoPolicy`].
    fn policy(&self, resource: &str, item: &Self::Item) -> Policy;

    /// Answers the entries, in their order of arrival, and releases the lease.
    ///
    /// The next batch waits until this returns; in fair order that may be with the lock already
    /// granted to it. So after the release only what is quick should be done.
    ///
    /// Returns the entries that must be tried again under a new lease; normally none.
    fn execute(
        &self,
        resource: &str,
        lease: Lease,
        entries: Vec<Entry<Self::Item, Self::Output>>,
    ) -> impl Future<Output = Vec<Entry<Self::Item, Self::Output>>> + Send;

    /// The same for several resources under one lease; for those that take them
    /// [`TOGETHER`](Self::TOGETHER).
    fn execute_together(
        &self,
        lease: Lease,
        lots: Vec<Lot<Self>>,
    ) -> impl Future<Output = Vec<Lot<Self>>> + Send
    where
        Self: Sized,
    {
        async move {
            // More would be locked and not executed: they are asked for again.
            let mut lots = lots.into_iter();
            let Some(Lot { resource, entries }) = lots.next() else { return Vec::new() };
            let entries = self.execute(&resource, lease, entries).await;
            std::iter::once(Lot { resource, entries }).chain(lots).collect()
        }
    }
}

/// What waits for one resource.
#[derive(Debug)]
pub struct Lot<B: Batch> {
    /// The resource.
    pub resource: Arc<str>,
    /// In order of arrival.
    pub entries: Vec<Entry<B::Item, B::Output>>,
}

/// One submitted item and the caller that waits for it.
#[derive(Debug)]
pub struct Entry<Item, Output> {
    /// What was submitted.
    pub item: Item,
    policy: Policy,
    deadline: Instant,
    /// In a fair line; otherwise 0.
    ticket: u64,
    place: Place,
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
        let claimed = !self.is_abandoned() && self.fate.decide(Fate::CLAIMED);
        self.place.leave();
        claimed
    }

    fn refuse(self, error: SubmitError) {
        let _ = self.reply.send(Err(error));
    }
}

/// Why an item was not executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full, or so long that the wait would be over before the turn comes.
    #[error("too many wait, the expected wait is {expected_wait:?}")]
    Overloaded {
        /// How long those in the queue will have to wait, from the last batches.
        expected_wait: Duration,
    },
    /// The lock was not to be had.
    #[error(transparent)]
    Lock(#[from] AcquireError),
    /// [`Batch::policy`] panicked for this item.
    #[error("there is no policy for this item: asking for it panicked")]
    NoPolicy,
    /// The batch failed with this item in it; whether it was executed is not known.
    #[error("the batch ended without an answer")]
    Abandoned,
}

/// How soon after its deadline a caller hears from a worker that waits for the lock.
const WORKER_ANSWERS_WITHIN: Duration = Duration::from_millis(50);

/// Bounds of a [`Combiner`].
#[derive(Debug, Clone, Copy)]
pub struct CombinerConfig {
    /// Items that may wait for one resource, at least one; beyond that callers are refused at once.
    pub queue: usize,
    /// Items executed under one acquisition, at least one.
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
    runtime: Handle,
    queues: Mutex<HashMap<String, Arc<Queue<B>>>>,
    /// To the worker of all that is not in fair order, from the first such item on.
    unordered: OnceLock<mpsc::UnboundedSender<unordered::Line<B>>>,
}

struct Queue<B: Batch> {
    sender: mpsc::Sender<Entry<B::Item, B::Output>>,
    load: Arc<Load>,
}

impl<B: Batch> std::fmt::Debug for Combiner<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Combiner").field("config", &self.config).finish_non_exhaustive()
    }
}

impl<B: Batch> Combiner<B> {
    /// Executes `batch` under locks from `redlock`, on the runtime in which this is called, wherever
    /// callers submit from.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(redlock: Redlock, batch: B, config: CombinerConfig) -> Self {
        let CombinerConfig { queue, batch: most } = config;
        Self {
            redlock,
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

    /// Submits an item and awaits its result.
    ///
    /// A caller that drops this future before its batch begins is not executed.
    ///
    /// # Errors
    /// [`SubmitError`], each of which but `Abandoned` means that nothing was executed.
    pub async fn submit(&self, resource: &str, item: B::Item) -> Result<B::Output, SubmitError> {
        let policy = self.policy(resource, &item)?;
        let queue = self.queue(resource, policy.order);
        let (reply, mut answer) = oneshot::channel();
        let submitted = Instant::now();
        let deadline = after(submitted, policy.wait_timeout);
        let fate = Arc::<Fate>::default();
        let expected_wait = queue.load.expected_wait(self.config.batch);
        // Whoever would wait in vain is better told now.
        let place = (expected_wait <= policy.wait_timeout)
            .then(|| queue.load.enter(self.config.queue))
            .flatten()
            .ok_or(SubmitError::Overloaded { expected_wait })?;
        let (ticket, of_caller) = (0, Arc::clone(&fate));
        let entry = Entry { item, policy, deadline, ticket, place, fate: of_caller, reply };
        queue.sender.try_send(entry).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SubmitError::Overloaded { expected_wait },
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

    /// Asked here, where a panic ends no worker; one that can never be met is refused here too.
    fn policy(&self, resource: &str, item: &B::Item) -> Result<Policy, SubmitError> {
        let ask = AssertUnwindSafe(|| self.batch.policy(resource, item));
        let policy = catch_unwind(ask).map_err(|panic| {
            error!(resource, panic = panic_message(&*panic), "no policy for an item");
            SubmitError::NoPolicy
        })?;
        let roster = &self.redlock.shared.roster;
        roster.check_lease(policy.lease_time).map_err(|error| {
            roster.observer.acquired(AcquireOutcome::Invalid, Duration::ZERO, 0);
            SubmitError::Lock(error)
        })?;
        Ok(policy)
    }

    /// What is executed.
    pub fn batch(&self) -> &B {
        &self.batch
    }

    /// How many items wait for a resource, not counting the batch under way.
    #[must_use]
    pub fn queued(&self, resource: &str) -> usize {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.get(resource).map_or(0, |queue| queue.load.waiting())
    }

    fn queue(&self, resource: &str, order: Order) -> Arc<Queue<B>> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(resource) {
            return Arc::clone(queue);
        }
        let (sender, receiver) = mpsc::channel(self.config.queue);
        let load = Arc::new(Load::new());
        let worker = Worker {
            redlock: self.redlock.clone(),
            batch: Arc::clone(&self.batch),
            config: self.config,
            resource: resource.into(),
            load: Arc::clone(&load),
        };
        match order {
            Order::Unordered => {
                let lines = self.unordered.get_or_init(|| {
                    let (sender, lines) = mpsc::unbounded_channel();
                    self.runtime.spawn(unordered::run(lines));
                    sender
                });
                // The worker lives as long as its combiner.
                let _ = lines.send(unordered::Line::new(worker, receiver));
            }
            Order::Fair => {
                self.runtime.spawn(fair::Line::new(worker, receiver).run());
            }
        }
        let queue = Arc::new(Queue { sender, load });
        queues.insert(resource.to_owned(), Arc::clone(&queue));
        queue
    }
}
