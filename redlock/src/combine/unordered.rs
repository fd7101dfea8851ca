//! The worker that serves the callers that wait at the moment when it gets the locks.
//!
//! If a caller arrives while the batch of one resource is executed, the worker renews the lease meanwhile,
//! and the next batch begins when this one ends. It ends with the lease when another client waits for the
//! lock, when no caller of this client does, or when callers of other resources wait for their batch.
//!
//! It acquires the locks of all resources for which callers wait in one round and executes one batch for
//! them, so that a hundred resources cost little more than one. If one of the resources stays locked, each
//! resource gets a batch of its own, so that none waits for the holder of another.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::error;

use super::batch::{Batch, ResourceBatch};
use super::entry::Entry;
use super::worker::{self, AFTER_PANIC, Entries, Worker, panic_message, refuse_expired};
use crate::acquire::{Acquisition, Lease, Renewable, Renewal, renew};
use crate::config::Policy;
use crate::error::AcquireError;

/// How long a batch waits for the locks of several resources. A batch of another client is over by then.
const MAX_WAIT_FOR_SEVERAL: Duration = Duration::from_millis(100);

/// With this number of resources, two batches share them.
const SHARED_FROM: usize = 64;
/// The number of simultaneous batches from then on. While one waits for the nodes or for the work under
/// its locks, the other uses the processor.
const BATCHES: usize = 2;

/// The callers that wait for one resource.
pub(super) struct UnorderedQueue<B: Batch> {
    worker: Worker<B>,
    arrivals: Receiver<Entry<B::Item, B::Output>>,
    waiting: Entries<B>,
}

impl<B: Batch> UnorderedQueue<B> {
    pub(super) fn new(worker: Worker<B>, arrivals: Receiver<Entry<B::Item, B::Output>>) -> Self {
        Self { worker, arrivals, waiting: Vec::new() }
    }

    /// Takes callers that have arrived, up to this number of waiting entries.
    fn collect(&mut self, room: usize) {
        while self.waiting.len() < room
            && let Ok(entry) = self.arrivals.try_recv()
        {
            self.waiting.push(entry);
        }
    }

    /// Whether no caller waits now. A caller that arrives later wakes [`UnorderedQueue::wait_for_caller`].
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.arrivals.is_empty()
    }

    /// Returns the queue when a caller waits; `None` if the combiner is gone. The channel wakes its
    /// receiver for the first caller, so no other flag is needed.
    async fn wait_for_caller(mut self) -> Option<Self> {
        let first = self.arrivals.recv().await?;
        self.waiting.push(first);
        Some(self)
    }

    fn policy(&self) -> Option<Policy> {
        worker::policy(self.waiting.iter())
    }

    /// Awaits the execution of a batch. Renews its lease when the first caller of the next batch arrives: a
    /// batch that nobody follows costs no renewal.
    async fn renew_during<T>(
        &mut self,
        execution: impl Future<Output = T>,
        renewable: Renewable,
        others: &OtherQueues,
    ) -> (T, Option<Renewal>) {
        let mut execution = pin!(execution);
        let (mut renewable, mut renewal) = (Some(renewable), None::<Renewal>);
        loop {
            tokio::select! {
                result = &mut execution => return (result, renewal),
                first = self.arrivals.recv(), if renewable.is_some() => {
                    self.waiting.extend(first);
                    let lease = renewable.take().filter(|_| !others.wait());
                    renewal = lease.zip(self.policy()).and_then(|(lease, policy)| renew(&lease, policy));
                }
                () = decide(renewal.as_mut()), if renewal.as_ref().is_some_and(|it| !it.is_decided()) => {}
            }
        }
    }
}

async fn decide(renewal: Option<&mut Renewal>) {
    if let Some(renewal) = renewal {
        renewal.decide().await;
    }
}

/// The number of queues whose callers wait for a batch to end.
#[derive(Clone, Default)]
struct OtherQueues(Arc<AtomicUsize>);

