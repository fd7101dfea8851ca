//! The worker that serves callers in the order in which they asked, over all clients.
//!
//! Arrivals take tickets together, in the round trip that asks for the lock or, where the client
//! waits for it or holds it already, in one of their own. The client with the lowest ticket gets the
//! lock and serves all its tickets below the lowest of any other client; so as long as only one
//! client has callers, fair costs no round trip more than any order. Those who are left over ask for
//! the next turn with the release itself, which grants the lock to the next of all lines: it may be
//! their own.

use std::collections::VecDeque;
use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc::Receiver;
use tokio::task::yield_now;
use tokio::time::{sleep, sleep_until};
use tracing::error;

use super::worker::{
    AFTER_PANIC, Entries, Worker, earliest, panic_message, policy, refuse_expired,
};
use super::{Batch, Entry};
use crate::turn::{Tickets, Turn};
use crate::{AcquireError, Lease};

/// Whoever comes while the client waits for the lock or holds it cannot be served at once, and
/// shares the round trip for the tickets with those who come this soon after.
const SHARE_TICKETS: Duration = Duration::from_millis(5);
/// Whoever submits at this moment has done so when so many times nobody came.
const QUIET_YIELDS: u32 = 4;
/// Where somebody always comes, nobody waits for that any longer.
const MOST_YIELDS: u32 = 64;

/// Callers whose tickets are under way.
struct Ticketing<B: Batch> {
    entries: Entries<B>,
    /// The first will be at least this.
    at_least: u64,
    tickets: Tickets,
}

/// All callers of this client for one resource.
pub(super) struct Line<B: Batch> {
    worker: Worker<B>,
    arrivals: Receiver<Entry<B::Item, B::Output>>,
    /// Have not asked for tickets yet,
    arrived: Entries<B>,
    /// and do so alone at this time.
    tickets_due: Option<Instant>,
    /// Those who asked last were several, as those who come next may be; so may the first.
    came_together: bool,
    ticketing: Option<Ticketing<B>>,
    /// In order of their tickets.
    waiting: VecDeque<Entry<B::Item, B::Output>>,
    /// Of callers who are gone; dropped one by one, when nothing else is in hand: an item may panic.
    gone: Entries<B>,
    turn: Arc<Turn>,
    acquiring: Option<BoxFuture<'static, Result<Lease, AcquireError>>>,
    /// Came before the tickets did, or before the batch before it came to its end.
    acquired: Option<Lease>,
    executing: Option<BoxFuture<'static, Entries<B>>>,
}

impl<B: Batch> Line<B> {
    pub(super) fn new(worker: Worker<B>, arrivals: Receiver<Entry<B::Item, B::Output>>) -> Self {
        Self {
            arrivals,
            arrived: Vec::new(),
            tickets_due: None,
            came_together: true,
            ticketing: None,
            waiting: VecDeque::new(),
            gone: Vec::new(),
            turn: Arc::new(Turn::new(&worker.redlock.shared)),
            worker,
            acquiring: None,
            acquired: None,
            executing: None,
        }
    }

