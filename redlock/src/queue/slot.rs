//! A slot in the queue of a resource: all callers of one client that wait for it in fair order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::error::AcquireError;
use crate::node::LowestTicket;
use crate::protocol::{AfterRelease, QueueEntry, TicketRequest, VoteRequest};

/// A slot and what the next votes and releases tell the nodes about it.
#[derive(Debug)]
pub(crate) struct QueueSlot {
    /// The name of the slot in the nodes' queues. A client may have several slots.
    name: Arc<str>,
    /// Changes only while `state` is locked.
    lowest: LowestTicket,
    state: Mutex<SlotState>,
}

/// A slot and the lowest ticket with which it takes part in a round (0: none yet).
#[derive(Debug, Clone)]
pub(crate) struct SlotTicket {
    pub(crate) slot: Arc<QueueSlot>,
    pub(crate) ticket: u64,
}

#[derive(Debug, Default)]
struct SlotState {
    /// Tickets from this one on are being issued.
    being_issued: Option<u64>,
    wanted: Option<WantedTickets>,
    /// The request that the release of a lease carries, and the owner of that lease.
    next_request: Option<(String, Arc<VoteRequest>)>,
    /// How long the last decisive votes took.
    round_trip: Duration,
}

/// Tickets that are taken together with the lock.
#[derive(Debug)]
struct WantedTickets {
    count: usize,
    result: oneshot::Sender<Result<u64, AcquireError>>,
}

impl QueueSlot {
    /// A slot without tickets.
    pub(crate) fn new(name: impl Into<Arc<str>>) -> Self {
        let (lowest, state) = (LowestTicket::default(), Mutex::default());
        Self { name: name.into(), lowest, state }
    }

    /// The name of the slot in the nodes' queues.
    pub(crate) fn name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// The lowest ticket (0: none) and the queue entry of the next request. `first` is proposed if the
    /// slot wants tickets.
    pub(crate) fn entry(&self, first: u64) -> (u64, QueueEntry) {
        let state = self.lock();
        let ticket = self.lowest.get();
        let count = state.wanted.as_ref().map_or(0, |wanted| wanted.count);
        #[expect(clippy::cast_precision_loss, reason = "tickets are far below 2^52")]
        let rank = ticket as f64;
        let tickets = Some(TicketRequest { count, first });
        (ticket, QueueEntry { slot: Arc::clone(&self.name), rank, tickets })
    }

    /// The lowest ticket that waits; 0: none.
    pub(crate) fn lowest_ticket(&self) -> u64 {
        let _state = self.lock();
        self.lowest.get()
    }

    /// The lowest ticket, for releases that are repeated later.
    pub(crate) fn shared_lowest_ticket(&self) -> LowestTicket {
        self.lowest.clone()
    }

    /// Sets the lowest ticket that waits, and the first of those that are being issued. Called before the
    /// nodes are asked for tickets, so that no release removes the slot of a caller that has just come.
    pub(crate) fn update(&self, lowest: Option<u64>, being_issued: Option<u64>) {
        let mut state = self.lock();
        self.lowest.set(lowest.unwrap_or(0));
        state.being_issued = being_issued;
    }

    /// Requests tickets from the next acquisition. The receiver fails if that ends without tickets.
    pub(super) fn request_tickets(
        &self,
        count: usize,
    ) -> oneshot::Receiver<Result<u64, AcquireError>> {
        let (result, receiver) = oneshot::channel();
        self.lock().wanted = Some(WantedTickets { count, result });
        receiver
    }

    /// Records that the requested tickets were issued; `first` is the first one.
    pub(crate) fn tickets_issued(&self, first: u64) {
        let mut state = self.lock();
        if let Some(wanted) = state.wanted.take() {
            if self.lowest.get() == 0 {
                self.lowest.set(first);
            }
            state.being_issued = None;
            let _ = wanted.result.send(Ok(first));
        }
    }

    /// Ends the request for tickets, because the acquisition that could bring them is over. With an
    /// error, the request fails with it.
    pub(crate) fn cancel_ticket_request(&self, error: Option<&AcquireError>) {
        if let Some(wanted) = self.lock().wanted.take()
            && let Some(error) = error
        {
            let _ = wanted.result.send(Err(error.clone()));
        }
    }

    /// Lets the release of this owner's lease carry the request.
    pub(crate) fn attach_request(&self, owner: &str, request: Arc<VoteRequest>) {
        self.lock().next_request = Some((owner.to_owned(), request));
    }

