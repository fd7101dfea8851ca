//! What the worker of a resource is made of, whatever the order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tracing::error;

use super::{Batch, CombinerConfig, Entry};
use crate::{AcquireError, Lease, Policy, Redlock};

pub(super) type Entries<B> = Vec<Entry<<B as Batch>::Item, <B as Batch>::Output>>;

pub(super) struct Worker<B: Batch> {
    pub(super) redlock: Redlock,
    pub(super) batch: Arc<B>,
    pub(super) config: CombinerConfig,
    pub(super) resource: String,
    pub(super) nanos_per_item: Arc<AtomicU64>,
}

// Not derived: that would ask `B: Clone`.
impl<B: Batch> Clone for Worker<B> {
    fn clone(&self) -> Self {
        Self {
            redlock: self.redlock.clone(),
            batch: Arc::clone(&self.batch),
            config: self.config,
            resource: self.resource.clone(),
            nanos_per_item: Arc::clone(&self.nanos_per_item),
        }
    }
}

impl<B: Batch> Worker<B> {
    /// The policy with a wait that ends at the deadline.
    pub(super) fn policy_until(&self, deadline: Instant) -> Policy {
        let wait_timeout = deadline.saturating_duration_since(Instant::now());
        Policy { wait_timeout, ..self.batch.policy(&self.resource) }
    }

    /// Runs in a task of its own, so that a panic in a batch costs that batch only.
    pub(super) async fn execute(&self, lease: Lease, entries: Entries<B>) -> Entries<B> {
        let (started, items) = (Instant::now(), entries.len().max(1) as u64);
        let (batch, resource) = (Arc::clone(&self.batch), self.resource.clone());
        let execution = tokio::spawn(async move { batch.execute(&resource, lease, entries).await });
        let again = execution.await.unwrap_or_else(|panic| {
            error!(resource = self.resource, %panic, "batch failed");
            Vec::new()
        });
        let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX) / items;
        let average = self.nanos_per_item.load(Ordering::Relaxed);
        self.nanos_per_item.store(average - average / 8 + nanos / 8, Ordering::Relaxed);
        again
    }
}

/// When the first of them gives up.
pub(super) fn earliest<'a, I: 'a, O: 'a>(
    entries: impl IntoIterator<Item = &'a Entry<I, O>>,
) -> Option<Instant> {
    entries.into_iter().map(|entry| entry.deadline).min()
}

/// Tells those whose time is up why they got nothing.
pub(super) fn refuse_expired<I, O>(entries: &mut Vec<Entry<I, O>>, error: &AcquireError) {
    let now = Instant::now();
    for expired in entries.extract_if(.., |entry| entry.deadline <= now) {
        expired.refuse(error.clone().into());
    }
}
