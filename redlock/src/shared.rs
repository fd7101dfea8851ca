//! The calls that go to all nodes at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use redis::FromRedisValue;
use tokio::task::coop::unconstrained;
use tracing::debug;

use crate::call::Call;
use crate::clock::Sample;
use crate::members::{Member, Members};
use crate::node::{NodeError, Release};
use crate::reply::Reply;
use crate::roster::Roster;
use crate::script::{Answer, Handover, Hold, Left, Place, Vote};
use crate::turn::Turn;

/// What a [`crate::Redlock`] shares with the leases that come from it. The connections last as
/// long as anybody may use them, a lease on its own included.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) roster: Arc<Roster>,
    sequence: AtomicU64,
}

impl Shared {
    pub(crate) fn new(roster: Arc<Roster>) -> Self {
        Self { roster, sequence: AtomicU64::new(0) }
    }

    /// Differs for every round, so that a release meant for one round cannot end another.
    pub(crate) fn next_owner(&self) -> String {
        let number = self.sequence.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number}", self.roster.client)
    }

    /// Frees the resources on these nodes, and takes back what was asked for in this line; the future returned waits until that is confirmed.
    ///
    /// The calls are on their way before this returns, so they precede what the caller sends next.
    pub(crate) fn release(
        self: &Arc<Self>,
        members: &Arc<Members>,
        owner: &str,
        line: Left,
        handovers: Vec<Handover>,
        confirmed: Confirmed,
    ) -> impl Future<Output = ()> + Send + 'static {
        for Handover { resource, token, value, .. } in &handovers {
            if let Some(value) = value {
                self.roster.board.topic(resource).publish(*token, value);
            }
        }
        let call = Arc::new(self.roster.scripts.release(owner, &line, &handovers));
        // A node that has no vote is not asked for one.
        let some_have_no_vote = || members.nodes.iter().any(|node| !node.votes());
        let without_question = (line.asks.is_some() && some_have_no_vote()).then(|| {
            let line = Left { asks: None, ..line.clone() };
            Arc::new(self.roster.scripts.release(owner, &line, &handovers))
        });
        let release = Arc::new(Release { owner: owner.to_owned(), line, handovers });
        tell_all(members, confirmed, move |node| {
            let call = match &without_question {
                Some(without) if !node.votes() => Arc::clone(without),
                _ => Arc::clone(&call),
            };
            let release = Arc::clone(&release);
            async move {
                // Not given up at the node's timeout: what is given up may never be sent.
                let told = node.run::<u64>(&call).await.is_ok();
                if !told {
                    node.owe(Arc::unwrap_or_clone(release));
                }
                told
            }
        })
    }

    /// Tells every node that nobody waits in this line any more.
    pub(crate) fn leave_turn(
        self: &Arc<Self>,
        resource: &str,
        turn: &Turn,
    ) -> impl Future<Output = ()> + Send + 'static {
        let call = Arc::new(self.roster.scripts.leave_turn(resource, &turn.line()));
        tell_all(&self.roster.members(), Confirmed::ByMajority, move |node| {
            let call = Arc::clone(&call);
            // A node that does not answer skips this client when its time is up.
            async move { node.run::<u64>(&call).await.is_ok() }
        })
    }

    /// Asks all nodes for their vote on a hold.
    pub(crate) fn ask_all(self: &Arc<Self>, members: &Members, question: &Arc<Question>) -> Votes {
        let Question { epoch, owner, lease, proposals, place } = &**question;
        let longest = self.roster.longest_lease;
        let hold = Hold { epoch: *epoch, owner, lease: *lease, longest };
        let call = Arc::new(self.roster.scripts.acquire(hold, place, proposals));
        let ask = |(position, node): (usize, &Arc<Member>)| {
            let (shared, node) = (Arc::clone(self), Arc::clone(node));
            let (question, call) = (Arc::clone(question), Arc::clone(&call));
            async move { (position, shared.vote(&node, &call, &question.proposals).await) }.boxed()
        };
        members.nodes.iter().enumerate().map(ask).collect()
    }

    async fn vote(
        &self,
        node: &Member,
        call: &Call,
        proposals: &[(String, u64)],
    ) -> Option<Answer> {
        let parse = |reply: Reply| {
            let answer = reply.parse(proposals)?;
            Ok((answer.micros, answer))
        };
        let answer = self.ask(node, call, parse).await?;
        if answer.vote == Vote::Outdated {
            node.look.notify_one();
        }
        Some(answer)
    }

    /// Asks one node to let a hold last longer; whether it did.
    pub(crate) async fn extend(&self, node: &Member, call: &Call) -> bool {
        let parse = |(micros, vote): (i64, i64)| Ok((micros, vote == 1));
        self.ask(node, call, parse).await.unwrap_or(false)
    }

    /// Runs a script that votes. `None`: no answer in time, or from a node that is kept out.
    async fn ask<Reply: FromRedisValue, T>(
        &self,
        node: &Member,
        call: &Call,
        parse: impl Fn(Reply) -> redis::RedisResult<(i64, T)>,
    ) -> Option<T> {
        let asked = Instant::now();
        let reply = node.vote::<Reply>(call).await;
        let answered = Instant::now();
        let answer = reply.and_then(|reply| parse(reply).map_err(NodeError::from));
        self.roster.observer.node_voted(node.slot(), answered - asked, answer.is_ok());
        match answer {
            Ok((micros, answer)) => {
                let sample = Sample { asked, answered, micros };
                self.roster.clock_is_sound(node, sample).then_some(answer)
            }
            Err(error) => {
                debug!(node = node.address(), %error, "no vote");
                None
            }
        }
    }
}

/// Whose confirmation is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Confirmed {
    /// By a majority; the rest is left to the background.
    ByMajority,
    /// By every node that answers.
    ByAll,
}

/// Sends to every node before it returns; the future waits until that is confirmed.
fn tell_all<F, C>(
    members: &Arc<Members>,
    confirmed: Confirmed,
    call: C,
) -> impl Future<Output = ()> + Send + use<F, C>
where
    F: Future<Output = bool> + Send + 'static,
    C: Fn(Arc<Member>) -> F,
{
    let tell = |(position, node): (usize, &Arc<Member>)| {
        call(Arc::clone(node)).map(move |told| (position, told))
    };
    let mut calls: FuturesUnordered<_> = members.nodes.iter().enumerate().map(tell).collect();
    let mut told = vec![false; members.nodes.len()];
    // The first poll sends; a call that is done at once must not end the round of polling.
    while let Some(Some((position, now_told))) = unconstrained(calls.next()).now_or_never() {
        told[position] = now_told;
    }
    let members = Arc::clone(members);
    async move {
        let majority = |told: &[bool]| Members::majority(&members.sets, |position| told[position]);
        while confirmed == Confirmed::ByAll || !majority(&told) {
            let Some((position, now_told)) = calls.next().await else { return };
            told[position] = now_told;
        }
        if !calls.is_empty() {
            tokio::spawn(calls.for_each(|_late| std::future::ready(())));
        }
    }
}

/// The votes that are under way: of the node at a position, `None` when it does not come in time.
pub(crate) type Votes = FuturesUnordered<BoxFuture<'static, (usize, Option<Answer>)>>;

/// What the nodes vote on in one round.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) epoch: u64,
    pub(crate) owner: String,
    pub(crate) lease: Duration,
    /// The token proposed for each resource.
    pub(crate) proposals: Vec<(String, u64)>,
    /// Where the request stands if others are in the way.
    pub(crate) place: Place,
}
