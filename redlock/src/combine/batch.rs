//! What the user of a combiner implements.

use std::sync::Arc;

use super::entry::Entry;
use crate::acquire::Lease;
use crate::config::Policy;

/// The work that is done under a lock.
///
/// A batch of several resources (for one resource, see [`Combiner`](crate::Combiner)):
/// ```
/// use std::time::Duration;
///
/// use redlock::{Batch, Entry, Lease, Policy, ResourceBatch};
/// # use redlock::{Combiner, CombinerConfig, Config, NodeConfig, Redlock};
///
/// /// Answers each caller with the number of resources that shared the lease.
/// struct Together;
///
/// impl Batch for Together {
///     type Item = ();
///     type Output = usize;
///
///     const MAX_RESOURCES: usize = 64;
///
///     fn policy(&self, _resource: &str, _item: &()) -> Policy {
///         Policy { wait_timeout: Duration::from_secs(20), ..Policy::default() }
///     }
///
///     async fn execute(
///         &self,
///         resource: &str,
///         lease: Lease,
///         entries: Vec<Entry<(), usize>>,
///     ) -> Vec<Entry<(), usize>> {
///         let batch = ResourceBatch { resource: resource.into(), entries };
///         let again = self.execute_together(lease, vec![batch]).await;
///         again.into_iter().flat_map(|batch| batch.entries).collect()
///     }
///
///     async fn execute_together(
///         &self,
///         lease: Lease,
///         batches: Vec<ResourceBatch<Self>>,
///     ) -> Vec<ResourceBatch<Self>> {
///         let resources = batches.len();
///         lease.release().await;
///         for entry in batches.into_iter().flat_map(|batch| batch.entries) {
///             entry.reply(resources);
///         }
///         Vec::new()
///     }
/// }
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let servers = testkit::RedisServer::start_many(3)?;
/// # let nodes = servers.iter().map(|server| NodeConfig { address: server.address(), password: None });
/// # let config = Config { node_timeout: Duration::from_secs(5), ..Config::new(nodes.collect()) };
/// # let together = Combiner::new(Redlock::start(&config)?, Together, CombinerConfig::default());
/// # let (one, two) = tokio::join!(together.submit("stock:1", ()), together.submit("stock:2", ()));
/// # assert!((1..=2).contains(&one?) && (1..=2).contains(&two?));
/// # Ok(())
/// # }
/// ```
pub trait Batch: Send + Sync + 'static {
    /// What a caller submits.
    type Item: Send + 'static;
    /// What a caller gets back.
    type Output: Send + 'static;

    /// The largest number of resources in one batch. If callers wait for several resources, one round
    /// acquires all their locks, which costs as much as one lock. In fair order each resource has its own
    /// batch.
    const MAX_RESOURCES: usize = 1;

    /// Whether the lease of a batch may be renewed for the next one while it is executed. Not if `execute`
    /// lets others keep the lease.
    const RENEWS: bool = true;

    /// How to acquire the lock on a resource for an item. Called once per item, by the caller that submits
    /// it. An acquisition follows the policy of the item that has waited longest; the first item of all
    /// determines the queue discipline.
    ///
    /// A panic affects only that caller: [`SubmitError::NoPolicy`](super::SubmitError::NoPolicy).
    fn policy(&self, resource: &str, item: &Self::Item) -> Policy;

    /// Executes the entries, which are in order of arrival, replies to them, and releases the lease.
    ///
    /// The next batch begins when this returns. In fair order the release may already have granted it the
    /// lock, so only quick work should follow the release.
    ///
    /// Returns the entries that must be tried again under a new lease; normally none.
    fn execute(
        &self,
        resource: &str,
        lease: Lease,
        entries: Vec<Entry<Self::Item, Self::Output>>,
    ) -> impl Future<Output = Vec<Entry<Self::Item, Self::Output>>> + Send;

    /// As [`Batch::execute`], for several resources under one lease. Must be implemented if
    /// [`MAX_RESOURCES`](Self::MAX_RESOURCES) is more than one.
    fn execute_together(
        &self,
        lease: Lease,
        batches: Vec<ResourceBatch<Self>>,
    ) -> impl Future<Output = Vec<ResourceBatch<Self>>> + Send
    where
        Self: Sized,
    {
        async move {
            // Executes the first; the others are tried again.
            let mut batches = batches.into_iter();
            let Some(ResourceBatch { resource, entries }) = batches.next() else {
                return Vec::new();
            };
            let entries = self.execute(&resource, lease, entries).await;
            std::iter::once(ResourceBatch { resource, entries }).chain(batches).collect()
        }
    }
}

/// The entries of one resource in a batch.
#[derive(Debug)]
pub struct ResourceBatch<B: Batch> {
    /// The resource.
    pub resource: Arc<str>,
    /// The entries, in order of arrival.
    pub entries: Vec<Entry<B::Item, B::Output>>,
}
