//! One caller's attempts until it holds the lock or its wait is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedMutexGuard, watch};
use tokio::time::{sleep, timeout_at};

use crate::board::Topic;
use crate::clock::{after, bounded};
use crate::lease::Held;
use crate::members::Members;
use crate::roster::Roster;
use crate::round::{Outcome, Round};
use crate::script::{LINE_LIMIT, Place, REQUEST_LIMIT};
use crate::shared::{Question, Shared};
use crate::tally::Verdict;
use crate::turn::{Outbid, Turn};
use crate::{AcquireError, Lease, Policy};

/// A waiter asks again after at most this long, so that its request stands without a break.
const POLL_AT_MOST: Duration = Duration::from_millis(100);
const _: () = assert!(POLL_AT_MOST.as_millis() < REQUEST_LIMIT.as_millis());
/// It asks at least so often in the time of a lease, which counts from when it asked.
const POLLS_A_LEASE: u32 = 8;
/// Rounds lost to another contender, not to a holder, are repeated after up to this long, or as
/// long as the nodes take to answer.
pub(crate) const SPLIT_VOTE_PAUSE: Duration = Duration::from_millis(4);
/// A resource that was left to one that waits for others too is left to it for this long,
const YIELD: Duration = Duration::from_millis(1);
/// and again until nothing has been heard of it for this long.
const LEFT_FOR: Duration = Duration::from_millis(500);
/// Clocks of nodes may run this much faster than ours (1 %), plus a fixed 2 ms for Redis's expiry.
const DRIFT_FACTOR: f64 = 0.01;
const DRIFT_FIXED: Duration = Duration::from_millis(2);

/// See the module.
pub(crate) struct Acquisition {
    shared: Arc<Shared>,
    policy: Policy,
    /// Why the policy can never be met.
    invalid: Option<AcquireError>,
    resources: Vec<String>,
    topics: Vec<Arc<Topic>>,
    releases: Vec<watch::Receiver<u64>>,
    waits: Waits,
    started: Instant,
    deadline: Instant,
    rounds: u32,
    outbid: Outbid,
    /// Whoever fails goes on in another way.
    is_a_try: bool,
}

/// Where it waits.
enum Waits {
    /// In the line of this client for the only resource, in fair order.
    InTurn(Arc<Turn>),
    /// On its own.
    Alone(Place),
}

impl Acquisition {
    pub(crate) fn new(shared: &Arc<Shared>, resources: &[&str], policy: Policy) -> Self {
        let mut resources: Vec<String> = resources.iter().map(|&name| name.to_owned()).collect();
        resources.sort_unstable();
        resources.dedup();
        let board = &shared.roster.board;
        let topics: Vec<_> = resources.iter().map(|name| board.topic(name)).collect();
        let releases = topics.iter().map(|topic| topic.releases()).collect();
        let newest = topics.iter().map(|topic| topic.highest_token()).max().unwrap_or(0);
        // The same on all nodes, and the lower the longer it waits: an order, if not a strict one.
        // Negative, which tells it from a ticket (release.lua).
        #[expect(clippy::cast_precision_loss, reason = "tokens are far below 2^52")]
        let number = -1.0 / (1.0 + newest as f64 + rand::random::<f64>());
        let place = Place { line: shared.next_owner().into(), number, fair: None };
        let started = Instant::now();
        let deadline = after(started, policy.wait_timeout);
        let invalid = shared.roster.check_lease(policy.lease_time).err();
        let policy = Policy { lease_time: bounded(policy.lease_time), ..policy };
        let (waits, rounds, outbid) = (Waits::Alone(place), 0, Outbid::default());
        Self {
            shared: Arc::clone(shared),
            policy,
            invalid,
            resources,
            topics,
            releases,
            waits,
            started,
            deadline,
            rounds,
            outbid,
            is_a_try: false,
        }
    }

    /// That it fails is no failure.
    pub(crate) fn into_try(self) -> Self {
        Self { is_a_try: true, ..self }
    }

    /// Acquires one resource when its turn has come, and takes the tickets that the line wants.
    pub(crate) fn in_turn(
        shared: &Arc<Shared>,
        resource: &str,
        policy: Policy,
        turn: Arc<Turn>,
    ) -> Self {
        Self { waits: Waits::InTurn(turn), ..Self::new(shared, &[resource], policy) }
    }

    pub(crate) async fn run(self) -> Result<Lease, AcquireError> {
        self.run_after(None).await
    }

