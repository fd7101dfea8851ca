//! What the workers of both queue disciplines share.

use std::any::Any;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep_until;
use tracing::error;

use super::batch::{Batch, ResourceBatch};
use super::config::CombinerConfig;
use super::entry::Entry;
use super::load::Load;
use crate::acquire::{Lease, Renewable};
use crate::cluster::ClusterClient;
use crate::config::Policy;
use crate::error::AcquireError;

/// The pause of a worker after a panic of its own, whose cause may persist.
pub(super) const AFTER_PANIC: Duration = Duration::from_millis(100);

/// Entries of a batch of type `B`.
pub(super) type Entries<B> = Vec<Entry<<B as Batch>::Item, <B as Batch>::Output>>;

/// Executes batches for one resource.
pub(super) struct Worker<B: Batch> {
    pub(super) client: Arc<ClusterClient>,
    pub(super) batch: Arc<B>,
    pub(super) config: CombinerConfig,
    pub(super) resource: Arc<str>,
    pub(super) load: Arc<Load>,
}

// Not derived: a derived implementation would require `B: Clone`.
impl<B: Batch> Clone for Worker<B> {
    fn clone(&self) -> Self {
        Self {
            client: Arc::clone(&self.client),
            batch: Arc::clone(&self.batch),
            config: self.config,
            resource: Arc::clone(&self.resource),
            load: Arc::clone(&self.load),
        }
    }
}

impl<B: Batch> Worker<B> {
    /// Executes the entries of this resource. Returns those that must be tried again.
    pub(super) async fn execute(&self, lease: Lease, entries: Entries<B>) -> Entries<B> {
        let Some(lease) = lease.begin().await else { return entries };
        let batch = ResourceBatch { resource: Arc::clone(&self.resource), entries };
        self.load.batch_started();
        let again = self.execute_together(lease, vec![batch]).await;
        self.load.round_ended();
        again.into_iter().flat_map(|batch| batch.entries).collect()
    }

    /// Executes the entries of several resources in a task of its own, so that a panic affects only this
    /// batch. Returns the entries that must be tried again.
    pub(super) async fn execute_together(
        &self,
        lease: Lease,
        batches: Vec<ResourceBatch<B>>,
    ) -> Vec<ResourceBatch<B>> {
        let batch = Arc::clone(&self.batch);
        let execution = tokio::spawn(async move { batch.execute_together(lease, batches).await });
        execution.await.unwrap_or_else(|panic| {
            error!(resource = &*self.resource, %panic, "batch failed");
            Vec::new()
        })
    }
}

/// What a batch keeps of its lease, to renew it meanwhile.
pub(super) fn renewable<B: Batch>(lease: &Lease) -> Option<Renewable> {
    if B::RENEWS { lease.renewable() } else { None }
}

/// The policy for these entries: that of the first, with a wait until the earliest deadline. `None` if
/// there are none.
pub(super) fn policy<'a, I: 'a, O: 'a>(
    waiting: impl Iterator<Item = &'a Entry<I, O>> + Clone,
) -> Option<Policy> {
    let first = waiting.clone().next()?;
    let deadline = earliest_deadline(waiting)?;
    let wait_timeout = deadline.saturating_duration_since(Instant::now());
    Some(Policy { wait_timeout, ..first.policy })
}

/// The earliest deadline of these entries.
pub(super) fn earliest_deadline<'a, I: 'a, O: 'a>(
    entries: impl IntoIterator<Item = &'a Entry<I, O>>,
) -> Option<Instant> {
    entries.into_iter().map(|entry| entry.deadline).min()
}

/// The message of a panic.
pub(super) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

/// Removes the entries whose wait is over and sends their callers the error.
pub(super) fn refuse_expired<I, O>(entries: &mut Vec<Entry<I, O>>, error: &AcquireError) {
    let now = Instant::now();
    for expired in entries.extract_if(.., |entry| entry.deadline <= now) {
        expired.refuse(error.clone().into());
    }
}

/// Awaits the future, or for ever if there is none.
pub(super) async fn ready<F: Future + Unpin>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

/// Waits until this time, or for ever.
pub(super) async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => pending().await,
    }
}
