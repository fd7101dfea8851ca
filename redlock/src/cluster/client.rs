//! The calls that go to all nodes at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use redis::{FromRedisValue, RedisResult};
use tokio::task::coop::unconstrained;
use tracing::debug;

use super::members::{Member, Members};
use super::state::Cluster;
use crate::node::{ClockSample, NodeError, Release};
use crate::protocol::{Departure, Handover, Vote, VoteReply, VoteRequest};
use crate::scripts::{RawVoteReply, ScriptCall};

/// The cluster as a [`crate::Redlock`] and its leases share it. The connections stay open as long as any
/// of them exists, a single lease included.
#[derive(Debug)]
pub(crate) struct ClusterClient {
    pub(crate) cluster: Arc<Cluster>,
    sequence: AtomicU64,
}

impl ClusterClient {
    /// A client of this cluster.
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, sequence: AtomicU64::new(0) }
    }

    /// A name that no other round uses, so a release of one round cannot end another.
    pub(crate) fn next_owner(&self) -> String {
        let number = self.sequence.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number}", self.cluster.client_id)
    }

    /// Sends a release to these nodes. The returned future waits for the confirmation.
    ///
    /// The calls are sent before this returns, so they precede the caller's next call to a node.
    pub(crate) fn release(
        self: &Arc<Self>,
        members: &Arc<Members>,
        release: Release,
        confirmation: Confirmation,
    ) -> impl Future<Output = ()> + Send + 'static {
        let Release { owner, departure, handovers, .. } = &release;
        for Handover { resource, token, value, .. } in handovers {
            if let Some(value) = value {
                self.cluster.registry.state_of(resource).publish(*token, value);
            }
        }
        let call = Arc::new(self.cluster.scripts.release(owner, departure, handovers));
        // A node without a vote must not get the next request.
        let some_have_no_vote = || members.nodes.iter().any(|node| !node.votes());
        let without_request =
            (departure.next_request.is_some() && some_have_no_vote()).then(|| {
                let departure = Departure { next_request: None, ..departure.clone() };
                Arc::new(self.cluster.scripts.release(owner, &departure, handovers))
            });
        let release = Arc::new(release);
        broadcast(members, confirmation, move |node| {
            let call = match &without_request {
                Some(without) if !node.votes() => Arc::clone(without),
                _ => Arc::clone(&call),
            };
            let release = Arc::clone(&release);
            async move {
                // Without the node's time-out: a call that is dropped may never be sent.
                let is_confirmed = node.run::<u64>(&call).await.is_ok();
                if !is_confirmed {
                    node.add_pending_release(Arc::unwrap_or_clone(release));
                }
                is_confirmed
            }
        })
    }

    /// Removes a slot from the queues of all nodes.
    pub(crate) fn leave_queue(
        self: &Arc<Self>,
        resource: &str,
        slot: &str,
    ) -> impl Future<Output = ()> + Send + 'static {
        let call = Arc::new(self.cluster.scripts.leave_queue(resource, slot));
        broadcast(&self.cluster.members(), Confirmation::ByMajority, move |node| {
            let call = Arc::clone(&call);
            // A node that does not answer skips the slot when its time limit is over.
            async move { node.run::<u64>(&call).await.is_ok() }
        })
    }

    /// Asks all nodes for their vote.
    pub(crate) fn request_votes(
        self: &Arc<Self>,
        members: &Members,
        request: &Arc<VoteRequest>,
    ) -> PendingVotes {
        let call = Arc::new(self.cluster.scripts.acquire(request, self.cluster.longest_lease));
        let ask = |(position, node): (usize, &Arc<Member>)| {
            let (client, node) = (Arc::clone(self), Arc::clone(node));
            let (request, call) = (Arc::clone(request), Arc::clone(&call));
            async move { (position, client.vote(&node, &call, &request.proposals).await) }.boxed()
        };
        members.nodes.iter().enumerate().map(ask).collect()
    }

    async fn vote(
        &self,
        node: &Member,
        call: &ScriptCall,
        proposals: &[(String, u64)],
    ) -> Option<VoteReply> {
        let parse = |reply: RawVoteReply| {
            let reply = reply.parse(proposals)?;
            Ok((reply.micros, reply))
        };
        let reply = self.ask(node, call, parse).await?;
        if reply.vote == Vote::OldEpoch {
            node.check_now.notify_one();
        }
        Some(reply)
    }

    /// Asks one node to extend a lease; returns whether it did.
    pub(crate) async fn extend(&self, node: &Member, call: &ScriptCall) -> bool {
        let parse = |(micros, vote): (i64, i64)| Ok((micros, vote == 1));
        self.ask(node, call, parse).await.unwrap_or(false)
    }

    /// Runs a script that votes. `None` if no reply arrives in time or the node is excluded.
    async fn ask<Raw: FromRedisValue, T>(
        &self,
        node: &Member,
        call: &ScriptCall,
        parse: impl Fn(Raw) -> RedisResult<(i64, T)>,
    ) -> Option<T> {
        let sent = Instant::now();
        let raw = node.vote::<Raw>(call).await;
        let received = Instant::now();
        let reply = raw.and_then(|raw| parse(raw).map_err(NodeError::from));
        self.cluster.observer.node_voted(node.index(), received - sent, reply.is_ok());
        match reply {
            Ok((micros, reply)) => {
                let sample = ClockSample { sent, received, micros };
                self.cluster.check_clock(node, sample).then_some(reply)
            }
            Err(error) => {
                debug!(node = node.address(), %error, "no vote");
                None
            }
        }
    }
}

/// The confirmations that the caller of a release waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Confirmation {
    /// Those of a majority. The other calls continue in the background.
    ByMajority,
    /// Those of every node that answers.
    ByAll,
}

/// Sends a call to every node before it returns. The returned future waits for the confirmations.
fn broadcast<F, C>(
    members: &Arc<Members>,
    confirmation: Confirmation,
    call: C,
) -> impl Future<Output = ()> + Send + use<F, C>
where
    F: Future<Output = bool> + Send + 'static,
    C: Fn(Arc<Member>) -> F,
{
    let send = |(position, node): (usize, &Arc<Member>)| {
        call(Arc::clone(node)).map(move |is_confirmed| (position, is_confirmed))
    };
    let mut calls: FuturesUnordered<_> = members.nodes.iter().enumerate().map(send).collect();
    let mut confirmed = vec![false; members.nodes.len()];
    // The first poll of a call sends it. Without `unconstrained`, tokio's budget could end the loop early.
    while let Some(Some((position, is_confirmed))) = unconstrained(calls.next()).now_or_never() {
        confirmed[position] = is_confirmed;
    }
    let members = Arc::clone(members);
    async move {
        let majority =
            |confirmed: &[bool]| Members::majority(&members.sets, |position| confirmed[position]);
        while confirmation == Confirmation::ByAll || !majority(&confirmed) {
            let Some((position, is_confirmed)) = calls.next().await else { return };
            confirmed[position] = is_confirmed;
        }
        if !calls.is_empty() {
            tokio::spawn(calls.for_each(|_late| std::future::ready(())));
        }
    }
}

/// The votes that have not arrived: each is the position of a node and its reply, `None` if the reply does
/// not arrive in time.
pub(crate) type PendingVotes = FuturesUnordered<BoxFuture<'static, (usize, Option<VoteReply>)>>;
