//! One caller's rounds of votes, until it holds the lock or its wait is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{OwnedMutexGuard, watch};
use tokio::time::{sleep, timeout_at};

use super::lease::Lease;
use super::lease_state::LeaseState;
use super::renewable::Renewable;
use super::round::{Round, SPLIT_VOTE_PAUSE, WaitOutcome};
use crate::cluster::{ClusterClient, Members, Verdict};
use crate::config::Policy;
use crate::error::AcquireError;
use crate::protocol::{QueueEntry, REQUEST_LIMIT, SLOT_LIMIT, VoteRequest};
use crate::queue::{Backoff, QueueSlot, SlotTicket};
use crate::registry::ResourceState;
use crate::time::{after, bounded, usable};

/// The longest pause between two rounds of a waiter, so that its request never expires on the nodes.
const MAX_POLL: Duration = Duration::from_millis(100);
const _: () = assert!(MAX_POLL.as_millis() < REQUEST_LIMIT.as_millis());
/// The number of rounds that a waiter asks at least within one lease. Its own lease would count from the
/// last round.
const POLLS_PER_LEASE: u32 = 8;
/// How long a single-resource waiter yields to a waiter that needs several resources.
const RESERVATION_YIELD: Duration = Duration::from_millis(1);

/// One acquisition.
pub(crate) struct Acquisition {
    client: Arc<ClusterClient>,
    policy: Policy,
    /// Why the policy can never be met.
    invalid: Option<AcquireError>,
    /// Sorted, without duplicates.
    resources: Vec<String>,
    states: Vec<Arc<ResourceState>>,
    releases: Vec<watch::Receiver<u64>>,
    waiting: Waiting,
    started: Instant,
    deadline: Instant,
    rounds: u32,
    backoff: Backoff,
    /// The lease that the first round renews.
    renews: Option<Renewable>,
    /// The caller has an alternative, so the observer does not count a failure.
    is_try: bool,
}

/// How an acquisition waits.
enum Waiting {
    /// In the slot of this client for the only resource, in fair order.
    InSlot(Arc<QueueSlot>),
    /// With an entry of its own.
    Alone(QueueEntry),
}

/// What an acquisition has to do with the lease that this client has on the resource.
pub(crate) enum Present<'a> {
    /// There is none.
    None,
    /// The first round travels with its release.
    ReleasedWith(&'a Lease),
    /// The first round renews it.
    Renewed(Renewable),
}

/// Acquires one resource in fair order, and the tickets that the slot wants.
pub(crate) fn acquire_in_slot(
    client: &Arc<ClusterClient>,
    resource: &str,
    policy: Policy,
    slot: &Arc<QueueSlot>,
    present: Present<'_>,
) -> BoxFuture<'static, Result<Lease, AcquireError>> {
    let waiting = Waiting::InSlot(Arc::clone(slot));
    let acquisition = Acquisition { waiting, ..Acquisition::new(client, &[resource], policy) };
    match present {
        Present::None => acquisition.run().boxed(),
        Present::ReleasedWith(lease) => acquisition.run_with_release_of(lease).boxed(),
        Present::Renewed(lease) => Acquisition { renews: Some(lease), ..acquisition }.run().boxed(),
    }
}

impl Acquisition {
    /// An acquisition of all these resources, without tickets.
    pub(crate) fn new(client: &Arc<ClusterClient>, resources: &[&str], policy: Policy) -> Self {
        let mut resources: Vec<String> = resources.iter().map(|&name| name.to_owned()).collect();
        resources.sort_unstable();
        resources.dedup();
        let registry = &client.cluster.registry;
        let states: Vec<_> = resources.iter().map(|name| registry.state_of(name)).collect();
        let releases = states.iter().map(|state| state.releases()).collect();
        let newest = states.iter().map(|state| state.highest_token()).max().unwrap_or(0);
        // The same on all nodes, and lower for a longer wait: an approximate order of arrival. Negative,
        // so that the nodes can tell it from a ticket (release.lua).
        #[expect(clippy::cast_precision_loss, reason = "tokens are far below 2^52")]
        let rank = -1.0 / (1.0 + newest as f64 + rand::random::<f64>());
        let entry = QueueEntry { slot: client.next_owner().into(), rank, tickets: None };
        let started = Instant::now();
        let deadline = after(started, policy.wait_timeout);
        let invalid = client.cluster.check_lease(policy.lease_time).err();
        let policy = Policy { lease_time: bounded(policy.lease_time), ..policy };
        Self {
            client: Arc::clone(client),
            policy,
            invalid,
            resources,
            states,
            releases,
            waiting: Waiting::Alone(entry),
            started,
            deadline,
            rounds: 0,
            backoff: Backoff::default(),
            renews: None,
            is_try: false,
        }
    }

