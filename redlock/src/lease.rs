//! A held lock.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::ExtendError;
use crate::acquisition::usable;
use crate::clock::bounded;
use crate::config::SHORTEST_LEASE;
use crate::members::Members;
use crate::round::Won;
use crate::script::{Handover, Hold, Left, Stays, Vote};
use crate::shared::{Confirmed, Shared};
use crate::tally::{Tally, Verdict};
use crate::turn::Turn;

/// A lease is extended when this part of it is over, and again after so much of it if that failed.
const EXTEND_AFTER: f64 = 1.0 / 3.0;
const EXTEND_AGAIN_AFTER: f64 = 1.0 / 48.0;

/// A majority of the nodes holds these resources for this owner until the deadline.
///
/// Dropping a lease releases it in the background; [`Lease::release`] waits for the nodes.
#[derive(Debug)]
pub struct Lease {
    held: Arc<Held>,
    acquired_at: Instant,
    /// What it was acquired for, and is extended by.
    length: Duration,
    lost: OnceLock<CancellationToken>,
    /// Ends what extends the lease and what watches over it.
    attended: CancellationToken,
    _attended: DropGuard,
    turn: Option<InTurn>,
    released: bool,
}

/// What extends a lease needs of it.
#[derive(Debug)]
pub(crate) struct Held {
    shared: Arc<Shared>,
    /// The nodes that were asked. Those of a later membership never held it.
    members: Arc<Members>,
    owner: String,
    /// Where it asked. Some nodes may not have granted it yet.
    line: Arc<str>,
    tokens: Vec<(String, u64)>,
    deadline: watch::Sender<Instant>,
}

/// A lease acquired in turn.
#[derive(Debug)]
struct InTurn {
    turn: Arc<Turn>,
    /// The lowest of this client.
    ticket: u64,
    /// The lowest of another client.
    next_ticket: Option<u64>,
}

impl Held {
    pub(crate) fn new(shared: Arc<Shared>, won: Won) -> Self {
        let Won { members, owner, line, tokens, turn: _ } = won;
        Self { shared, members, owner, line, tokens, deadline: watch::Sender::new(Instant::now()) }
    }

    fn deadline(&self) -> Instant {
        *self.deadline.borrow()
    }

    /// Only nodes that never gave it up count, so a majority of them held it without a break.
    async fn extend(&self, lease: Duration) -> Result<(), ExtendError> {
        let asked = Instant::now();
        if asked >= self.deadline() {
            return Err(ExtendError::Expired);
        }
        let (epoch, longest) = (self.members.membership.epoch, self.shared.roster.longest_lease);
        let hold = Hold { epoch, owner: &self.owner, lease, longest };
        let call = self.shared.roster.scripts.extend(hold, &self.tokens);
        let ask = async |position: usize| {
            let node = self.members.nodes.get(position)?;
            Some(self.shared.extend(node, &call).await)
        };
        let positions = 0..self.members.nodes.len();
        let mut votes: FuturesUnordered<_> =
            positions.map(async |position| (position, ask(position).await)).collect();
        let mut tally = Tally::new(&self.members.sets);
        let mut extended = 0;
        while let Some((position, answer)) = votes.next().await {
            let granted = answer == Some(true);
            extended += usize::from(granted);
            tally.count(position, granted.then_some(Vote::Granted));
            if tally.verdict() == Some(Verdict::Won) {
                if Instant::now() >= self.deadline() {
                    return Err(ExtendError::Expired);
                }
                // The nodes that have not answered yet were asked all the same.
                self.deadline.send_modify(|deadline| *deadline = asked + usable(lease));
                return Ok(());
            }
        }
        let (_, nodes, quorum) = tally.shortage();
        Err(ExtendError::NoQuorum { extended, nodes, quorum })
    }

    /// Tries until it is extended or over; says which.
    async fn extend_by_any_means(&self, lease: Duration) -> bool {
        loop {
            match self.extend(lease).await {
                Ok(()) => return true,
                Err(ExtendError::Expired) => return false,
                Err(_) => sleep(lease.mul_f64(EXTEND_AGAIN_AFTER)).await,
            }
        }
    }
}

impl Lease {
    pub(crate) fn new(held: Held, lease_time: Duration, deadline: Instant) -> Self {
        held.deadline.send_replace(deadline);
        let attended = CancellationToken::new();
        Self {
            held: Arc::new(held),
            acquired_at: Instant::now(),
            length: lease_time,
            lost: OnceLock::new(),
            _attended: attended.clone().drop_guard(),
            attended,
            turn: None,
            released: false,
        }
    }

    pub(crate) fn in_turn(
        mut self,
        turn: Arc<Turn>,
        ticket: u64,
        next_ticket: Option<u64>,
    ) -> Self {
        self.turn = Some(InTurn { turn, ticket, next_ticket });
        self
    }

    /// Whose hold it is, on the nodes.
    pub(crate) fn owner(&self) -> &str {
        &self.held.owner
    }

    /// Whether a ticket of this client comes before those of all others; `before` is the one that
    /// was served last.
    pub(crate) fn serves(&self, ticket: u64, before: Option<u64>) -> bool {
        self.turn.as_ref().is_none_or(|turn| {
            let follows = match turn.next_ticket {
                Some(next) => ticket < next,
                // Others may have come since, but not in between.
                None => before.is_some_and(|before| ticket == before + 1),
            };
            // The nodes said so of that one, though one of them may know of a lower that is dead.
            ticket == turn.ticket || follows
        })
    }

    /// The same lease, for the caller who has this ticket.
    pub(crate) fn of_ticket(mut self, ticket: u64) -> Self {
        if let Some(turn) = &mut self.turn {
            turn.ticket = ticket;
        }
        self
    }