    /// Withdraws an attached request. Returns false if a release has carried it already.
    pub(crate) fn detach_request(&self, request: &VoteRequest) -> bool {
        let is_it = |attached: &mut (String, Arc<VoteRequest>)| attached.1.owner == request.owner;
        self.lock().next_request.take_if(is_it).is_some()
    }

    /// How long the last decisive votes took.
    pub(crate) fn round_trip(&self) -> Duration {
        self.lock().round_trip
    }

    /// Records how long the decisive votes took.
    pub(crate) fn set_round_trip(&self, round_trip: Duration) {
        self.lock().round_trip = round_trip;
    }

    /// Sends the release of this owner's lease. `send` gets the slot's place after the release and the
    /// attached request. It runs under the slot's lock: the message that is sent last is the valid one.
    pub(crate) fn release<T>(
        &self,
        owner: &str,
        send: impl FnOnce(AfterRelease, Option<Arc<VoteRequest>>) -> T,
    ) -> T {
        let mut state = self.lock();
        let attached = state.next_request.take_if(|(of, _)| of == owner);
        let after = match (self.lowest.get(), state.being_issued) {
            (0, None) => AfterRelease::Leaves,
            (0, Some(first)) => AfterRelease::WaitsFrom(first),
            (lowest, _) => AfterRelease::WaitsWith(lowest),
        };
        send(after, attached.map(|(_, request)| request))
    }

    /// Sends the release of a round that is given up, as [`QueueSlot::release`] does. The slot stays in the
    /// queue only with a ticket: without one it would be served before slots with tickets.
    pub(crate) fn give_up<T>(&self, send: impl FnOnce(AfterRelease) -> T) -> T {
        let _state = self.lock();
        send(match self.lowest.get() {
            0 => AfterRelease::Leaves,
            lowest => AfterRelease::WaitsWith(lowest),
        })
    }

    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITED: Duration = Duration::from_millis(50);

    #[test]
    fn a_slot_leaves_the_queue_only_if_no_caller_waits_or_takes_tickets() {
        let slot = QueueSlot::new("me");
        let after = || slot.release("me-0", |after, _| after);
        assert_eq!(after(), AfterRelease::Leaves);
        slot.update(None, Some(9));
        assert_eq!(after(), AfterRelease::WaitsFrom(9));
        slot.update(Some(7), Some(9));
        assert_eq!(after(), AfterRelease::WaitsWith(7));
    }

    #[test]
    fn a_release_carries_a_request_once_and_only_until_it_is_detached() {
        let slot = QueueSlot::new("me");
        let request = |owner: &str| {
            let (owner, entry) = (owner.to_owned(), slot.entry(1).1);
            let (proposals, renews) = (Vec::new(), None);
            Arc::new(VoteRequest { epoch: 0, owner, lease: WAITED, proposals, entry, renews })
        };
        let carried = |owner| slot.release(owner, |_, next| next.map(|next| next.owner.clone()));
        let (first, second) = (request("me-2"), request("me-3"));
        slot.attach_request("me-1", Arc::clone(&first));
        assert_eq!(carried("me-0"), None, "the release of an earlier lease");
        assert!(!slot.detach_request(&second));
        assert_eq!(carried("me-1").as_deref(), Some("me-2"));
        assert!(!slot.detach_request(&first), "the nodes have it");
        assert_eq!(carried("me-1"), None);
        slot.attach_request("me-2", Arc::clone(&second));
        assert!(slot.detach_request(&second));
        assert_eq!(carried("me-2"), None);
    }

    #[test]
    fn a_slot_that_gives_up_stays_only_with_a_ticket() {
        let slot = QueueSlot::new("me");
        slot.update(None, Some(9));
        assert_eq!(slot.give_up(|after| after), AfterRelease::Leaves);
        slot.update(Some(7), Some(9));
        assert_eq!(slot.give_up(|after| after), AfterRelease::WaitsWith(7));
    }

    #[test]
    fn an_acquisition_that_ends_resolves_the_ticket_request() {
        let slot = QueueSlot::new("me");
        let request = || {
            let tickets = slot.request_tickets(2);
            slot.update(None, Some(7));
            tickets
        };
        let mut tickets = request();
        slot.tickets_issued(7);
        assert_eq!((tickets.try_recv(), slot.lowest_ticket()), (Ok(Ok(7)), 7));
        let mut tickets = request();
        slot.cancel_ticket_request(None);
        assert!(tickets.try_recv().is_err(), "they are taken alone");
        let mut tickets = request();
        let error = AcquireError::Timeout { waited: WAITED };
        slot.cancel_ticket_request(Some(&error));
        assert_eq!(tickets.try_recv(), Ok(Err(error)));
    }
}
