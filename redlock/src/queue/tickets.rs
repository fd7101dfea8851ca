//! Takes tickets for a slot: together with the lock, or alone while the client holds the lock or waits
//! for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::sleep;

use super::backoff::Backoff;
use super::issued::IssuedTickets;
use super::slot::QueueSlot;
use crate::cluster::{Cluster, ClusterClient, Member, Verdict};
use crate::error::AcquireError;
use crate::protocol::TicketRequest;

/// The pause before another attempt when too few nodes answer.
const RETRY: Duration = Duration::from_millis(50);

/// Resolves to the first of the tickets.
pub(crate) type TicketsFuture = BoxFuture<'static, Result<u64, AcquireError>>;

/// Takes this number of tickets in one round trip.
pub(crate) fn take_tickets(
    client: &Arc<ClusterClient>,
    resource: &str,
    count: usize,
    deadline: Instant,
    slot: &Arc<QueueSlot>,
) -> TicketsFuture {
    let (client, slot, resource) = (Arc::clone(client), Arc::clone(slot), resource.to_owned());
    async move { retry(&client, &resource, &slot, count, deadline).await }.boxed()
}

/// Takes the tickets with the acquisition that begins now. If that brings the lock without tickets, they
/// are taken alone.
pub(crate) fn take_tickets_with_lock(
    client: &Arc<ClusterClient>,
    resource: &str,
    count: usize,
    deadline: Instant,
    slot: &Arc<QueueSlot>,
) -> TicketsFuture {
    let with_lock = slot.request_tickets(count);
    let alone = take_tickets(client, resource, count, deadline, slot);
    let tickets = async move {
        match with_lock.await {
            Ok(result) => result,
            Err(_cancelled) => alone.await,
        }
    };
    tickets.boxed()
}

async fn retry(
    client: &ClusterClient,
    resource: &str,
    slot: &QueueSlot,
    count: usize,
    deadline: Instant,
) -> Result<u64, AcquireError> {
    let mut backoff = Backoff::default();
    loop {
        let round = propose(&client.cluster, resource, slot, count).await;
        if round.verdict == Verdict::Won {
            return Ok(round.first);
        }
        if Instant::now() >= deadline {
            let (reachable, nodes, quorum) = round.shortage;
            return Err(AcquireError::QuorumUnavailable { reachable, nodes, quorum });
        }
        if round.verdict == Verdict::Unreachable {
            sleep(RETRY.mul_f64(rand::random_range(0.1..1.0))).await;
        } else {
            backoff.pause().await;
        }
    }
}

/// The result of one proposal.
struct Proposed {
    verdict: Verdict,
    /// The first of the tickets, if the proposal won.
    first: u64,
    /// See [`crate::cluster::Tally::shortage`].
    shortage: (usize, usize, usize),
}

/// Proposes the tickets above the highest known one. A node that has issued them already issues its next
/// ones instead, so a proposal fails only if several clients propose at the same moment.
async fn propose(cluster: &Cluster, resource: &str, slot: &QueueSlot, count: usize) -> Proposed {
    let (state, members) = (cluster.registry.state_of(resource), cluster.members());
    let (epoch, lowest) = (members.membership.epoch, slot.lowest_ticket());
    let tickets = TicketRequest { count, first: state.highest_ticket() + 1 };
    let call = cluster.scripts.take_tickets(epoch, resource, &slot.name(), lowest, tickets);
    let ask = async |(position, node): (usize, &Arc<Member>)| {
        (position, node.vote::<(i64, u64)>(&call).await.ok())
    };
    let mut votes: FuturesUnordered<_> = members.nodes.iter().enumerate().map(ask).collect();
    let mut issued = IssuedTickets::default();
    while let Some((position, reply)) = votes.next().await {
        let first = reply.and_then(|(vote, first)| (vote == 1).then_some(first));
        if let Some(first) = first {
            state.observe_ticket(tickets.last(first));
        }
        issued.add(position, first);
        let (first, tally) = issued.tally(&members.sets);
        if let Some(verdict) = tally.verdict() {
            return Proposed { verdict, first, shortage: tally.shortage() };
        }
    }
    let (first, tally) = issued.tally(&members.sets);
    Proposed { verdict: Verdict::Unreachable, first, shortage: tally.shortage() }
}
