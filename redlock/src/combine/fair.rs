//! The worker that serves callers in the order in which they asked, over all clients.
//!
//! Arrivals take tickets together, one round trip for all that are there, and wait in line. The
//! client with the lowest ticket gets the lock and serves all its tickets below the lowest of any
//! other client; so as long as only one client has callers, fair costs one round trip more and
//! nothing else.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::mpsc::Receiver;

use super::worker::{Entries, Worker, earliest, refuse_expired};
use super::{Batch, Entry};
use crate::turn::{Tickets, Turn};
use crate::{AcquireError, Lease};

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
    ticketing: Option<Ticketing<B>>,
    /// In order of their tickets.
    waiting: VecDeque<Entry<B::Item, B::Output>>,
    turn: Arc<Turn>,
    acquiring: Option<BoxFuture<'static, Result<Lease, AcquireError>>>,
    executing: Option<BoxFuture<'static, Entries<B>>>,
}

impl<B: Batch> Line<B> {
    pub(super) fn new(worker: Worker<B>, arrivals: Receiver<Entry<B::Item, B::Output>>) -> Self {
        Self {
            worker,
            arrivals,
            ticketing: None,
            waiting: VecDeque::new(),
            turn: Arc::default(),
            acquiring: None,
            executing: None,
        }
    }

    /// Ends when its combiner does.
    pub(super) async fn run(mut self) {
        let mut arrived = Vec::new();
        loop {
            self.acquire_if_due();
            tokio::select! {
                count = self.arrivals.recv_many(&mut arrived, self.worker.config.batch),
                    if self.ticketing.is_none() =>
                {
                    if count == 0 {
                        return;
                    }
                    self.take_tickets(std::mem::take(&mut arrived));
                }
                taken = ready(self.ticketing.as_mut().map(|ticketing| &mut ticketing.tickets)) => {
                    self.line_up(taken);
                }
                acquired = ready(self.acquiring.as_mut()) => {
                    self.acquiring = None;
                    match acquired {
                        Ok(lease) => self.serve(lease),
                        Err(error) => self.refuse_expired(&error),
                    }
                }
                again = ready(self.executing.as_mut()) => {
                    self.executing = None;
                    for entry in again.into_iter().rev() {
                        self.waiting.push_front(entry);
                    }
                    self.update_turn();
                }
            }
        }
    }

    fn take_tickets(&mut self, mut entries: Entries<B>) {
        entries.retain(|entry| !entry.is_abandoned());
        let Some(deadline) = earliest(&entries) else { return };
        let Worker { redlock, resource, .. } = &self.worker;
        let (at_least, tickets) =
            redlock.take_tickets(resource, entries.len(), deadline, &self.turn);
        self.ticketing = Some(Ticketing { entries, at_least, tickets });
    }

    fn line_up(&mut self, taken: Result<u64, AcquireError>) {
        let Some(Ticketing { mut entries, .. }) = self.ticketing.take() else { return };
        match taken {
            Ok(first) => {
                for (entry, ticket) in entries.iter_mut().zip(first..) {
                    entry.ticket = ticket;
                }
                self.waiting.extend(entries);
                self.update_turn();
            }
            Err(error) => {
                refuse_expired(&mut entries, &error);
                self.take_tickets(entries);
                self.leave_if_empty();
            }
        }
    }

    fn acquire_if_due(&mut self) {
        if self.acquiring.is_some() || self.executing.is_some() {
            return;
        }
        // No longer than the caller who has waited longest may.
        let Some(deadline) = earliest(&self.waiting) else { return };
        let (worker, turn) = (self.worker.clone(), Arc::clone(&self.turn));
        self.acquiring = Some(Box::pin(async move {
            let policy = worker.policy_until(deadline);
            worker.redlock.acquire_in_turn(&worker.resource, policy, turn).await
        }));
    }

    /// Executes the tickets that come before those of all other clients.
    fn serve(&mut self, lease: Lease) {
        let mut entries = Vec::new();
        while entries.len() < self.worker.config.batch {
            let first = entries.is_empty();
            let Some(entry) = self.waiting.pop_front_if(|next| first || lease.serves(next.ticket))
            else {
                break;
            };
            if entry.claim() {
                entries.push(entry);
            }
        }
        self.update_turn();
        if !entries.is_empty() {
            let worker = self.worker.clone();
            self.executing = Some(Box::pin(async move { worker.execute(lease, entries).await }));
        }
    }

    fn refuse_expired(&mut self, error: &AcquireError) {
        let mut waiting = Vec::from(std::mem::take(&mut self.waiting));
        waiting.retain(|entry| !entry.is_abandoned());
        refuse_expired(&mut waiting, error);
        self.waiting = waiting.into();
        self.leave_if_empty();
    }

    /// Others need not wait for a client that has no callers.
    fn leave_if_empty(&mut self) {
        self.update_turn();
        if self.waiting.is_empty() && self.ticketing.is_none() {
            let Worker { redlock, resource, .. } = &self.worker;
            tokio::spawn(self.turn.leave(&redlock.shared, resource));
        }
    }

    /// What the nodes are told with the next vote or release.
    fn update_turn(&self) {
        let in_line = self.waiting.front().map(|entry| entry.ticket);
        let under_way = self.ticketing.as_ref().map(|ticketing| ticketing.at_least);
        self.turn.set_lowest_ticket(in_line.or(under_way));
    }
}

/// Awaits what there is, or for ever.
async fn ready<F: Future + Unpin>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}
