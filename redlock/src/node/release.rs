//! A release that a node has not confirmed yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::protocol::{AfterRelease, Departure, Handover};

/// The lowest ticket that waits in a queue slot (0: none). The slot shares it with the releases of its
/// leases, so that a repeated release tells the node the present place.
#[derive(Debug, Clone, Default)]
pub(crate) struct LowestTicket(Arc<AtomicU64>);

impl LowestTicket {
    /// The ticket, or 0.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Replaces the ticket; 0: none waits.
    pub(crate) fn set(&self, ticket: u64) {
        self.0.store(ticket, Ordering::SeqCst);
    }
}

/// A release that goes to every node.
#[derive(Debug, Clone)]
pub(crate) struct Release {
    /// The owner whose locks are freed.
    pub(crate) owner: String,
    /// The slot of the lease that ends.
    pub(crate) departure: Departure,
    /// The lowest ticket of that slot, in fair order.
    pub(crate) lowest_ticket: Option<LowestTicket>,
    /// The resources.
    pub(crate) handovers: Vec<Handover>,
}

impl Release {
    /// The release for a repeated attempt: with the slot's present place, since a node that granted the
    /// lease may not have the slot in its queue. Without the next request, which the slot has repeated
    /// or given up since.
    pub(crate) fn for_retry(mut self) -> Self {
        let lowest = self.lowest_ticket.as_ref().map_or(0, LowestTicket::get);
        self.departure.after =
            if lowest > 0 { AfterRelease::WaitsWith(lowest) } else { AfterRelease::Unchanged };
        self.departure.next_request = None;
        self
    }
}
