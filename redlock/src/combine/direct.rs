//! Fair order for callers that want the lock itself: a line whose callers are served one by one,
//! each with the lease.

use std::sync::{Arc, OnceLock};

use super::{Batch, Combiner, CombinerConfig, Entry, SubmitError};
use crate::shared::Shared;
use crate::{AcquireError, Lease, Policy, Redlock};

/// The fair lines of a client, one a resource.
#[derive(Debug, Clone, Default)]
pub(crate) struct FairLines(Arc<OnceLock<Combiner<HandOver>>>);

/// Gives the lease to the caller.
#[derive(Debug)]
struct HandOver;

impl Batch for HandOver {
    type Item = Policy;
    type Output = Lease;

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
            let lease = lease.of_ticket(entry.ticket);
            // A caller that is gone drops the lease, which releases it.
            entry.reply(lease);
        }
        entries
    }
}

impl FairLines {
    pub(crate) async fn acquire(
        &self,
        shared: &Arc<Shared>,
        resource: &str,
        policy: Policy,
    ) -> Result<Lease, AcquireError> {
        let config = CombinerConfig { batch: 1, ..CombinerConfig::default() };
        let lines = self.0.get_or_init(|| {
            // Not the client itself: it would hold itself alive.
            Combiner::new(Redlock::of(Arc::clone(shared)), HandOver, config)
        });
        lines.submit(resource, policy).await.map_err(|error| match error {
            SubmitError::Lock(error) => error,
            SubmitError::Overloaded { expected_wait } => AcquireError::Overloaded { expected_wait },
            SubmitError::NoPolicy | SubmitError::Abandoned => AcquireError::Interrupted,
        })
    }
}