    /// The same acquisition, whose failure the observer does not count.
    pub(crate) fn into_try(self) -> Self {
        Self { is_try: true, ..self }
    }

    /// Acquires the lock.
    pub(crate) async fn run(self) -> Result<Lease, AcquireError> {
        self.run_after(None).await
    }

    /// Acquires the lock. The first round travels with the release of this lease, if the lease lasts much
    /// longer than the round takes. Otherwise the lease could end before the slot is in the queues.
    fn run_with_release_of(
        self,
        lease: &Lease,
    ) -> impl Future<Output = Result<Lease, AcquireError>> + Send + use<> {
        let members = self.client.cluster.members();
        let (request, fair) = self.request(&members);
        let lasts = lease.remaining() > 2 * self.longest_poll();
        let round = fair.filter(|_| lasts && self.invalid.is_none()).map(|fair| {
            let (owner, states) = (lease.owner(), self.states.clone());
            Round::start_with_release_of(owner, &self.client, members, states, request, fair)
        });
        self.run_after(round)
    }

    async fn run_after(mut self, first_round: Option<Round>) -> Result<Lease, AcquireError> {
        let result = self.attempt(first_round).await;
        if let Waiting::InSlot(slot) = &self.waiting {
            slot.cancel_ticket_request(result.as_ref().err());
        }
        let is_counted_later = result.as_ref().is_ok_and(Lease::is_renewal);
        if !is_counted_later && (result.is_ok() || !self.is_try) {
            let outcome = (&result).into();
            let observer = &self.client.cluster.observer;
            observer.acquired(outcome, self.started.elapsed(), self.rounds);
        }
        result
    }

    async fn attempt(&mut self, first_round: Option<Round>) -> Result<Lease, AcquireError> {
        if let Some(invalid) = self.invalid.take() {
            return Err(invalid);
        }
        let _gates = self.pass_gates().await?;
        let mut releases = std::mem::take(&mut self.releases);
        if let Some(mut round) = first_round {
            self.rounds += 1;
            let at_most = self.pause(self.longest_poll());
            let freed = any_change(&mut releases);
            if round.wait_for_grant(at_most, freed).await == WaitOutcome::Won
                && let Some(lease) = self.lease(round)
            {
                return Ok(lease);
            }
        }
        loop {
            if self.must_yield() {
                sleep(RESERVATION_YIELD).await;
            }
            for receiver in &mut releases {
                receiver.mark_unchanged();
            }
            self.rounds += 1;
            let mut round = self.start_round();
            let verdict = round.verdict().await;
            let is_over = Instant::now() >= self.deadline;
            if is_over && verdict != Verdict::Won {
                return Err(self.error(verdict, &round));
            }
            let jitter = rand::random_range(0.1..1.0);
            let split_pause = round.split_pause().mul_f64(jitter);
            match verdict {
                Verdict::Won => match self.lease(round) {
                    Some(lease) => return Ok(lease),
                    // The lease had ended before the votes arrived.
                    None if is_over => {
                        return Err(AcquireError::Timeout { waited: self.started.elapsed() });
                    }
                    None => self.wait(&mut releases, split_pause).await,
                },
                // The replies have raised the next proposal.
                Verdict::Stale => {}
                // The nodes keep no request of a renewal.
                Verdict::Split | Verdict::Held(_) if round.is_renewal() => {}
                Verdict::Split if self.resources.len() > 1 => {
                    // Given up before the pause: no release grants a part of the resources.
                    drop(round);
                    self.wait(&mut releases, split_pause).await;
                }
                Verdict::Split | Verdict::Held(_) => {
                    let pause = self.pause(match verdict {
                        Verdict::Held(ms) => self.poll(ms),
                        _ => split_pause,
                    });
                    if let Some(lease) = self.wait_in_queue(round, pause, &mut releases).await {
                        return Ok(lease);
                    }
                }
                Verdict::Unreachable => {
                    drop(round);
                    sleep(self.pause(MAX_POLL.mul_f64(jitter))).await;
                }
            }
        }
    }

    /// Waits until a release grants the request of this round, at most this long.
    async fn wait_in_queue(
        &mut self,
        mut round: Round,
        at_most: Duration,
        releases: &mut [watch::Receiver<u64>],
    ) -> Option<Lease> {
        let freed = any_change(releases);
        if !round.lost_tickets() && round.wait_for_grant(at_most, freed).await == WaitOutcome::Won {
            return self.lease(round);
        }
        if round.lost_tickets() {
            drop(round);
            self.backoff.pause().await;
        }
        None
    }

    fn start_round(&mut self) -> Round {
        let members = self.client.cluster.members();
        let (mut request, fair) = self.request(&members);
        let renewed = self.renews.take().and_then(|lease| {
            let token = lease.prepare(&request.owner)?;
            request.proposals.iter_mut().for_each(|(_, proposed)| *proposed = token);
            request.renews = Some(lease.owner().to_owned());
            Some(Arc::clone(lease.end()))
        });
        Round::start(&self.client, members, self.states.clone(), request, fair, renewed)
    }

