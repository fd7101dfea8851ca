//! Fair order for callers that want the lock itself: batches of one, whose result is the lease.

use std::sync::{Arc, OnceLock};

use super::batch::Batch;
use super::config::CombinerConfig;
use super::entry::{Entry, SubmitError};
use super::queues::BatchQueues;
use crate::acquire::Lease;
use crate::cluster::ClusterClient;
use crate::config::Policy;
use crate::error::AcquireError;

/// The fair queues of a client.
#[derive(Debug, Clone, Default)]
pub(crate) struct FairLocks(Arc<OnceLock<BatchQueues<HandOverLease>>>);

/// Hands the lease to the first caller.
#[derive(Debug)]
struct HandOverLease;

impl Batch for HandOverLease {
    type Item = Policy;
    type Output = Lease;
    const RENEWS: bool = false;

    fn policy(&self, _resource: &str, item: &Policy) -> Policy {
        *item
    }

    async fn execute(
        &self,
        _resource: &str,
        lease: Lease,
        mut entries: Vec<Entry<Policy, Lease>>,
    ) -> Vec<Entry<Policy, Lease>> {
        if !entries.is_empty() {
            let entry = entries.remove(0);
            let lease = lease.for_ticket(entry.ticket);
            // If the caller is gone, the lease is dropped, which releases it.
            entry.reply(lease);
        }
        entries
    }
}

impl FairLocks {
    /// Acquires one resource in fair order.
    pub(crate) async fn acquire(
        &self,
        client: &Arc<ClusterClient>,
        resource: &str,
        policy: Policy,
    ) -> Result<Lease, AcquireError> {
        let config = CombinerConfig { batch: 1, ..CombinerConfig::default() };
        let queues =
            self.0.get_or_init(|| BatchQueues::new(Arc::clone(client), HandOverLease, config));
        queues.submit(resource, policy).await.map_err(|error| match error {
            SubmitError::Lock(error) => error,
            SubmitError::Overloaded { expected_wait } => AcquireError::Overloaded { expected_wait },
            SubmitError::NoPolicy | SubmitError::Abandoned => AcquireError::Interrupted,
        })
    }
}