    /// The first round is asked with the release of this hold, if that lasts much longer than until
    /// the round is over: the line need not stand in the queues before it has asked.
    pub(crate) fn run_with_release_of(
        self,
        hold: &Lease,
    ) -> impl Future<Output = Result<Lease, AcquireError>> + Send + use<> {
        let members = self.shared.roster.members();
        let (question, turn) = self.question(&members);
        let lasts = hold.remaining() > 2 * self.longest_poll();
        let round = turn.filter(|_| lasts && self.invalid.is_none()).map(|turn| {
            let (hold, topics) = (hold.owner(), self.topics.clone());
            Round::ask_with_release_of(hold, &self.shared, members, topics, question, turn)
        });
        self.run_after(round)
    }

    async fn run_after(mut self, asked: Option<Round>) -> Result<Lease, AcquireError> {
        let result = self.attempt(asked).await;
        if let Waits::InTurn(turn) = &self.waits {
            turn.wants_no_more(result.as_ref().err());
        }
        if result.is_ok() || !self.is_a_try {
            let outcome = (&result).into();
            let Roster { observer, .. } = &*self.shared.roster;
            observer.acquired(outcome, self.started.elapsed(), self.rounds);
        }
        result
    }

    async fn attempt(&mut self, asked: Option<Round>) -> Result<Lease, AcquireError> {
        if let Some(invalid) = self.invalid.take() {
            return Err(invalid);
        }
        let _gates = self.pass_gates().await?;
        let mut releases = std::mem::take(&mut self.releases);
        if let Some(mut round) = asked {
            self.rounds += 1;
            let at_most = self.pause(self.longest_poll());
            if round.stand(at_most, any_change(&mut releases)).await == Outcome::Won
                && let Some(lease) = self.lease(round)
            {
                return Ok(lease);
            }
        }
        loop {
            if self.must_yield() {
                sleep(YIELD).await;
            }
            for receiver in &mut releases {
                receiver.mark_unchanged();
            }
            self.rounds += 1;
            let mut round = self.ask();
            let verdict = round.verdict().await;
            let is_over = Instant::now() >= self.deadline;
            if is_over && verdict != Verdict::Won {
                return Err(self.give_up(verdict, &round));
            }
            let jitter = rand::random_range(0.1..1.0);
            let split_pause = round.split_pause().mul_f64(jitter);
            match verdict {
                Verdict::Won => match self.lease(round) {
                    Some(lease) => return Ok(lease),
                    // The votes came when the lease was over.
                    None if is_over => {
                        return Err(AcquireError::Timeout { waited: self.started.elapsed() });
                    }
                    None => self.wait(&mut releases, split_pause).await,
                },
                // The answers have raised what is proposed next.
                Verdict::Stale => {}
                Verdict::Split if self.resources.len() > 1 => {
                    // Given up before the pause: nobody would pass it on.
                    drop(round);
                    self.wait(&mut releases, split_pause).await;
                }
                Verdict::Split | Verdict::Held(_) => {
                    let pause = self.pause(match verdict {
                        Verdict::Held(ms) => self.poll(ms),
                        _ => split_pause,
                    });
                    let freed = any_change(&mut releases);
                    if !round.is_outbid() && round.stand(pause, freed).await == Outcome::Won {
                        if let Some(lease) = self.lease(round) {
                            return Ok(lease);
                        }
                    } else if round.is_outbid() {
                        drop(round);
                        self.outbid.pause().await;
                    }
                }
                Verdict::Unreachable => {
                    drop(round);
                    sleep(self.pause(POLL_AT_MOST.mul_f64(jitter))).await;
                }
            }
        }
    }

    /// Asks all nodes at once.
    fn ask(&self) -> Round {
        let members = self.shared.roster.members();
        let (question, turn) = self.question(&members);
        Round::ask(&self.shared, members, self.topics.clone(), question, turn)
    }

    fn question(&self, members: &Members) -> (Question, Option<(Arc<Turn>, u64)>) {
        let (place, turn) = match &self.waits {
            Waits::Alone(place) => (place.clone(), None),
            Waits::InTurn(turn) => {
                let highest = self.topics.iter().map(|topic| topic.highest_ticket()).max();
                let (ticket, place) = turn.place(highest.unwrap_or(0) + 1);
                (place, Some((Arc::clone(turn), ticket)))
            }
        };
        let next = self.topics.iter().map(|topic| topic.highest_token() + 1);
        let question = Question {
            epoch: members.membership.epoch,
            owner: self.shared.next_owner(),
            lease: self.policy.lease_time,
            proposals: self.resources.iter().cloned().zip(next).collect(),
            place,
        };
        (question, turn)
    }

