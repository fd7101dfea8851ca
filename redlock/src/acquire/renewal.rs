//! The renewal of a lease: the next lease on the same resource, asked for while the present one is in use.
//!
//! A renewal is a round of votes like any other, with an owner and a token of its own. The only difference
//! is that a node grants it although the lock is held, if that is by the lease that is renewed and nobody
//! waits for it there. So the present lease ends with an ordinary release, which frees the lock only where
//! the renewal was refused.
//!
//! A refused renewal may have the votes of a minority. It is given up when the present lease has ended:
//! earlier, these nodes would free a lock that the present lease counts on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lease::Lease;
use super::lease_state::LeaseState;
use super::renewable::Renewable;
use super::round::Round;
use crate::cluster::{ClusterClient, Verdict};
use crate::config::Policy;
use crate::protocol::{QueueEntry, VoteRequest};
use crate::time::{bounded, usable};

/// Asks all nodes to renew the lease. A node that refuses keeps no request.
pub(crate) fn renew(lease: &Renewable, policy: Policy) -> Option<Renewal> {
    let state = lease.state();
    let client = Arc::clone(&state.client);
    let owner = client.next_owner();
    let token = lease.prepare(&owner)?;
    let (resource, _) = state.tokens.first()?;
    let states = vec![client.cluster.registry.state_of(resource)];
    let members = client.cluster.members();
    let lease_time = bounded(policy.lease_time);
    let request = VoteRequest {
        epoch: members.membership.epoch,
        owner,
        lease: lease_time,
        proposals: vec![(resource.clone(), token)],
        entry: QueueEntry { slot: Arc::from(""), rank: 0.0, tickets: None },
        renews: Some(lease.owner().to_owned()),
    };
    let end = Some(Arc::clone(lease.end()));
    let round = Round::start(&client, members, states, request, None, end);
    Some(Renewal { client, lease_time, votes: Some(Votes::Awaited(round)) })
}

/// A renewal under way.
pub(crate) struct Renewal {
    client: Arc<ClusterClient>,
    lease_time: Duration,
    /// `None` only while it changes.
    votes: Option<Votes>,
}

enum Votes {
    Awaited(Round),
    Won(Lease),
    Lost(#[expect(dead_code, reason = "dropped with the renewal, which gives it up")] Round),
}

impl Renewal {
    /// Whether the votes have decided.
    pub(crate) fn is_decided(&self) -> bool {
        !matches!(self.votes, Some(Votes::Awaited(_)))
    }

    /// Waits until the votes decide. May be dropped and called again.
    pub(crate) async fn decide(&mut self) {
        let Some(Votes::Awaited(round)) = &mut self.votes else { return };
        let verdict = round.verdict().await;
        let deadline = round.started + usable(self.lease_time);
        let Some(Votes::Awaited(round)) = self.votes.take() else { return };
        let is_won = verdict == Verdict::Won && Instant::now() < deadline;
        self.votes = Some(if is_won {
            let state = LeaseState::new(Arc::clone(&self.client), round.into_won(), deadline);
            Votes::Won(Lease::new(state, self.lease_time, Instant::now()))
        } else {
            // Kept, so that it is given up right behind the release of the present lease.
            Votes::Lost(round)
        });
    }

    /// The renewed lease; `None` if no majority granted it.
    pub(crate) async fn finish(mut self) -> Option<Lease> {
        self.decide().await;
        match self.votes {
            Some(Votes::Won(lease)) => Some(lease),
            _ => None,
        }
    }
}
