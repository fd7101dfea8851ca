//! A lease that may be renewed, without the lease itself.

use std::sync::Arc;

use super::lease_end::LeaseEnd;
use super::lease_state::LeaseState;

/// A lease that may be renewed once, for callers that do not have the lease itself.
#[derive(Debug)]
pub(crate) struct Renewable(Arc<LeaseState>);

impl Renewable {
    pub(super) fn new(state: Arc<LeaseState>) -> Self {
        Self(state)
    }

    pub(super) fn state(&self) -> &LeaseState {
        &self.0
    }

    /// The owner's name of the lease.
    pub(super) fn owner(&self) -> &str {
        &self.0.owner
    }

    /// The end of the lease.
    pub(super) fn end(&self) -> &Arc<LeaseEnd> {
        &self.0.end
    }

    /// Prepares for a renewal by this owner, before the nodes know its name: an extension of the lease must
    /// know it too. Returns the token to propose. `None` if the lease must not be renewed: a waiter for
    /// several resources was promised this one, and is in no queue while it pauses.
    pub(super) fn prepare(&self, owner: &str) -> Option<u64> {
        let LeaseState { client, tokens, renewed_by, .. } = &*self.0;
        let [(resource, _)] = &tokens[..] else { return None };
        let registered = client.cluster.registry.state_of(resource);
        if registered.is_reserved() {
            return None;
        }
        renewed_by.set(owner.to_owned()).ok()?;
        let token = registered.highest_token() + 1;
        // The release of the lease grants waiters a token above this one, on every node the same one, whether
        // the renewal came there or not.
        registered.observe_token(token);
        Some(token)
    }
}
