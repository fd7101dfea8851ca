//! What the worker of a resource is made of, whatever the order.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::error;

use super::load::Load;
use super::{Batch, CombinerConfig, Entry, Lot};
use crate::{AcquireError, Lease, Policy, Redlock};

/// How soon a worker goes on after a panic of its own: what caused it may be there still.
pub(super) const AFTER_PANIC: Duration = Duration::from_millis(100);

pub(super) type Entries<B> = Vec<Entry<<B as Batch>::Item, <B as Batch>::Output>>;

pub(super) struct Worker<B: Batch> {
    pub(super) redlock: Redlock,
    pub(super) batch: Arc<B>,
    pub(super) config: CombinerConfig,
    pub(super) resource: Arc<str>,
    pub(super) load: Arc<Load>,
}

// Not derived: that would ask `B: Clone`.
impl<B: Batch> Clone for Worker<B> {
    fn clone(&self) -> Self {
        Self {
            redlock: self.redlock.clone(),
            batch: Arc::clone(&self.batch),
            config: self.config,
            resource: Arc::clone(&self.resource),
            load: Arc::clone(&self.load),
        }
    }
}

impl<B: Batch> Worker<B> {
    /// Runs in a task of its own, so that a panic in a batch costs that batch only.
    pub(super) async fn execute(&self, lease: Lease, entries: Entries<B>) -> Entries<B> {
        let lot = Lot { resource: Arc::clone(&self.resource), entries };
        self.load.execute();
        let again = self.execute_together(lease, vec![lot]).await;
        self.load.end();
        again.into_iter().flat_map(|lot| lot.entries).collect()
    }

    /// What must be tried again.
    pub(super) async fn execute_together(&self, lease: Lease, lots: Vec<Lot<B>>) -> Vec<Lot<B>> {
        let batch = Arc::clone(&self.batch);
        let execution = tokio::spawn(async move { batch.execute_together(lease, lots).await });
        execution.await.unwrap_or_else(|panic| {
            error!(resource = &*self.resource, %panic, "batch failed");
            Vec::new()
        })
    }
}

/// The policy for those who wait, no longer than the first of them may: `None`, nobody does.
pub(super) fn policy<'a, I: 'a, O: 'a>(
    waiting: impl Iterator<Item = &'a Entry<I, O>> + Clone,
) -> Option<Policy> {
    let first = waiting.clone().next()?;
    let deadline = earliest(waiting)?;
    let wait_timeout = deadline.saturating_duration_since(Instant::now());
    Some(Policy { wait_timeout, ..first.policy })
}

/// When the first of them gives up.
pub(super) fn earliest<'a, I: 'a, O: 'a>(
    entries: impl IntoIterator<Item = &'a Entry<I, O>>,
) -> Option<Instant> {
    entries.into_iter().map(|entry| entry.deadline).min()
}

/// What a panic said.
pub(super) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

/// Tells those whose time is up why they got nothing.
pub(super) fn refuse_expired<I, O>(entries: &mut Vec<Entry<I, O>>, error: &AcquireError) {
    let now = Instant::now();
    for expired in entries.extract_if(.., |entry| entry.deadline <= now) {
        expired.refuse(error.clone().into());
    }
}
