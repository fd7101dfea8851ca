//! The worker that serves callers in the order in which they asked, over all clients.
//!
//! Callers that arrive take tickets together: in the round that asks for the lock or, while the client
//! holds the lock or waits for it, in a round of their own. The client with the lowest ticket gets the
//! lock and serves all its tickets below the lowest ticket of any other client. As long as only one client
//! has callers, fair order costs no extra round. The release of a batch carries the request for the next
//! one and grants the lock to the first slot in the queue, which may be the same client's.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc::Receiver;
use tokio::task::yield_now;
use tokio::time::sleep;
use tracing::error;

use super::batch::Batch;
use super::batch_times::BatchTimes;
use super::entry::Entry;
use super::worker::{
    AFTER_PANIC, Entries, Worker, earliest_deadline, panic_message, policy, ready, refuse_expired,
    renewable, until,
};
use crate::acquire::{Lease, Present, Renewable, acquire_in_slot};
use crate::error::AcquireError;
use crate::queue::{QueueSlot, TicketsFuture, take_tickets, take_tickets_with_lock};

/// How long a caller that cannot be served at once waits for others that share its round for tickets.
const SHARE_TICKETS: Duration = Duration::from_millis(5);
/// The arrival of a group of callers is complete after this number of yields without a new caller.
const QUIET_YIELDS: u32 = 4;
/// The largest number of yields for one group.
const MAX_YIELDS: u32 = 64;

/// Callers whose tickets are being issued.
struct Ticketing<B: Batch> {
    entries: Entries<B>,
    /// The lower limit of their tickets.
    at_least: u64,
    tickets: TicketsFuture,
}

/// All callers of this client for one resource.
pub(super) struct FairQueue<B: Batch> {
    worker: Worker<B>,
    arrivals: Receiver<Entry<B::Item, B::Output>>,
    /// Callers that have not asked for tickets.
    arrived: Entries<B>,
    /// When these callers ask for tickets in a round of their own.
    tickets_due: Option<Instant>,
    /// The last group had several callers, so the next group may have several too.
    came_together: bool,
    ticketing: Option<Ticketing<B>>,
    /// Callers with tickets, in the order of these.
    waiting: VecDeque<Entry<B::Item, B::Output>>,
    /// Entries of callers that are gone. Dropped one by one and outside of other work, since an item may
    /// panic when it is dropped.
    abandoned: Entries<B>,
    slot: Arc<QueueSlot>,
    acquiring: Option<BoxFuture<'static, Result<Lease, AcquireError>>>,
    /// A lease that arrived before its tickets, or before the end of the previous batch.
    acquired: Option<Lease>,
    executing: Option<BoxFuture<'static, Entries<B>>>,
    /// The lease of the batch that is executed, if it may be renewed.
    renewable: Option<Renewable>,
    times: BatchTimes,
}

impl<B: Batch> FairQueue<B> {
    pub(super) fn new(worker: Worker<B>, arrivals: Receiver<Entry<B::Item, B::Output>>) -> Self {
        Self {
            arrivals,
            arrived: Vec::new(),
            tickets_due: None,
            came_together: true,
            ticketing: None,
            waiting: VecDeque::new(),
            abandoned: Vec::new(),
            slot: Arc::new(QueueSlot::new(worker.client.next_owner())),
            worker,
            acquiring: None,
            acquired: None,
            executing: None,
            renewable: None,
            times: BatchTimes::default(),
        }
    }

    /// Serves callers until the combiner is dropped.
    pub(super) async fn run(mut self) {
        let mut panicked = false;
        loop {
            let serving = async {
                if panicked {
                    self.recover().await;
                }
                self.serve_all().await;
            };
            let Err(panic) = AssertUnwindSafe(serving).catch_unwind().await else { return };
            let (resource, panic) = (&*self.worker.resource, panic_message(&*panic));
            error!(resource, panic, "the worker of a fair queue panicked; it continues");
            panicked = true;
        }
    }

    /// Continues after a panic outside a batch, such as that of an item that is dropped. The other callers
    /// are served as long as they wait. Calls to the nodes are repeated, because one of them may have
    /// panicked. A batch runs in a task of its own and continues.
    async fn recover(&mut self) {
        sleep(AFTER_PANIC).await;
        self.acquiring = None;
        self.slot.cancel_ticket_request(None);
        if let Some(Ticketing { entries, .. }) = self.ticketing.take() {
            self.arrived.splice(..0, entries);
        }
        self.refuse_expired(&AcquireError::Interrupted);
        refuse_expired(&mut self.arrived, &AcquireError::Interrupted);
    }