    /// The lease that a round has won, if it is not over already.
    fn lease(&self, round: Round) -> Option<Lease> {
        let (asked, next_ticket) = (round.asked, round.next_ticket());
        let lease_time = self.policy.lease_time;
        let granted_for =
            if round.was_granted_late() { lease_time.min(LINE_LIMIT) } else { lease_time };
        let deadline = asked + usable(granted_for);
        if Instant::now() >= deadline {
            return None;
        }
        let mut won = round.keep();
        let turn = won.turn.take();
        let held = Held::new(Arc::clone(&self.shared), won);
        let lease = Lease::new(held, lease_time, deadline);
        if granted_for < lease_time {
            lease.extend_once(asked + granted_for / 3);
        }
        Some(match turn {
            Some((turn, ticket)) => lease.in_turn(turn, ticket, next_ticket),
            None => lease,
        })
    }

    /// Waits until no caller of this process that came before asks for these resources, which are
    /// sorted, so that nobody waits in a circle. In a fair line there is only one that asks.
    async fn pass_gates(&self) -> Result<Vec<OwnedMutexGuard<()>>, AcquireError> {
        let mut passed = Vec::new();
        if matches!(self.waits, Waits::InTurn(_)) {
            return Ok(passed);
        }
        for topic in &self.topics {
            let gate = timeout_at(self.deadline.into(), topic.gate().lock_owned()).await;
            passed.push(gate.map_err(|_elapsed| self.give_up_at_gate())?);
        }
        Ok(passed)
    }

    /// One that waits for several resources is granted none of them: it must find them free.
    fn must_yield(&self) -> bool {
        let left = |topic: &Arc<Topic>| topic.left_at().is_some_and(|at| at.elapsed() < LEFT_FOR);
        matches!(self.waits, Waits::Alone(_))
            && self.topics.len() == 1
            && self.topics.iter().any(left)
    }

    /// How long to wait where the lock is held for so many milliseconds more.
    fn poll(&self, held_ms: u64) -> Duration {
        Duration::from_millis(held_ms).min(self.longest_poll()).max(SPLIT_VOTE_PAUSE)
    }

    fn longest_poll(&self) -> Duration {
        POLL_AT_MOST.min(self.policy.lease_time / POLLS_A_LEASE)
    }

    /// Waits for a notice of release, at most this long and not past the deadline.
    async fn wait(&self, releases: &mut [watch::Receiver<u64>], at_most: Duration) {
        let until = Instant::now() + self.pause(at_most);
        // Both outcomes mean: try again.
        let _ = timeout_at(until.into(), any_change(releases)).await;
    }

    fn pause(&self, at_most: Duration) -> Duration {
        at_most.min(self.deadline.saturating_duration_since(Instant::now()))
    }

    fn give_up(&self, verdict: Verdict, round: &Round) -> AcquireError {
        match verdict {
            Verdict::Unreachable => {
                let (reachable, nodes, quorum) = round.shortage();
                AcquireError::QuorumUnavailable { reachable, nodes, quorum }
            }
            _ => AcquireError::Timeout { waited: self.started.elapsed() },
        }
    }

    /// Nothing was asked, but what is known of the nodes says what the caller waited for.
    fn give_up_at_gate(&self) -> AcquireError {
        let (reachable, nodes) = self.shared.roster.members().voting();
        let quorum = nodes / 2 + 1;
        if reachable < quorum {
            return AcquireError::QuorumUnavailable { reachable, nodes, quorum };
        }
        AcquireError::Timeout { waited: self.started.elapsed() }
    }
}

async fn any_change(releases: &mut [watch::Receiver<u64>]) {
    let changes = releases.iter_mut().map(|release| Box::pin(release.changed()));
    // The senders live as long as the topics that are waited for.
    let _ = futures::future::select_all(changes).await;
}

/// How long a lease can be relied on by this process's clock.
pub(crate) fn usable(lease_time: Duration) -> Duration {
    lease_time.saturating_sub(lease_time.mul_f64(DRIFT_FACTOR) + DRIFT_FIXED)
}
