//! One caller's attempts until it holds the lock or its wait is over.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::stream::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{sleep, timeout_at};

use crate::board::Topic;
use crate::script::Handover;
use crate::shared::{Question, Shared};
use crate::tally::{Tally, Verdict};
use crate::turn::Turn;
use crate::{AcquireError, Lease, Policy};

/// A waiter that hears no notice asks again after at most this long.
const POLL_AT_MOST: Duration = Duration::from_millis(100);
/// Rounds lost to another contender, not to a holder, are repeated after up to this long.
const SPLIT_VOTE_PAUSE: Duration = Duration::from_millis(4);
/// After a release, a client that knows of others lets them try first for this long.
const YIELD: Duration = Duration::from_millis(1);
/// Others count as contending for this long after their last release was heard of.
const CONTENDED_FOR: Duration = Duration::from_millis(500);
/// Clocks of nodes may run this much faster than ours (1 %), plus a fixed 2 ms for Redis's expiry.
const DRIFT_FACTOR: f64 = 0.01;
const DRIFT_FIXED: Duration = Duration::from_millis(2);

/// See the module.
pub(crate) struct Acquisition<'a> {
    shared: &'a Arc<Shared>,
    policy: Policy,
    resources: Vec<String>,
    topics: Vec<Arc<Topic>>,
    /// The place in the queue of the only resource, when the order is fair.
    turn: Option<Arc<Turn>>,
    started: Instant,
    deadline: Instant,
}

impl<'a> Acquisition<'a> {
    pub(crate) fn new(shared: &'a Arc<Shared>, resources: &[&str], policy: Policy) -> Self {
        let mut resources: Vec<String> = resources.iter().map(|&name| name.to_owned()).collect();
        resources.sort_unstable();
        resources.dedup();
        let topics = resources.iter().map(|name| shared.board.topic(name)).collect();
        let started = Instant::now();
        let deadline = started + policy.wait_timeout;
        Self { shared, policy, resources, topics, turn: None, started, deadline }
    }

    /// Acquires one resource when its turn has come.
    pub(crate) fn in_turn(
        shared: &'a Arc<Shared>,
        resource: &str,
        policy: Policy,
        turn: Arc<Turn>,
    ) -> Self {
        Self { turn: Some(turn), ..Self::new(shared, &[resource], policy) }
    }

    pub(crate) async fn run(self) -> Result<Lease, AcquireError> {
        let mut releases: Vec<_> = self.topics.iter().map(|topic| topic.releases()).collect();
        if self.turn.is_none() && self.is_contended() {
            sleep(YIELD).await;
        }
        loop {
            for receiver in &mut releases {
                receiver.mark_unchanged();
            }
            let round = match self.round().await {
                Ok(lease) => return Ok(lease),
                Err(round) => round,
            };
            if Instant::now() >= self.deadline {
                return Err(self.give_up(&round));
            }
            let jitter = rand::random_range(0.1..1.0);
            match round.verdict {
                // The answers have raised what is proposed next.
                Verdict::Stale => {}
                Verdict::Won | Verdict::Split => {
                    self.wait(&mut releases, SPLIT_VOTE_PAUSE.mul_f64(jitter)).await;
                }
                Verdict::Held(ms) => {
                    let pause = Duration::from_millis(ms).min(POLL_AT_MOST).max(SPLIT_VOTE_PAUSE);
                    self.wait(&mut releases, pause.mul_f64(jitter)).await;
                }
                Verdict::Unreachable => {
                    sleep(self.pause(POLL_AT_MOST.mul_f64(jitter))).await;
                }
            }
        }
    }