    async fn serve_all(&mut self) {
        loop {
            while let Some(abandoned) = self.abandoned.pop() {
                drop(abandoned);
            }
            if self.is_idle() && self.ticketing.is_none() && !self.arrived.is_empty() {
                self.gather().await;
            }
            self.acquire_if_due();
            let renewal_due = self.renewal_due();
            tokio::select! {
                // Only the first caller of a group wakes the worker.
                first = self.arrivals.recv(), if self.arrived.is_empty() => {
                    let Some(first) = first else { return };
                    self.arrived.push(first);
                    self.tickets_due = Some(Instant::now() + SHARE_TICKETS);
                }
                () = until(renewal_due), if renewal_due.is_some() => {}
                () = until(self.tickets_due), if self.ticketing.is_none() && renewal_due.is_none() => {
                    self.take_tickets();
                }
                issued = ready(self.ticketing.as_mut().map(|ticketing| &mut ticketing.tickets)) => {
                    self.on_tickets(issued);
                }
                acquired = ready(self.acquiring.as_mut()) => {
                    self.acquiring = None;
                    match acquired {
                        Ok(lease) => {
                            self.acquired = Some(lease);
                            self.serve_if_ready();
                        }
                        Err(error) => self.refuse_expired(&error),
                    }
                }
                again = ready(self.executing.as_mut()) => {
                    self.executing = None;
                    self.on_executed(again);
                }
            }
        }
    }

    /// Waits for callers that submit at this moment, so that they share the round and the lease.
    async fn gather(&mut self) {
        // The wake-up of this thread may have interrupted a caller that is about to submit.
        if self.came_together {
            thread::yield_now();
        }
        let mut quiet = 0;
        for _ in 0..MAX_YIELDS {
            yield_now().await;
            quiet = if self.take_arrivals() { 0 } else { quiet + 1 };
            if quiet == QUIET_YIELDS {
                return;
            }
        }
    }

    /// Takes the callers that have arrived. Returns whether there are any.
    fn take_arrivals(&mut self) -> bool {
        let before = self.arrived.len();
        while self.arrived.len() < self.worker.config.queue
            && let Ok(entry) = self.arrivals.try_recv()
        {
            self.arrived.push(entry);
        }
        self.arrived.len() > before
    }

    /// Whether the worker neither asks for the lock nor executes a batch.
    fn is_idle(&self) -> bool {
        !self.has_next_lease() && self.executing.is_none()
    }

    /// Whether the lease for the next batch is there or asked for.
    fn has_next_lease(&self) -> bool {
        self.acquiring.is_some() || self.acquired.is_some()
    }

    /// The callers that ask for tickets now, and their earliest deadline.
    fn next_arrived(&mut self) -> Option<(Entries<B>, Instant)> {
        self.take_arrivals();
        self.tickets_due = None;
        self.arrived.retain(|entry| !entry.is_abandoned());
        let entries = std::mem::take(&mut self.arrived);
        let deadline = earliest_deadline(&entries)?;
        self.came_together = entries.len() > 1;
        Some((entries, deadline))
    }

    fn take_tickets(&mut self) {
        let Some((entries, deadline)) = self.next_arrived() else { return };
        self.take_tickets_for(entries, deadline);
    }

    fn take_tickets_for(&mut self, entries: Entries<B>, deadline: Instant) {
        let Worker { client, resource, .. } = &self.worker;
        let tickets = take_tickets(client, resource, entries.len(), deadline, &self.slot);
        self.await_tickets(entries, tickets);
    }

    fn await_tickets(&mut self, entries: Entries<B>, tickets: TicketsFuture) {
        let Worker { client, resource, .. } = &self.worker;
        let at_least = client.cluster.registry.state_of(resource).highest_ticket() + 1;
        self.ticketing = Some(Ticketing { entries, at_least, tickets });
        self.update_slot();
    }

    fn on_tickets(&mut self, issued: Result<u64, AcquireError>) {
        let Some(Ticketing { mut entries, .. }) = self.ticketing.take() else { return };
        match issued {
            Ok(first) => {
                for (entry, ticket) in entries.iter_mut().zip(first..) {
                    entry.ticket = ticket;
                }
                if self.waiting.is_empty() {
                    // No slot preceded these callers when the nodes granted the lease.
                    self.acquired = self.acquired.take().map(|lease| lease.for_ticket(first));
                }
                self.waiting.extend(entries);
                self.update_slot();
                self.serve_if_ready();
            }
            Err(error) => {
                // Without tickets no caller may use the lease, so it is released.
                self.acquired = None;
                refuse_expired(&mut entries, &error);
                match earliest_deadline(&entries) {
                    Some(deadline) => self.take_tickets_for(entries, deadline),
                    None => self.leave_if_empty(),
                }
            }
        }
    }

    /// When to renew the lease of the batch that is executed, with tickets for the callers that have arrived, if
    /// there are any: late, because callers who arrive after that are hardly in the next batch, but early
    /// enough to have both when this batch ends, and not later than the tickets alone.
    fn renewal_due(&self) -> Option<Instant> {
        let may_renew = self.renewable.is_some() && self.executing.is_some();
        let awaits = may_renew && !self.has_next_lease() && self.ticketing.is_none();
        let due = self.times.start_of(self.slot.round_trip()).filter(|_| awaits)?;
        let due = self.tickets_due.map_or(due, |tickets| tickets.min(due));
        (!self.arrived.is_empty()).then_some(due)
    }