    fn request(&self, members: &Members) -> (VoteRequest, Option<SlotTicket>) {
        let (entry, fair) = match &self.waiting {
            Waiting::Alone(entry) => (entry.clone(), None),
            Waiting::InSlot(slot) => {
                let highest = self.states.iter().map(|state| state.highest_ticket()).max();
                let (ticket, entry) = slot.entry(highest.unwrap_or(0) + 1);
                (entry, Some(SlotTicket { slot: Arc::clone(slot), ticket }))
            }
        };
        let next = self.states.iter().map(|state| state.highest_token() + 1);
        let request = VoteRequest {
            epoch: members.membership.epoch,
            owner: self.client.next_owner(),
            lease: self.policy.lease_time,
            proposals: self.resources.iter().cloned().zip(next).collect(),
            entry,
            renews: None,
        };
        (request, fair)
    }

    /// The lease that a round won; `None` if it is over already.
    fn lease(&self, round: Round) -> Option<Lease> {
        let (started, next_ticket) = (round.started, round.next_ticket());
        let lease_time = self.policy.lease_time;
        let granted_for =
            if round.was_granted_late() { lease_time.min(SLOT_LIMIT) } else { lease_time };
        let deadline = started + usable(granted_for);
        if Instant::now() >= deadline {
            return None;
        }
        let mut won = round.into_won();
        let fair = won.fair.take();
        let state = LeaseState::new(Arc::clone(&self.client), won, deadline);
        let lease = Lease::new(state, lease_time, self.started);
        if granted_for < lease_time {
            lease.extend_once(started + granted_for / 3);
        }
        Some(match fair {
            Some(fair) => lease.with_ticket(fair, next_ticket),
            None => lease,
        })
    }

    /// Waits until no earlier caller of this process asks for these resources. They are sorted, so callers
    /// cannot wait for each other in a circle. A slot has only one caller that asks.
    async fn pass_gates(&self) -> Result<Vec<OwnedMutexGuard<()>>, AcquireError> {
        let mut passed = Vec::new();
        if matches!(self.waiting, Waiting::InSlot(_)) {
            return Ok(passed);
        }
        for state in &self.states {
            let gate = timeout_at(self.deadline.into(), state.gate().lock_owned()).await;
            passed.push(gate.map_err(|_elapsed| self.error_at_gate())?);
        }
        Ok(passed)
    }

    /// Whether the only resource is reserved for a waiter that needs several. No release grants that
    /// waiter a part of its resources, so it must find them free.
    fn must_yield(&self) -> bool {
        matches!(self.waiting, Waiting::Alone(_))
            && self.states.len() == 1
            && self.states.iter().any(|state| state.is_reserved())
    }

    /// How long to wait for a lock that expires in this many milliseconds.
    fn poll(&self, held_ms: u64) -> Duration {
        Duration::from_millis(held_ms).min(self.longest_poll()).max(SPLIT_VOTE_PAUSE)
    }

    fn longest_poll(&self) -> Duration {
        MAX_POLL.min(self.policy.lease_time / POLLS_PER_LEASE)
    }

    /// Waits for the notice of a release, at most this long and not past the deadline.
    async fn wait(&self, releases: &mut [watch::Receiver<u64>], at_most: Duration) {
        let until = Instant::now() + self.pause(at_most);
        // After either outcome, the next round follows.
        let _ = timeout_at(until.into(), any_change(releases)).await;
    }

    fn pause(&self, at_most: Duration) -> Duration {
        at_most.min(self.deadline.saturating_duration_since(Instant::now()))
    }

    fn error(&self, verdict: Verdict, round: &Round) -> AcquireError {
        match verdict {
            Verdict::Unreachable => {
                let (reachable, nodes, quorum) = round.shortage();
                AcquireError::QuorumUnavailable { reachable, nodes, quorum }
            }
            _ => AcquireError::Timeout { waited: self.started.elapsed() },
        }
    }

    /// The error of a caller that asked no node. The present state of the nodes tells the reason.
    fn error_at_gate(&self) -> AcquireError {
        let (reachable, nodes) = self.client.cluster.members().voting();
        let quorum = nodes / 2 + 1;
        if reachable < quorum {
            return AcquireError::QuorumUnavailable { reachable, nodes, quorum };
        }
        AcquireError::Timeout { waited: self.started.elapsed() }
    }
}

async fn any_change(releases: &mut [watch::Receiver<u64>]) {
    let changes = releases.iter_mut().map(|release| Box::pin(release.changed()));
    // The senders live as long as the states that the caller holds.
    let _ = futures::future::select_all(changes).await;
}
