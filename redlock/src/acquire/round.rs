//! One round of votes, and the request that waits on the nodes after it.
//!
//! A refused request stays on the nodes, and so does a request that travels with the release of a lease.
//! When the holder releases the lock there, the node grants the request without another call and tells
//! its client, which counts the grant as a late vote. Any vote may come late, so this adds no case to the
//! algorithm.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::stream::StreamExt;
use tokio::runtime::Handle;
use tokio::task::coop::unconstrained;
use tokio::time::sleep_until;

use super::give_up::GivenUp;
use super::lease_end::LeaseEnd;
use super::won::WonRound;
use crate::cluster::{ClusterClient, Members, PendingVotes, Tally, Verdict};
use crate::node::ClockSample;
use crate::protocol::{LateGrant, Vote, VoteReply, VoteRequest};
use crate::queue::{IssuedTickets, SlotTicket};
use crate::registry::{LateGrants, ResourceState};

/// The shortest pause after contenders shared the votes. It is longer where the votes take longer.
pub(super) const SPLIT_VOTE_PAUSE: Duration = Duration::from_millis(4);

/// What became of a waiting request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitOutcome {
    /// A majority granted the request.
    Won,
    /// The request is over, or the resource was released and nobody got it: the nodes must be asked again.
    Retry,
}

/// A round. Unless it is turned into a won one, dropping it gives it up on all nodes: half-won nodes would
/// block every caller, and a caller that goes away must hold nothing.
pub(super) struct Round {
    client: Arc<ClusterClient>,
    members: Arc<Members>,
    /// The states of the resources, in the order of the proposals.
    states: Vec<Arc<ResourceState>>,
    request: Arc<VoteRequest>,
    /// The slot and its lowest ticket, in fair order.
    fair: Option<SlotTicket>,
    /// The end of the lease that the round renews.
    renews: Option<Arc<LeaseEnd>>,
    /// The tickets that the nodes issued in this round.
    issued: IssuedTickets,
    /// When the request was sent; a lease counts from here.
    pub(super) started: Instant,
    /// How long the decisive votes took.
    took: Duration,
    votes: PendingVotes,
    /// The vote of the node at each of these positions; `None`: no reply in time.
    replies: Vec<(usize, Option<Vote>)>,
    /// The token that the node at each position granted for the only resource.
    granted: Vec<Option<u64>>,
    late_grants: Option<LateGrants>,
    /// The token that a majority granted to the waiting request.
    late_token: Option<u64>,
    /// The lowest ticket of another slot, on the node at each position.
    next_tickets: Vec<Option<u64>>,
    is_kept: bool,
}

impl Round {
    /// Sends the request to all nodes. `renews`: the end of the lease that the request renews.
    pub(super) fn start(
        client: &Arc<ClusterClient>,
        members: Arc<Members>,
        states: Vec<Arc<ResourceState>>,
        request: VoteRequest,
        fair: Option<SlotTicket>,
        renews: Option<Arc<LeaseEnd>>,
    ) -> Self {
        let request = Arc::new(request);
        let votes = client.request_votes(&members, &request);
        let mut round = Self::new(client, members, states, request, fair, votes);
        round.renews = renews;
        // Sends the calls now, even if the caller goes away: the release of a given-up round must follow.
        while let Some(Some((position, reply))) = unconstrained(round.votes.next()).now_or_never() {
            round.record_reply(position, reply);
        }
        round
    }

    /// Attaches the request to the release of this owner's lease. The release grants the resource to the
    /// first slot in the queue.
    pub(super) fn start_with_release_of(
        owner: &str,
        client: &Arc<ClusterClient>,
        members: Arc<Members>,
        states: Vec<Arc<ResourceState>>,
        request: VoteRequest,
        fair: SlotTicket,
    ) -> Self {
        let (request, slot) = (Arc::new(request), Arc::clone(&fair.slot));
        let attached = Arc::clone(&request);
        let votes = PendingVotes::new();
        let mut round = Self::new(client, members, states, request, Some(fair), votes);
        round.took = slot.round_trip();
        slot.attach_request(owner, attached);
        round
    }

