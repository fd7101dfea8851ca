//! What a user of combining calls.

use std::sync::Arc;

use crate::combine::{Batch, BatchQueues, CombinerConfig, SubmitError};
use crate::lock::Redlock;

/// Collects items by resource and executes them in batches, each under one lease.
///
/// A resource keeps its queue and its worker as long as the combiner lives, so submit only for resources
/// that exist.
///
/// ```
/// use std::time::Duration;
///
/// use redlock::{Batch, Combiner, CombinerConfig, Entry, Lease, Policy};
/// # use redlock::{Config, NodeConfig, Redlock};
///
/// /// Answers each caller with the token under which it was served.
/// struct Tokens;
///
/// impl Batch for Tokens {
///     type Item = ();
///     type Output = u64;
///
///     fn policy(&self, _resource: &str, _item: &()) -> Policy {
///         Policy { wait_timeout: Duration::from_secs(20), ..Policy::default() }
///     }
///
///     async fn execute(
///         &self,
///         _resource: &str,
///         lease: Lease,
///         entries: Vec<Entry<(), u64>>,
///     ) -> Vec<Entry<(), u64>> {
///         let token = lease.token();
///         lease.release().await;
///         for entry in entries {
///             entry.reply(token);
///         }
///         Vec::new()
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let servers = testkit::RedisServer::start_many(3)?;
/// # let nodes = servers.iter().map(|server| NodeConfig { address: server.address(), password: None });
/// # let config = Config { node_timeout: Duration::from_secs(5), ..Config::new(nodes.collect()) };
/// # let redlock = Redlock::start(&config)?;
/// let tokens = Combiner::new(redlock, Tokens, CombinerConfig::default());
/// let (ann, bob) = tokio::join!(tokens.submit("stock:1", ()), tokens.submit("stock:1", ()));
/// let (ann, bob) = (ann?, bob?);
/// println!("{}", if ann == bob { "one lease for both" } else { "a lease for each" });
/// # assert!(ann > 0 && bob > 0);
/// # Ok(())
/// # }
/// ```
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