impl OtherQueues {
    fn wait(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    fn set(&self, waiting: usize) {
        self.0.store(waiting, Ordering::Relaxed);
    }
}

/// The result of one or more batches for these queues.
struct Served<B: Batch> {
    queues: Vec<UnorderedQueue<B>>,
    /// One batch served all of them.
    together: bool,
    /// Some of the locks could not be acquired together.
    must_split: bool,
}

/// The present batches that serve several resources.
#[derive(Default)]
struct SharedBatches {
    batches: usize,
    queues: usize,
}

impl SharedBatches {
    /// The number of due queues that begin a batch now; at most `limit`.
    fn next_batch(&self, due: usize, limit: usize) -> Option<usize> {
        let waiting = due + self.queues;
        let batches = if waiting < SHARED_FROM { 1 } else { BATCHES };
        let share = waiting.div_ceil(batches).min(limit);
        // A smaller batch costs as much; the queues join a full share when another batch ends.
        let begins = due > 0 && (self.batches == 0 || self.batches < batches && due >= share);
        begins.then_some(due.min(share))
    }
}

/// Serves all unordered queues until the combiner is dropped.
pub(super) async fn run<B: Batch>(mut queues: UnboundedReceiver<UnorderedQueue<B>>) {
    let mut idle = FuturesUnordered::new();
    let mut due = VecDeque::new();
    let mut running: JoinSet<Served<B>> = JoinSet::new();
    let (mut together, others) = (SharedBatches::default(), OtherQueues::default());
    loop {
        others.set(due.len());
        tokio::select! {
            queue = queues.recv() => match queue {
                None => return,
                Some(queue) => idle.push(queue.wait_for_caller()),
            },
            Some(queue) = idle.next() => due.extend(queue),
            Some(served) = running.join_next() => {
                // `serve` catches its own panics.
                let Ok(served) = served else { continue };
                if served.together {
                    together.batches -= 1;
                    together.queues -= served.queues.len();
                }
                for queue in served.queues {
                    if served.must_split {
                        running.spawn(serve(vec![queue], false, others.clone()));
                    } else if queue.is_idle() {
                        idle.push(queue.wait_for_caller());
                    } else {
                        due.push_back(queue);
                    }
                }
            }
        }
        if B::MAX_RESOURCES == 1 {
            due.drain(..).for_each(|queue| {
                running.spawn(serve(vec![queue], false, others.clone()));
            });
            continue;
        }
        while let Some(share) = together.next_batch(due.len(), B::MAX_RESOURCES) {
            together.batches += 1;
            together.queues += share;
            running.spawn(serve(due.drain(..share).collect(), true, others.clone()));
        }
    }
}

async fn serve<B: Batch>(
    mut queues: Vec<UnorderedQueue<B>>,
    together: bool,
    others: OtherQueues,
) -> Served<B> {
    let mut panicked = false;
    let must_split = loop {
        let serving = async {
            if panicked {
                recover(&mut queues).await
            } else {
                serve_due(&mut queues, &others).await
            }
        };
        match AssertUnwindSafe(serving).catch_unwind().await {
            Ok(must_split) => break must_split,
            Err(panic) => {
                let resources: Vec<&str> =
                    queues.iter().map(|queue| &*queue.worker.resource).collect();
                let panic = panic_message(&*panic);
                error!(?resources, panic, "the worker of the lock panicked; it continues");
                panicked = true;
            }
        }
    };
    Served { queues, together, must_split }
}

/// Continues after a panic outside a batch, such as that of an item that is dropped. The other callers are
/// served as long as they wait, each resource with a batch of its own.
async fn recover<B: Batch>(queues: &mut [UnorderedQueue<B>]) -> bool {
    sleep(AFTER_PANIC).await;
    for queue in &mut *queues {
        refuse_expired(&mut queue.waiting, &AcquireError::Interrupted);
    }
    queues.len() > 1
}

/// Serves the queues once, or again and again while the lease is renewed. Returns whether some of the
/// locks could not be acquired together.
async fn serve_due<B: Batch>(queues: &mut Vec<UnorderedQueue<B>>, others: &OtherQueues) -> bool {
    let Some(UnorderedQueue { worker: Worker { client, config, .. }, .. }) = queues.first() else {
        return false;
    };
    let (client, room) = (Arc::clone(client), (config.batch / queues.len()).max(1));
    for queue in &mut *queues {
        queue.collect(room);
    }
    let acquired = {
        let resources: Vec<&str> = queues.iter().map(|queue| &*queue.worker.resource).collect();
        let Some(policy) = policy(queues) else { return false };
        for queue in &*queues {
            queue.worker.load.round_started();
        }
        Acquisition::new(&client, &resources, policy).run().await
    };
    for queue in &mut *queues {
        queue.collect(room);
    }
    match acquired {
        Ok(lease) => {
            let mut held = Some(lease);
            while let Some(lease) = held {
                held = execute(queues, lease, others).await;
                for queue in &mut *queues {
                    queue.collect(room);
                }
            }
        }
        Err(AcquireError::Timeout { .. }) if queues.len() > 1 => return true,
        Err(error) => {
            for queue in queues {
                queue.waiting.retain(|entry| !entry.is_abandoned());
                refuse_expired(&mut queue.waiting, &error);
            }
        }
    }
    false
}

/// The shortest wait and the shortest lease of all queues.
fn policy<B: Batch>(queues: &[UnorderedQueue<B>]) -> Option<Policy> {
    let policies = queues.iter().filter_map(UnorderedQueue::policy);
    let shortest = policies.reduce(|one, other| Policy {
        wait_timeout: one.wait_timeout.min(other.wait_timeout),
        lease_time: one.lease_time.min(other.lease_time),
        ..one
    })?;
    let wait_timeout = match queues {
        [_] => shortest.wait_timeout,
        _ => shortest.wait_timeout.min(MAX_WAIT_FOR_SEVERAL),
    };
    Some(Policy { wait_timeout, ..shortest })
}

/// Executes a batch. Returns the lease for the next one if it was renewed.
async fn execute<B: Batch>(
    queues: &mut [UnorderedQueue<B>],
    lease: Lease,
    others: &OtherQueues,
) -> Option<Lease> {
    // Claims all entries before it moves any: an item may panic when it is dropped.
    for queue in &mut *queues {
        queue.waiting.retain(Entry::claim);
    }
    let batches: Vec<ResourceBatch<B>> = queues
        .iter_mut()
        .map(|queue| {
            let entries = std::mem::take(&mut queue.waiting);
            ResourceBatch { resource: Arc::clone(&queue.worker.resource), entries }
        })
        .collect();
    if batches.iter().all(|batch| batch.entries.is_empty()) {
        return None;
    }
    let worker = queues.first()?.worker.clone();
    for queue in &*queues {
        queue.worker.load.batch_started();
    }
    let renewable = worker::renewable::<B>(&lease);
    let execution = worker.execute_together(lease, batches);
    let (again, renewal) = match (&mut *queues, renewable) {
        ([queue], Some(renewable)) => queue.renew_during(execution, renewable, others).await,
        _ => (execution.await, None),
    };
    for queue in &*queues {
        queue.worker.load.round_ended();
    }
    // The batch may have been refused because of its token, and that of the renewed lease is hardly higher.
    let must_ask_again = again.iter().any(|batch| !batch.entries.is_empty());
    for ResourceBatch { resource, entries } in again {
        if let Some(queue) = queues.iter_mut().find(|queue| queue.worker.resource == resource) {
            queue.waiting.splice(..0, entries);
        }
    }
    if must_ask_again || others.wait() || queues.iter().all(UnorderedQueue::is_idle) {
        return None;
    }
    for queue in &*queues {
        queue.worker.load.round_started();
    }
    renewal?.finish().await?.begin().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_resources_are_one_batch_and_many_are_two() {
        let none = SharedBatches::default();
        assert_eq!(none.next_batch(0, 128), None);
        assert_eq!(none.next_batch(1, 128), Some(1));
        assert_eq!(none.next_batch(63, 128), Some(63));
        assert_eq!(none.next_batch(20, 8), Some(8));
        let one = SharedBatches { batches: 1, queues: 63 };
        assert_eq!(one.next_batch(1, 128), None, "the queue waits for the end of the batch");

        assert_eq!(none.next_batch(99, 128), Some(50));
        let one = SharedBatches { batches: 1, queues: 50 };
        assert_eq!(one.next_batch(49, 128), None, "less than a share");
        assert_eq!(one.next_batch(50, 128), Some(50));
        assert_eq!(one.next_batch(51, 128), Some(51), "half of all queues");
        let two = SharedBatches { batches: 2, queues: 66 };
        assert_eq!(two.next_batch(66, 128), None);
    }
}
