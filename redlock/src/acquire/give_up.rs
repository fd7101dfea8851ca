//! Takes back a round that was not won.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::cluster::{ClusterClient, Confirmation, Members};
use crate::node::Release;
use crate::protocol::{AfterRelease, Departure, Handover, VoteRequest};
use crate::queue::SlotTicket;
use crate::registry::ResourceState;

/// What must be known of a round to take its request back.
pub(super) struct GivenUp {
    pub(super) client: Arc<ClusterClient>,
    pub(super) members: Arc<Members>,
    /// The states of the resources, in the order of the proposals.
    pub(super) states: Vec<Arc<ResourceState>>,
    pub(super) request: Arc<VoteRequest>,
    pub(super) fair: Option<SlotTicket>,
}

impl GivenUp {
    /// Takes the request back on all nodes.
    pub(super) fn send(&self) {
        let slot = self.fair.as_ref().map(|fair| &fair.slot);
        if slot.is_some_and(|slot| slot.detach_request(&self.request)) {
            return;
        }
        let VoteRequest { owner, proposals, entry, .. } = &*self.request;
        let handover = |((resource, _), state): (&(String, u64), &Arc<ResourceState>)| {
            let highest = state.highest_token();
            Handover { resource: resource.clone(), token: highest, highest, value: None }
        };
        let handovers = proposals.iter().zip(&self.states).map(handover).collect();
        let send = |after| {
            let slot_name = Arc::clone(&entry.slot);
            let departure =
                Departure { slot: slot_name, after, gives_up: true, next_request: None };
            let lowest_ticket = slot.map(|slot| slot.shared_lowest_ticket());
            let release = Release { owner: owner.clone(), departure, lowest_ticket, handovers };
            self.client.release(&self.members, release, Confirmation::ByMajority)
        };
        let released = match slot {
            Some(slot) => slot.give_up(send),
            None => send(AfterRelease::Unchanged),
        };
        // Without a runtime nothing can be sent, and the lock expires on the nodes.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(released);
        }
    }
}