    fn new(
        client: &Arc<ClusterClient>,
        members: Arc<Members>,
        states: Vec<Arc<ResourceState>>,
        request: Arc<VoteRequest>,
        fair: Option<SlotTicket>,
        votes: PendingVotes,
    ) -> Self {
        let late_grants = match &states[..] {
            [state] => Some(state.subscribe_grants(&request.owner)),
            _ => None,
        };
        let nodes = members.nodes.len();
        Self {
            client: Arc::clone(client),
            states,
            fair,
            renews: None,
            issued: IssuedTickets::default(),
            started: Instant::now(),
            took: Duration::ZERO,
            votes,
            members,
            request,
            replies: Vec::with_capacity(nodes),
            granted: vec![None; nodes],
            late_grants,
            late_token: None,
            next_tickets: vec![None; nodes],
            is_kept: false,
        }
    }

    /// Waits until the votes decide.
    pub(super) async fn verdict(&mut self) -> Verdict {
        let verdict = self.decide().await;
        self.took = self.started.elapsed();
        if let Some(fair) = &self.fair {
            fair.slot.set_round_trip(self.took);
        }
        verdict
    }

    /// How long to wait for late votes, or for other contenders to give up.
    pub(super) fn split_pause(&self) -> Duration {
        SPLIT_VOTE_PAUSE.max(self.took)
    }

    async fn decide(&mut self) -> Verdict {
        loop {
            if let Some(verdict) = self.tally().verdict() {
                return verdict;
            }
            let Some((position, reply)) = self.votes.next().await else {
                return Verdict::Unreachable;
            };
            self.record_reply(position, reply);
        }
    }

    /// See [`Tally::shortage`].
    pub(super) fn shortage(&self) -> (usize, usize, usize) {
        self.tally().shortage()
    }

    /// Waits until a majority has granted the waiting request, at most this long, or until the resource
    /// is `released` and nobody gets it.
    pub(super) async fn wait_for_grant(
        &mut self,
        at_most: Duration,
        released: impl Future<Output = ()>,
    ) -> WaitOutcome {
        let mut end = (Instant::now() + at_most).into();
        let mut released = pin!(released);
        let mut some_granted = false;
        loop {
            tokio::select! {
                Some((position, reply)) = self.votes.next(), if !self.votes.is_empty() => {
                    self.record_reply(position, reply);
                }
                Some(grant) = next_grant(self.late_grants.as_mut()) => self.record_grant(grant),
                () = &mut released => return WaitOutcome::Retry,
                () = sleep_until(end) => return WaitOutcome::Retry,
            }
            if self.is_won() {
                return WaitOutcome::Won;
            }
            // The lock is free or the slot has the wrong rank. The replies have raised the next proposal.
            if self.tally().would_win_higher() || self.lost_tickets() {
                return WaitOutcome::Retry;
            }
            if !some_granted && self.granted.iter().any(Option::is_some) {
                some_granted = true;
                // The other nodes grant the request at once, or granted another one.
                end = end.min((Instant::now() + self.split_pause()).into());
            }
        }
    }

    /// The lowest ticket of another slot. The majority that granted the lock contains a node that knows of
    /// any issued ticket.
    pub(super) fn next_ticket(&self) -> Option<u64> {
        self.next_tickets.iter().flatten().min().copied()
    }

    /// Whether the round renews a lease.
    pub(super) fn is_renewal(&self) -> bool {
        self.renews.is_some()
    }

    /// Whether the waiting request was granted, not the votes.
    pub(super) fn was_granted_late(&self) -> bool {
        self.late_token.is_some()
    }

    fn record_reply(&mut self, position: usize, reply: Option<VoteReply>) {
        self.replies.push((position, reply.as_ref().map(|reply| reply.vote)));
        self.record_tickets(position, reply.as_ref().and_then(|reply| reply.first_ticket));
        let Some(reply) = reply else { return };
        for (state, fence) in self.states.iter().zip(&reply.fences) {
            state.observe_token(*fence);
        }
        if reply.vote == Vote::Granted {
            self.next_tickets[position] = reply.next_ticket;
            self.granted[position] = self.request.proposals.first().map(|(_, token)| *token);
        }
    }