    /// Ends when its combiner does.
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
            error!(resource, panic, "the worker of a fair line panicked; it goes on");
            panicked = true;
        }
    }

    /// After a panic outside a batch, as of an item that is dropped: who caused it is gone, or not to
    /// be known. The others are served as long as they wait. What is asked of the nodes is asked anew,
    /// as it may be what panicked; a batch runs in a task of its own and goes on.
    async fn recover(&mut self) {
        sleep(AFTER_PANIC).await;
        self.acquiring = None;
        self.turn.wants_no_more(None);
        if let Some(Ticketing { entries, .. }) = self.ticketing.take() {
            self.arrived.splice(..0, entries);
        }
        self.refuse_expired(&AcquireError::Interrupted);
        refuse_expired(&mut self.arrived, &AcquireError::Interrupted);
    }

    async fn serve_all(&mut self) {
        loop {
            while let Some(gone) = self.gone.pop() {
                drop(gone);
            }
            if self.is_free() && self.ticketing.is_none() && !self.arrived.is_empty() {
                self.gather().await;
            }
            self.acquire_if_due();
            tokio::select! {
                // Not woken by those who come after the first: they are there when it asks.
                first = self.arrivals.recv(), if self.arrived.is_empty() => {
                    let Some(first) = first else { return };
                    self.arrived.push(first);
                    self.tickets_due = Some(Instant::now() + SHARE_TICKETS);
                }
                () = until(self.tickets_due), if self.ticketing.is_none() => self.take_tickets(),
                taken = ready(self.ticketing.as_mut().map(|ticketing| &mut ticketing.tickets)) => {
                    self.line_up(taken);
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
                    self.executed(again);
                }
            }
        }
    }

    /// Whoever submits at this moment shares the round trip, and the turn.
    async fn gather(&mut self) {
        // Whoever submits may have been interrupted by this thread when it woke.
        if self.came_together {
            thread::yield_now();
        }
        let mut quiet = 0;
        for _ in 0..MOST_YIELDS {
            yield_now().await;
            quiet = if self.take_arrivals() { 0 } else { quiet + 1 };
            if quiet == QUIET_YIELDS {
                return;
            }
        }
    }

    /// Whether anybody has come.
    fn take_arrivals(&mut self) -> bool {
        let before = self.arrived.len();
        while self.arrived.len() < self.worker.config.queue
            && let Ok(entry) = self.arrivals.try_recv()
        {
            self.arrived.push(entry);
        }
        self.arrived.len() > before
    }

    /// Whether it neither asks for the lock nor executes under it.
    fn is_free(&self) -> bool {
        !self.asks_or_has() && self.executing.is_none()
    }

    /// Whether the lock for the next batch is on its way, or there.
    fn asks_or_has(&self) -> bool {
        self.acquiring.is_some() || self.acquired.is_some()
    }

    /// Those whose tickets are asked for now, and when the first of them gives up.
    fn next_arrived(&mut self) -> Option<(Entries<B>, Instant)> {
        self.take_arrivals();
        self.tickets_due = None;
        self.arrived.retain(|entry| !entry.is_abandoned());
        let entries = std::mem::take(&mut self.arrived);
        let deadline = earliest(&entries)?;
        self.came_together = entries.len() > 1;
        Some((entries, deadline))
    }

    fn take_tickets(&mut self) {
        let Some((entries, deadline)) = self.next_arrived() else { return };
        self.take_tickets_of(entries, deadline);
    }

    fn take_tickets_of(&mut self, entries: Entries<B>, deadline: Instant) {
        let Worker { redlock, resource, .. } = &self.worker;
        let tickets = redlock.take_tickets(resource, entries.len(), deadline, &self.turn);
        self.await_tickets(entries, tickets);
    }

    fn await_tickets(&mut self, entries: Entries<B>, tickets: Tickets) {
        let Worker { redlock, resource, .. } = &self.worker;
        let at_least = redlock.shared.roster.board.topic(resource).highest_ticket() + 1;
        self.ticketing = Some(Ticketing { entries, at_least, tickets });
        self.update_turn();
    }

    fn line_up(&mut self, taken: Result<u64, AcquireError>) {
        let Some(Ticketing { mut entries, .. }) = self.ticketing.take() else { return };
        match taken {
            Ok(first) => {
                for (entry, ticket) in entries.iter_mut().zip(first..) {
                    entry.ticket = ticket;
                }
                if self.waiting.is_empty() {
                    // The nodes had nobody before them when they granted it.
                    self.acquired = self.acquired.take().map(|lease| lease.of_ticket(first));
                }
                self.waiting.extend(entries);
                self.update_turn();
                self.serve_if_ready();
            }
            Err(error) => {
                // Nobody may be served under it; it is released.
                self.acquired = None;
                refuse_expired(&mut entries, &error);
                match earliest(&entries) {
                    Some(deadline) => self.take_tickets_of(entries, deadline),
                    None => self.leave_if_empty(),
                }
            }
        }
    }

    /// Those who have just come take their tickets in the same round. Whoever got a ticket while the
    /// batch under way executes asks at once, so that its release need not be waited for.
    fn acquire_if_due(&mut self) {
        if self.asks_or_has() || self.executing.is_some() && self.waiting.is_empty() {
            return;
        }
        if self.ticketing.is_none()
            && let Some((entries, deadline)) = self.next_arrived()
        {
            let Worker { redlock, resource, .. } = &self.worker;
            let tickets = redlock.want_tickets(resource, entries.len(), deadline, &self.turn);
            self.await_tickets(entries, tickets);
        } else if self.waiting.is_empty() {
            return;
        }
        let new = self.ticketing.iter().flat_map(|ticketing| &ticketing.entries);
        let Some(policy) = policy(self.waiting.iter().chain(new)) else { return };
        if self.executing.is_none() {
            self.worker.load.ask();
        }
        let Worker { redlock, resource, .. } = &self.worker;
        self.acquiring = Some(redlock.acquire_in_turn(resource, policy, &self.turn, None));
    }

    /// Whoever is left over by the batch that begins now asks when it releases the lock.
    fn acquire_with_release_of(&mut self, hold: &Lease) {
        let Some(policy) = policy(self.waiting.iter()) else { return };
        let Worker { redlock, resource, .. } = &self.worker;
        self.acquiring = Some(redlock.acquire_in_turn(resource, policy, &self.turn, Some(hold)));
    }

    /// One batch at a time: those that it could not answer come before the next.
    fn executed(&mut self, again: Entries<B>) {
        let must_ask_anew = !again.is_empty();
        for entry in again.into_iter().rev() {
            self.waiting.push_front(entry);
        }
        self.update_turn();
        if must_ask_anew {
            // It may have been refused for its token, and a lock that was granted to a request that
            // stands has one that is hardly higher. The next is asked for with all that is known.
            (self.acquiring, self.acquired) = (None, None);
            self.turn.wants_no_more(None);
        }
        if self.asks_or_has() {
            self.worker.load.ask();
        }
        self.serve_if_ready();
    }

    /// When the lock is there, and the tickets, and no batch is under way.
    fn serve_if_ready(&mut self) {
        let awaits_tickets = self.waiting.is_empty() && self.ticketing.is_some();
        if self.executing.is_none()
            && !awaits_tickets
            && let Some(lease) = self.acquired.take()
        {
            self.serve(lease);
        }
    }

    /// Executes the tickets that come before those of all other clients.
    fn serve(&mut self, lease: Lease) {
        let (mut entries, mut before) = (Vec::new(), None);
        while entries.len() < self.worker.config.batch {
            let is_due = |next: &mut Entry<_, _>| lease.serves(next.ticket, before);
            let Some(entry) = self.waiting.pop_front_if(is_due) else { break };
            before = Some(entry.ticket);
            if entry.claim() {
                entries.push(entry);
            } else {
                self.gone.push(entry);
            }
        }
        self.update_turn();
        if !entries.is_empty() {
            self.acquire_with_release_of(&lease);
            let worker = self.worker.clone();
            self.executing = Some(Box::pin(async move { worker.execute(lease, entries).await }));
        }
    }

    fn refuse_expired(&mut self, error: &AcquireError) {
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let (gone, waiting): (VecDeque<_>, _) = waiting.partition(Entry::is_abandoned);
        self.waiting = waiting;
        self.gone.extend(gone);
        let now = Instant::now();
        // Mostly the first.
        while let Some(expired) = self.waiting.iter().position(|entry| entry.deadline <= now)
            && let Some(entry) = self.waiting.remove(expired)
        {
            entry.refuse(error.clone().into());
        }
        self.leave_if_empty();
    }

    /// Others need not wait for a client that has no callers.
    fn leave_if_empty(&mut self) {
        self.update_turn();
        if self.waiting.is_empty() && self.ticketing.is_none() {
            let Worker { redlock, resource, .. } = &self.worker;
            tokio::spawn(redlock.shared.leave_turn(resource, &self.turn));
        }
    }

    /// What the nodes are told with the next vote or release.
    fn update_turn(&self) {
        let lowest = self.waiting.front().map(|entry| entry.ticket);
        self.turn.set(lowest, self.ticketing.as_ref().map(|ticketing| ticketing.at_least));
    }
}

/// Awaits what there is, or for ever.
async fn ready<F: Future + Unpin>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => pending().await,
    }
}