    /// Asks all nodes at once; goes on as soon as the votes that came decide.
    async fn round(&self) -> Result<Lease, Lost> {
        let (owner, proposals) = (self.next_owner(), self.proposals());
        let asked = Instant::now();
        let claim = Claim { shared: self.shared, owner: &owner, proposals: &proposals, won: false };
        let mut votes = self.shared.ask_all(Question {
            owner: owner.clone(),
            lease: self.policy.lease_time,
            proposals: proposals.clone(),
            turn: self.turn.clone(),
        });
        let mut tally = Tally::new(self.shared.nodes.len());
        let mut next_ticket = None;
        let mut verdict = None;
        while verdict.is_none()
            && let Some(answer) = votes.next().await
        {
            if let Some(answer) = &answer {
                for (topic, fence) in self.topics.iter().zip(&answer.fences) {
                    topic.saw_token(*fence);
                }
                // Every ticket issued is known to one node at least of any majority.
                next_ticket = next_ticket.into_iter().chain(answer.next_ticket).min();
            }
            tally.count(answer.map(|answer| answer.vote));
            verdict = tally.verdict();
        }
        if !votes.is_empty() {
            // Nobody waits for the rest, but what became of them is measured.
            tokio::spawn(votes.for_each(|_late| std::future::ready(())));
        }
        let verdict = verdict.unwrap_or(Verdict::Unreachable);
        let lease_time = self.policy.lease_time;
        let drift = lease_time.mul_f64(DRIFT_FACTOR) + DRIFT_FIXED;
        let deadline = asked + lease_time.saturating_sub(drift);
        if verdict != Verdict::Won || Instant::now() >= deadline {
            return Err(Lost { verdict, reachable: tally.reachable() });
        }
        claim.keep();
        let lease = Lease::new(Arc::clone(self.shared), owner, proposals, deadline);
        Ok(match &self.turn {
            Some(turn) => lease.in_turn(Arc::clone(turn), next_ticket),
            None => lease,
        })
    }

    fn proposals(&self) -> Vec<(String, u64)> {
        let next = self.topics.iter().map(|topic| topic.highest_token() + 1);
        self.resources.iter().cloned().zip(next).collect()
    }

    /// Differs for every round, so that a release meant for one round cannot end another.
    fn next_owner(&self) -> String {
        let number = self.shared.sequence.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number}", self.shared.client)
    }

    fn is_contended(&self) -> bool {
        self.topics
            .iter()
            .filter_map(|topic| topic.contended_at())
            .any(|at| at.elapsed() < CONTENDED_FOR)
    }

    /// Waits for a notice of release, at most this long and not past the deadline.
    async fn wait(&self, releases: &mut [watch::Receiver<u64>], at_most: Duration) {
        let until = Instant::now() + self.pause(at_most);
        let any = futures::future::select_all(releases.iter_mut().map(|r| Box::pin(r.changed())));
        // Both outcomes mean: try again.
        let _ = timeout_at(until.into(), any).await;
    }

    fn pause(&self, at_most: Duration) -> Duration {
        at_most.min(self.deadline.saturating_duration_since(Instant::now()))
    }

    fn give_up(&self, round: &Lost) -> AcquireError {
        let (nodes, reachable) = (self.shared.nodes.len(), round.reachable);
        match round.verdict {
            Verdict::Unreachable => {
                AcquireError::QuorumUnavailable { reachable, nodes, quorum: nodes / 2 + 1 }
            }
            _ => AcquireError::Timeout { waited: self.started.elapsed() },
        }
    }
}

/// A round that was not won.
struct Lost {
    verdict: Verdict,
    reachable: usize,
}

/// What the nodes may have granted in a round. Unless it is kept it is given back: half-won nodes
/// would stand in everybody's way, and a caller that goes away in the middle holds nothing.
struct Claim<'a> {
    shared: &'a Arc<Shared>,
    owner: &'a str,
    proposals: &'a [(String, u64)],
    won: bool,
}

impl Claim<'_> {
    fn keep(mut self) {
        self.won = true;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.won {
            return;
        }
        let names = self.proposals.iter().map(|(resource, _)| resource.clone());
        let given_up = names.map(|resource| Handover { resource, token: 0, value: None });
        let released = self.shared.release(self.owner, given_up.collect());
        // Outside a runtime nothing can be sent; the nodes then end the lease themselves.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(released);
        }
    }
}