    fn record_tickets(&mut self, position: usize, first: Option<u64>) {
        let Some((fair, wanted)) = self.fair.as_ref().zip(self.request.entry.tickets) else {
            return;
        };
        if let (Some(first), Some(state)) = (first, self.states.first()) {
            state.observe_ticket(wanted.last(first));
        }
        self.issued.add(position, first);
        let (first, tally) = self.issued.tally(&self.members.sets);
        if wanted.count > 0 && tally.verdict() == Some(Verdict::Won) {
            fair.slot.tickets_issued(first);
        }
    }

    /// Whether this round cannot bring the tickets: other clients took them on some of the nodes.
    pub(super) fn lost_tickets(&self) -> bool {
        let (_, tally) = self.issued.tally(&self.members.sets);
        self.request.entry.tickets.is_some_and(|wanted| wanted.count > 0)
            && tally.verdict() == Some(Verdict::Stale)
    }

    fn record_grant(&mut self, grant: LateGrant) {
        let nodes = &self.members.nodes;
        let Some(position) = nodes.iter().position(|node| node.index() == grant.node) else {
            return;
        };
        let node = &nodes[position];
        let (sent, received, micros) = (self.started, Instant::now(), grant.micros);
        let sample = ClockSample { sent, received, micros };
        if node.votes() && self.client.cluster.check_clock(node, sample) {
            self.granted[position] = Some(grant.token);
            self.next_tickets[position] = grant.next_ticket;
        }
    }

    /// Whether a majority granted the same token.
    fn is_won(&mut self) -> bool {
        let granted = |token: u64| {
            let same = |position: usize| self.granted[position] == Some(token);
            Members::majority(&self.members.sets, same)
        };
        self.late_token = self.granted.iter().flatten().copied().find(|token| granted(*token));
        self.late_token.is_some()
    }

    fn tally(&self) -> Tally<'_> {
        let mut tally = Tally::new(&self.members.sets);
        for (position, vote) in &self.replies {
            tally.count(*position, *vote);
        }
        tally
    }

    /// Hands what the round won to the caller.
    pub(super) fn into_won(mut self) -> WonRound {
        self.is_kept = true;
        self.stop_listening();
        let mut tokens = self.request.proposals.clone();
        if let (Some(token), [(_, granted)]) = (self.late_token, &mut tokens[..]) {
            *granted = token;
        }
        let fair = self.fair.take().map(|SlotTicket { slot, ticket }| {
            // The slot may have got its first ticket in this round.
            let ticket = if ticket == 0 { slot.lowest_ticket() } else { ticket };
            SlotTicket { slot, ticket }
        });
        let VoteRequest { owner, entry, .. } = &*self.request;
        WonRound {
            members: Arc::clone(&self.members),
            owner: owner.clone(),
            slot_name: Arc::clone(&entry.slot),
            tokens,
            took: self.took,
            was_granted_late: self.was_granted_late(),
            renews: self.renews.take(),
            fair,
        }
    }

    fn stop_listening(&mut self) {
        for state in self.late_grants.iter().flat_map(|_| &self.states) {
            state.unsubscribe_grants(&self.request.owner);
        }
        let votes = std::mem::take(&mut self.votes);
        if !votes.is_empty()
            && let Ok(runtime) = Handle::try_current()
        {
            // The observer measures the late votes too.
            runtime.spawn(votes.for_each(|_late| std::future::ready(())));
        }
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        if !self.is_kept {
            self.stop_listening();
            let given_up = GivenUp {
                client: Arc::clone(&self.client),
                members: Arc::clone(&self.members),
                states: self.states.clone(),
                request: Arc::clone(&self.request),
                fair: self.fair.take(),
            };
            // A node that granted a renewal has replaced a lock that counts until its lease has ended.
            LeaseEnd::then(self.renews.as_ref(), move || given_up.send());
        }
    }
}

async fn next_grant(grants: Option<&mut LateGrants>) -> Option<LateGrant> {
    match grants {
        Some(grants) => grants.recv().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
