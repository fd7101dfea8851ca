//! What a user of combining calls.

use std::sync::Arc;

use crate::combine::{Batch, BatchQueues, CombinerConfig, SubmitError};
use crate::lock::Redlock;

/// Collects items by resource and executes them in batches, each under one lease.
///
/// A resource keeps its queue and its worker as long as the combiner lives, so submit only for resources
/// that exist.
pub struct Combiner<B: Batch> {
    queues: BatchQueues<B>,
}

impl<B: Batch> std::fmt::Debug for Combiner<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Combiner").field("config", self.queues.config()).finish_non_exhaustive()
    }
}

impl<B: Batch> Combiner<B> {
    /// Executes `batch` under locks from `redlock`. The workers run on the present runtime, whichever
    /// thread callers submit from.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "a combiner keeps the connections open")]
    pub fn new(redlock: Redlock, batch: B, config: CombinerConfig) -> Self {
        Self { queues: BatchQueues::new(Arc::clone(&redlock.client), batch, config) }
    }

    /// Submits an item and awaits its result.
    ///
    /// If the caller drops this future before its batch begins, the item is not executed.
    ///
    /// # Errors
    /// [`SubmitError`]. After any error but `Abandoned` the item was not executed.
    pub async fn submit(&self, resource: &str, item: B::Item) -> Result<B::Output, SubmitError> {
        self.queues.submit(resource, item).await
    }

    /// The batch that this combiner executes.
    pub fn batch(&self) -> &B {
        self.queues.batch()
    }

    /// The number of items that wait for a resource, without those of the present batch.
    #[must_use]
    pub fn queued(&self, resource: &str) -> usize {
        self.queues.queued(resource)
    }
}