    /// The place in the line of a fair acquisition: whoever asked later has a higher one.
    #[must_use]
    pub fn ticket(&self) -> Option<u64> {
        self.turn.as_ref().map(|turn| turn.ticket)
    }

    /// The fencing token of the first (or only) resource.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.tokens().first().map_or(0, |(_, token)| *token)
    }

    /// The fencing token of each resource, sorted by resource.
    #[must_use]
    pub fn tokens(&self) -> &[(String, u64)] {
        &self.held.tokens
    }

    /// How much longer the nodes keep the lock, by this process's monotonic clock.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.held.deadline().saturating_duration_since(Instant::now())
    }

    /// Lets the lease end only so long from now.
    ///
    /// A lock that is gone on a node is never set again there, so a majority has held it all along.
    /// After a change of the membership a lease cannot be extended any more.
    ///
    /// # Errors
    /// [`ExtendError`]; the lease then ends when it would have ended.
    pub async fn extend(&self, lease_time: Duration) -> Result<(), ExtendError> {
        let (longest, shortest) = (self.held.shared.roster.longest_lease, SHORTEST_LEASE);
        if bounded(lease_time) > longest {
            return Err(ExtendError::LeaseTooLong { lease_time, longest });
        }
        if lease_time < shortest {
            return Err(ExtendError::LeaseTooShort { lease_time, shortest });
        }
        self.held.extend(bounded(lease_time)).await
    }

    /// Extends the lease by its own time again and again until it is released or dropped.
    pub fn keep_extended(&self) {
        let (held, length) = (Arc::clone(&self.held), self.length);
        self.attend(async move {
            loop {
                sleep(length.mul_f64(EXTEND_AFTER)).await;
                if !held.extend_by_any_means(length).await {
                    return;
                }
            }
        });
    }

    /// Extends the lease to its own time, unless it is released before this.
    pub(crate) fn extend_once(&self, at: Instant) {
        let (held, length) = (Arc::clone(&self.held), self.length);
        self.attend(async move {
            sleep_until(at.into()).await;
            held.extend_by_any_means(length).await;
        });
    }

    fn attend(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.attended.clone().run_until_cancelled_owned(task));
    }

    /// Runs a section as long as the lease lasts; `None`: it is over, and the section was dropped.
    pub async fn while_held<F: Future>(&self, section: F) -> Option<F::Output> {
        let mut section = pin!(section);
        loop {
            let deadline = self.held.deadline();
            match timeout_at(deadline.into(), &mut section).await {
                Ok(result) => return Some(result),
                Err(_elapsed) if self.held.deadline() > deadline => {}
                Err(_elapsed) => return None,
            }
        }
    }

    /// Is cancelled when the lease is over before it was released: before the first node of the
    /// majority gives it up, as long as the nodes' clocks do not jump. Not after a release.
    #[must_use]
    pub fn lost(&self) -> CancellationToken {
        let watched = || {
            let lost = CancellationToken::new();
            let (held, observed) = (Arc::clone(&self.held), lost.clone());
            let watching = async move {
                while held.deadline() > Instant::now() {
                    sleep_until(held.deadline().into()).await;
                }
                observed.cancel();
                held.shared.roster.observer.lease_lost();
            };
            self.attend(watching);
            lost
        };
        self.lost.get_or_init(watched).clone()
    }

    /// Frees the resources on all nodes, waiting until a majority has done so.
    pub async fn release(self) {
        self.release_with(&[]).await;
    }

    /// As [`Lease::release`], leaving behind a value for some of the resources: each node keeps it
    /// under the resource's own name unless a higher token wrote one before. The value
    /// [`REMOVED`](crate::REMOVED) removes it.
    pub async fn release_with(mut self, values: &[(&str, String)]) {
        self.end(values, Confirmed::ByMajority).await;
    }

    /// As [`Lease::release_with`], waiting for every node that is connected: for a process that ends
    /// then.
    pub async fn release_everywhere(mut self, values: &[(&str, String)]) {
        self.end(values, Confirmed::ByAll).await;
    }

    /// Frees the resources, leaving values as [`Lease::release_with`] does, without waiting.
    ///
    /// A later acquisition by this process is sent over the same ordered connections, so it finds
    /// the resources free.
    pub fn release_in_background(mut self, values: &[(&str, String)]) {
        tokio::spawn(self.end(values, Confirmed::ByMajority));
    }

    fn end(
        &mut self,
        values: &[(&str, String)],
        confirmed: Confirmed,
    ) -> impl Future<Output = ()> + Send + 'static {
        self.released = true;
        self.attended.cancel();
        let Held { shared, members, owner, line, tokens, .. } = &*self.held;
        shared.roster.observer.released(self.acquired_at.elapsed());
        let mut values: HashMap<_, _> = values.iter().cloned().collect();
        let handover = |(resource, token): &(String, u64)| {
            let value = values.remove(&**resource);
            Handover { resource: resource.clone(), token: *token, value }
        };
        let handovers: Vec<_> = tokens.iter().map(handover).collect();
        let release = |stays, asks| {
            let turn = self.turn.as_ref().map(|place| Arc::clone(&place.turn));
            let line = Left { line: Arc::clone(line), stays, turn, gives_up: false, asks };
            shared.release(members, owner, line, handovers, confirmed)
        };
        match &self.turn {
            Some(place) => place.turn.leave(owner, release),
            None => release(Stays::AsItIs, None),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Outside a runtime nothing can be sent; the nodes then end the lease themselves.
        if !self.released
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(self.end(&[], Confirmed::ByMajority));
        }
    }
}
