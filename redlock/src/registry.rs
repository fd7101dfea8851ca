//! What this process knows about each resource: tokens, tickets, values, releases.
//!
//! The sources are the nodes' notices, the replies to this process's own votes, and the user. A lost
//! notice costs a waiter one poll. This module sends nothing to a node.

mod notice;
mod published;
mod state;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notice::{NextOwner, Notice, notices};
pub use published::{Published, REMOVED};
pub(crate) use state::{LateGrants, ResourceState};

use crate::protocol::Handover;
use crate::scripts::keys::{fence_key, ticket_key};

/// The states of all resources that this process has used.
#[derive(Debug)]
pub(crate) struct ResourceRegistry {
    quorum: AtomicUsize,
    resources: Mutex<HashMap<String, Arc<ResourceState>>>,
}

impl ResourceRegistry {
    /// An empty registry for one node.
    pub(crate) fn new() -> Self {
        Self { quorum: AtomicUsize::new(1), resources: Mutex::default() }
    }

    /// Sets the number of nodes that must report a release before its waiters wake.
    pub(crate) fn set_quorum(&self, quorum: usize) {
        self.quorum.store(quorum, Ordering::Relaxed);
    }

    /// Whether the token of any resource is known.
    pub(crate) fn knows_any_token(&self) -> bool {
        self.resources().values().any(|state| state.highest_token() > 0)
    }

    /// The state of a resource, which is created on first use.
    pub(crate) fn state_of(&self, resource: &str) -> Arc<ResourceState> {
        let mut resources = self.resources();
        if let Some(state) = resources.get(resource) {
            return Arc::clone(state);
        }
        let created = || Arc::new(ResourceState::new());
        Arc::clone(resources.entry(resource.to_owned()).or_insert_with(created))
    }

    /// The highest token and ticket of every resource, by the keys of a node's counters.
    pub(crate) fn counters(&self) -> HashMap<String, u64> {
        let resources = self.resources();
        let counters = resources.iter().flat_map(|(resource, state)| {
            let token = (fence_key(resource).to_string(), state.highest_token());
            [token, (ticket_key(resource).to_string(), state.highest_ticket())]
        });
        counters.filter(|(_, counter)| *counter > 0).collect()
    }

    /// The newest value of every resource that has one.
    pub(crate) fn values(&self) -> Vec<Handover> {
        let resources = self.resources();
        let newest = resources.iter().map(|(resource, state)| {
            let Published { token, value } = state.published().borrow().clone();
            Handover { resource: resource.clone(), token, highest: token, value }
        });
        newest.filter(|handover| handover.value.is_some()).collect()
    }

    /// Records the notices of one message of a node. Ignores what cannot be parsed, and resources that
    /// this process does not use.
    pub(crate) fn on_notice(&self, message: &str, node: usize) {
        for notice in notices(message, node) {
            self.record(&notice, node);
        }
    }

    fn record(&self, notice: &Notice<'_>, node: usize) {
        let Notice { resource, token, next_owner, grant, value } = *notice;
        let Some(state) = self.resources().get(resource).cloned() else { return };
        state.observe_token(token.max(grant.token));
        if !value.is_empty() {
            state.publish(token, value);
        }
        match next_owner {
            NextOwner::Granted(owner) => return state.deliver_grant(owner, grant),
            NextOwner::Present => return,
            NextOwner::Reserved => state.reserve(),
            NextOwner::Nobody => {}
        }
        state.record_release(token, node, self.quorum.load(Ordering::Relaxed));
    }

    fn resources(&self) -> MutexGuard<'_, HashMap<String, Arc<ResourceState>>> {
        self.resources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notify(registry: &ResourceRegistry, notice: &str, node: usize) {
        registry.on_notice(&format!("{}:{notice}", notice.len()), node);
    }

    #[test]
    fn keeps_the_value_of_the_highest_token() {
        let registry = ResourceRegistry::new();
        let state = registry.state_of("stock:1");
        notify(&registry, "stock:1\n7\n\n0\n0\n1\n42", 0);
        notify(&registry, "stock:1\n6\n\n0\n0\n1\n50", 0);
        assert_eq!(
            *state.published().borrow(),
            Published { token: 7, value: Some("42".to_owned()) }
        );
        assert_eq!(state.highest_token(), 7);
        let both = ["stock:2\n9\n\n0\n0\n1\n5", "stock:1\n8\n\n0\n0\n1\n41"];
        let both = both.map(|notice| format!("{}:{notice}", notice.len())).concat();
        registry.on_notice(&both, 0);
        assert_eq!(state.published().borrow().value.as_deref(), Some("41"), "one message");
    }

    #[test]
    fn wakes_waiters_once_when_a_majority_has_reported_a_release() {
        let registry = ResourceRegistry::new();
        registry.set_quorum(2);
        let mut releases = registry.state_of("x").releases();
        notify(&registry, "x\n7\n\n0\n0\n1\n", 0);
        assert!(!releases.has_changed().unwrap());
        notify(&registry, "x\n7\n\n0\n0\n1\n", 0);
        assert!(!releases.has_changed().unwrap(), "a node counts once");
        notify(&registry, "x\n6\n\n0\n0\n1\n", 1);
        assert!(!releases.has_changed().unwrap(), "an older release does not count");
        notify(&registry, "x\n7\n\n0\n0\n1\n", 1);
        assert!(releases.has_changed().unwrap());
        releases.mark_unchanged();
        notify(&registry, "x\n7\n\n0\n0\n1\n", 2);
        assert!(!releases.has_changed().unwrap());
    }

    #[test]
    fn ignores_unreadable_notices_and_unused_resources() {
        let registry = ResourceRegistry::new();
        let state = registry.state_of("stock:1");
        for unreadable in ["", "7:stock:1", ":", "x:", "-1:a"] {
            registry.on_notice(unreadable, 0);
        }
        for notice in ["", "a\nb", "stock:1\nx\n\n0\n0\n1\n1", "stock:2\n1\n\n0\n0\n1\n1"] {
            notify(&registry, notice, 0);
        }
        assert_eq!(state.highest_token(), 0);
        assert_eq!(registry.resources.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_late_grant_reaches_its_owner_and_wakes_no_other_waiter() {
        let registry = ResourceRegistry::new();
        let state = registry.state_of("x");
        let (mut grants, releases) = (state.subscribe_grants("me-1"), state.releases());
        notify(&registry, "x\n7\nme-1\n8\n12\n99\n", 3);
        notify(&registry, "x\n7\nyou-1\n8\n0\n99\n", 4);
        let grant = grants.try_recv().unwrap();
        assert_eq!(
            (grant.node, grant.token, grant.next_ticket, grant.micros),
            (3, 8, Some(12), 99)
        );
        assert!(grants.try_recv().is_err());
        assert!(!releases.has_changed().unwrap());
        assert_eq!(state.highest_token(), 8);
        state.unsubscribe_grants("me-1");
        notify(&registry, "x\n9\n+\n0\n0\n0\n41", 3);
        assert!(!releases.has_changed().unwrap(), "another lease has it");
        assert_eq!(state.published().borrow().value.as_deref(), Some("41"));
        notify(&registry, "x\n9\n-\n0\n0\n99\n", 3);
        assert!(releases.has_changed().unwrap());
        assert!(state.is_reserved());
    }
}