    /// Asks for the lock, and in the same round for the tickets of callers that have just arrived. Callers
    /// that got tickets while a batch is executed ask at once, without waiting for its release.
    fn acquire_if_due(&mut self) {
        let renewal_is_due = || self.renewal_due().is_some_and(|due| due <= Instant::now());
        let is_early = self.executing.is_some() && self.waiting.is_empty() && !renewal_is_due();
        if self.has_next_lease() || is_early {
            return;
        }
        if self.ticketing.is_none()
            && let Some((entries, deadline)) = self.next_arrived()
        {
            let Worker { client, resource, .. } = &self.worker;
            let count = entries.len();
            let tickets = take_tickets_with_lock(client, resource, count, deadline, &self.slot);
            self.await_tickets(entries, tickets);
        } else if self.waiting.is_empty() {
            return;
        }
        let new = self.ticketing.iter().flat_map(|ticketing| &ticketing.entries);
        let Some(policy) = policy(self.waiting.iter().chain(new)) else { return };
        if self.executing.is_none() {
            self.worker.load.round_started();
        }
        let renewed = self.renewable.take().filter(|_| self.executing.is_some());
        let present = renewed.map_or(Present::None, Present::Renewed);
        let Worker { client, resource, .. } = &self.worker;
        self.acquiring = Some(acquire_in_slot(client, resource, policy, &self.slot, present));
    }

    /// Lets the release of this lease carry the request of the callers that the batch leaves over.
    fn acquire_with_release_of(&mut self, lease: &Lease) {
        let Some(policy) = policy(self.waiting.iter()) else { return };
        let Worker { client, resource, .. } = &self.worker;
        let present = Present::ReleasedWith(lease);
        self.acquiring = Some(acquire_in_slot(client, resource, policy, &self.slot, present));
    }

    /// Continues after a batch. Entries that must be tried again precede all others.
    fn on_executed(&mut self, again: Entries<B>) {
        self.times.batch_ended();
        self.renewable = None;
        let must_ask_again = !again.is_empty();
        for entry in again.into_iter().rev() {
            self.waiting.push_front(entry);
        }
        self.update_slot();
        if must_ask_again {
            // The batch may have been refused because of its token, and the token of a waiting request is
            // hardly higher. A new request proposes a token above everything that is known.
            (self.acquiring, self.acquired) = (None, None);
            self.slot.cancel_ticket_request(None);
        }
        if self.has_next_lease() {
            self.worker.load.round_started();
        }
        self.serve_if_ready();
    }

    /// Begins a batch if the lease and the tickets are there and no batch is being executed.
    fn serve_if_ready(&mut self) {
        let awaits_tickets = self.waiting.is_empty() && self.ticketing.is_some();
        if self.executing.is_none()
            && !awaits_tickets
            && let Some(lease) = self.acquired.take()
        {
            self.serve(lease);
        }
    }

    /// Executes the entries whose tickets precede those of all other clients.
    fn serve(&mut self, lease: Lease) {
        let (mut entries, mut before) = (Vec::new(), None);
        while entries.len() < self.worker.config.batch {
            let is_due = |next: &mut Entry<_, _>| lease.serves(next.ticket, before);
            let Some(entry) = self.waiting.pop_front_if(is_due) else { break };
            before = Some(entry.ticket);
            if entry.claim() {
                entries.push(entry);
            } else {
                self.abandoned.push(entry);
            }
        }
        self.update_slot();
        if !entries.is_empty() {
            self.acquire_with_release_of(&lease);
            self.renewable = renewable::<B>(&lease);
            self.times.batch_began();
            let worker = self.worker.clone();
            self.executing = Some(Box::pin(async move { worker.execute(lease, entries).await }));
        }
    }

    fn refuse_expired(&mut self, error: &AcquireError) {
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let (abandoned, waiting): (VecDeque<_>, _) = waiting.partition(Entry::is_abandoned);
        self.waiting = waiting;
        self.abandoned.extend(abandoned);
        let now = Instant::now();
        // Usually the first entry.
        while let Some(expired) = self.waiting.iter().position(|entry| entry.deadline <= now)
            && let Some(entry) = self.waiting.remove(expired)
        {
            entry.refuse(error.clone().into());
        }
        self.leave_if_empty();
    }

    /// Leaves the nodes' queues without callers, so that other clients need not wait for this one.
    fn leave_if_empty(&mut self) {
        self.update_slot();
        if self.waiting.is_empty() && self.ticketing.is_none() {
            let Worker { client, resource, .. } = &self.worker;
            tokio::spawn(client.leave_queue(resource, &self.slot.name()));
        }
    }

    /// Sets what the next vote or release tells the nodes about the slot.
    fn update_slot(&self) {
        let lowest = self.waiting.front().map(|entry| entry.ticket);
        self.slot.update(lowest, self.ticketing.as_ref().map(|ticketing| ticketing.at_least));
    }
}
