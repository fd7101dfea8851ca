//! A held lock.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::time::{sleep, sleep_until, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::lease_end::LeaseEnd;
use super::lease_state::LeaseState;
use super::renewable::Renewable;
use crate::cluster::Confirmation;
use crate::config::SHORTEST_LEASE;
use crate::error::{AcquireOutcome, ExtendError};
use crate::node::Release;
use crate::protocol::{AfterRelease, Departure, Handover};
use crate::queue::SlotTicket;
use crate::time::bounded;

/// A renewed lease of which less than this part is left is extended before it is used. Its time counts from
/// the request, early in the batch before.
const FRESH: f64 = 0.9;
/// A lease is extended when this part of it is over.
const EXTEND_AFTER: f64 = 1.0 / 3.0;

/// A lock on one or more resources: a majority of the nodes holds them for this owner until the deadline.
///
/// Dropping a lease releases it in the background; [`Lease::release`] waits for the nodes.
///
/// ```
/// # use std::time::Duration;
/// # use redlock::{Config, NodeConfig, Policy, Redlock};
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let servers = testkit::RedisServer::start_many(3)?;
/// # let nodes = servers.iter().map(|server| NodeConfig { address: server.address(), password: None });
/// # let config = Config { node_timeout: Duration::from_secs(5), ..Config::new(nodes.collect()) };
/// # let redlock = Redlock::start(&config)?;
/// # let policy = Policy { wait_timeout: Duration::from_secs(20), ..Policy::default() };
/// let lease = redlock.acquire("report", policy).await?;
/// lease.keep_extended();
/// // `None` would mean that the lease was lost, and the section dropped.
/// let written = lease.while_held(async { format!("report with token {}", lease.token()) }).await;
/// assert!(written.is_some());
/// lease.release().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Lease {
    state: Arc<LeaseState>,
    asked_at: Instant,
    acquired_at: Instant,
    /// The lease time of the policy, also the length of each extension.
    length: Duration,
    lost: OnceLock<CancellationToken>,
    /// Stops the tasks that extend and watch the lease.
    stop_tasks: CancellationToken,
    _stop_tasks: DropGuard,
    fair: Option<FairTicket>,
    /// The observer has counted it. A renewed lease may be released unused.
    is_counted: bool,
    is_released: bool,
}

/// The ticket of a lease in fair order.
#[derive(Debug)]
struct FairTicket {
    /// The slot, and its lowest ticket.
    own: SlotTicket,
    /// The lowest ticket of another client.
    next_ticket: Option<u64>,
}

impl Lease {
    pub(super) fn new(state: LeaseState, lease_time: Duration, asked_at: Instant) -> Self {
        let is_counted = state.renews.is_none();
        let mut lease = Self::of(Arc::new(state), lease_time, asked_at);
        lease.is_counted = is_counted;
        lease
    }

    fn of(state: Arc<LeaseState>, lease_time: Duration, asked_at: Instant) -> Self {
        let stop_tasks = CancellationToken::new();
        Self {
            state,
            asked_at,
            acquired_at: Instant::now(),
            length: lease_time,
            lost: OnceLock::new(),
            _stop_tasks: stop_tasks.clone().drop_guard(),
            stop_tasks,
            fair: None,
            is_counted: false,
            is_released: false,
        }
    }

    /// Whether it renews another lease, and is counted when it begins.
    pub(super) fn is_renewal(&self) -> bool {
        self.state.renews.is_some()
    }

    /// The same lease, ready for use. A renewed lease is not before the lease that it renews has ended, and if
    /// a part of its time is over, it is extended first. `None` if it is over.
    pub(crate) async fn begin(mut self) -> Option<Self> {
        let Some(renewed) = &self.state.renews else { return Some(self) };
        renewed.token.cancelled().await;
        if self.remaining() < self.length.mul_f64(FRESH) {
            self.state.extend(self.length).await.ok()?;
        }
        let asked_at = renewed.at().map_or(self.asked_at, |end| end.max(self.asked_at));
        (self.asked_at, self.acquired_at) = (asked_at, Instant::now());
        let observer = &self.state.client.cluster.observer;
        observer.acquired(AcquireOutcome::Acquired, self.acquired_at - asked_at, 1);
        self.is_counted = true;
        Some(self)
    }

    /// What the worker of a batch keeps of the lease, to renew it while the batch is executed. `None` for
    /// several resources, if a release granted the lock (other clients wait for it too), and if the nodes
    /// are too near for a gain.
    pub(crate) fn renewable(&self) -> Option<Renewable> {
        let LeaseState { client, tokens, took, was_granted_late, .. } = &*self.state;
        let is_alone = tokens.len() == 1 && !was_granted_late;
        let pays = *took >= client.cluster.renew_from;
        (is_alone && pays).then(|| Renewable::new(Arc::clone(&self.state)))
    }

    pub(super) fn with_ticket(mut self, own: SlotTicket, next_ticket: Option<u64>) -> Self {
        self.fair = Some(FairTicket { own, next_ticket });
        self
    }

    /// The owner's name on the nodes.
    pub(super) fn owner(&self) -> &str {
        &self.state.owner
    }

    /// Whether a ticket of this client precedes the tickets of all other clients. `before` is the ticket
    /// that was served last.
    pub(crate) fn serves(&self, ticket: u64, before: Option<u64>) -> bool {
        self.fair.as_ref().is_none_or(|fair| {
            let follows = match fair.next_ticket {
                Some(next) => ticket < next,
                // Other clients may have taken tickets since, but not in between.
                None => before.is_some_and(|before| ticket == before + 1),
            };
            // The nodes granted the lock to this ticket, even if one of them knows a lower dead one.
            ticket == fair.own.ticket || follows
        })
    }

    /// The same lease on behalf of the caller with this ticket.
    pub(crate) fn for_ticket(mut self, ticket: u64) -> Self {
        if let Some(fair) = &mut self.fair {
            fair.own.ticket = ticket;
        }
        self
    }

    /// The caller's ticket in fair order. Callers that asked later have higher tickets.
    #[must_use]
    pub fn ticket(&self) -> Option<u64> {
        self.fair.as_ref().map(|fair| fair.own.ticket)
    }

    /// The fencing token of the first (or only) resource.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.tokens().first().map_or(0, |(_, token)| *token)
    }

    /// The fencing token of each resource, sorted by resource.
    #[must_use]
    pub fn tokens(&self) -> &[(String, u64)] {
        &self.state.tokens
    }

    /// When the acquisition began, and when it ended.
    #[must_use]
    pub fn acquisition(&self) -> (Instant, Instant) {
        (self.asked_at, self.acquired_at)
    }

    /// How much longer the nodes keep the lock, by this process's monotonic clock.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.state.deadline().saturating_duration_since(Instant::now())
    }

    /// Sets the end of the lease to `lease_time` from now.
    ///
    /// A node never sets a lock again that it gave up, so a majority has held the lock without a break. A
    /// lease cannot be extended after a change of the membership.
    ///
    /// # Errors
    /// [`ExtendError`]; the lease then ends at its previous deadline.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use redlock::{Config, NodeConfig, Policy, Redlock};
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let servers = testkit::RedisServer::start_many(3)?;
    /// # let nodes = servers.iter().map(|server| NodeConfig { address: server.address(), password: None });
    /// # let config = Config { node_timeout: Duration::from_secs(5), ..Config::new(nodes.collect()) };
    /// # let config = Config { longest_lease: Duration::from_secs(60), ..config };
    /// # let redlock = Redlock::start(&config)?;
    /// # let policy = Policy { wait_timeout: Duration::from_secs(20), ..Policy::default() };
    /// let lease = redlock.acquire("report", policy).await?;
    /// lease.extend(Duration::from_secs(60)).await?;
    /// assert!(lease.remaining() > policy.lease_time);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn extend(&self, lease_time: Duration) -> Result<(), ExtendError> {
        let (longest, shortest) = (self.state.client.cluster.longest_lease, SHORTEST_LEASE);
        if bounded(lease_time) > longest {
            return Err(ExtendError::LeaseTooLong { lease_time, longest });
        }
        if lease_time < shortest {
            return Err(ExtendError::LeaseTooShort { lease_time, shortest });
        }
        self.state.extend(bounded(lease_time)).await
    }

    /// Extends the lease by its own length again and again, until it is released or dropped.
    pub fn keep_extended(&self) {
        let (state, length) = (Arc::clone(&self.state), self.length);
        self.spawn(async move {
            loop {
                sleep(length.mul_f64(EXTEND_AFTER)).await;
                if !state.extend_with_retries(length).await {
                    return;
                }
            }
        });
    }

    /// Extends the lease to its full length at this time, unless it is released before.
    pub(super) fn extend_once(&self, at: Instant) {
        let (state, length) = (Arc::clone(&self.state), self.length);
        self.spawn(async move {
            sleep_until(at.into()).await;
            state.extend_with_retries(length).await;
        });
    }

    /// Runs a task that stops when the lease is released or dropped.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.stop_tasks.clone().run_until_cancelled_owned(task));
    }

    /// Runs a section as long as the lease lasts. `None`: the lease ended first, and the section was
    /// dropped.
    pub async fn while_held<F: Future>(&self, section: F) -> Option<F::Output> {
        let mut section = pin!(section);
        loop {
            let deadline = self.state.deadline();
            match timeout_at(deadline.into(), &mut section).await {
                Ok(result) => return Some(result),
                Err(_elapsed) if self.state.deadline() > deadline => {}
                Err(_elapsed) => return None,
            }
        }
    }

    /// A token that is cancelled when the lease ends before it is released. As long as the nodes' clocks
    /// do not jump, that is before the first node of the majority gives the lock up. A release never
    /// cancels it.
    #[must_use]
    pub fn lost(&self) -> CancellationToken {
        let watched = || {
            let lost = CancellationToken::new();
            let (state, signal) = (Arc::clone(&self.state), lost.clone());
            self.spawn(async move {
                while state.deadline() > Instant::now() {
                    sleep_until(state.deadline().into()).await;
                }
                signal.cancel();
                state.client.cluster.observer.lease_lost();
            });
            lost
        };
        self.lost.get_or_init(watched).clone()
    }

    /// Frees the resources on all nodes. Returns when a majority has confirmed it.
    pub async fn release(self) {
        self.release_with(&[]).await;
    }

    /// As [`Lease::release`], and leaves a value behind for some of the resources. Each node keeps the
    /// value under the resource's own name, unless a higher token wrote one before. The value
    /// [`REMOVED`](crate::REMOVED) removes it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use redlock::{Config, NodeConfig, Policy, Published, Redlock};
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let servers = testkit::RedisServer::start_many(3)?;
    /// # let nodes = servers.iter().map(|server| NodeConfig { address: server.address(), password: None });
    /// # let config = Config { node_timeout: Duration::from_secs(5), ..Config::new(nodes.collect()) };
    /// # let redlock = Redlock::start(&config)?;
    /// # let policy = Policy { wait_timeout: Duration::from_secs(20), ..Policy::default() };
    /// let lease = redlock.acquire("stock:1", policy).await?;
    /// let token = lease.token();
    /// lease.release_with(&[("stock:1", "41".to_owned())]).await;
    ///
    /// let left = Published { token, value: Some("41".to_owned()) };
    /// // In this process and, by notices of the nodes, in every other one that follows the resource.
    /// assert_eq!(*redlock.published("stock:1").borrow(), left);
    /// for node in redlock.values(&["stock:1".to_owned()]).await {
    ///     println!("{}: {:?}", node.node, node.values[0]);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn release_with(mut self, values: &[(&str, String)]) {
        self.end(values, Confirmation::ByMajority).await;
    }

    /// As [`Lease::release_with`], but returns when every connected node has confirmed it. For a process
    /// that ends then.
    pub async fn release_everywhere(mut self, values: &[(&str, String)]) {
        self.end(values, Confirmation::ByAll).await;
    }

    /// As [`Lease::release_with`], without waiting for a confirmation.
    ///
    /// A later acquisition by this process uses the same ordered connections, so it finds the resources
    /// free.
    pub fn release_in_background(mut self, values: &[(&str, String)]) {
        tokio::spawn(self.end(values, Confirmation::ByMajority));
    }

    fn end(
        &mut self,
        values: &[(&str, String)],
        confirmation: Confirmation,
    ) -> impl Future<Output = ()> + Send + 'static {
        self.is_released = true;
        self.stop_tasks.cancel();
        let LeaseState { client, members, owner, slot_name, tokens, .. } = &*self.state;
        if self.is_counted {
            client.cluster.observer.released(self.acquired_at.elapsed());
        }
        let mut values: HashMap<_, _> = values.iter().cloned().collect();
        let handover = |(resource, token): &(String, u64)| {
            let value = values.remove(&**resource);
            let highest = client.cluster.registry.state_of(resource).highest_token();
            Handover { resource: resource.clone(), token: *token, highest, value }
        };
        let handovers: Vec<_> = tokens.iter().map(handover).collect();
        let slot = self.fair.as_ref().map(|fair| &fair.own.slot);
        let send = |after, next_request| {
            let slot_name = Arc::clone(slot_name);
            let departure = Departure { slot: slot_name, after, gives_up: false, next_request };
            let lowest_ticket = slot.map(|slot| slot.shared_lowest_ticket());
            let release = Release { owner: owner.clone(), departure, lowest_ticket, handovers };
            client.release(members, release, confirmation)
        };
        let released = match slot {
            Some(slot) => slot.release(owner, send),
            None => send(AfterRelease::Unchanged, None),
        };
        // Behind the release: what waits for the end may send more.
        self.state.end.mark();
        released
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.is_released {
            return;
        }
        let mut dropped = Self::of(Arc::clone(&self.state), self.length, self.asked_at);
        (dropped.acquired_at, dropped.is_counted) = (self.acquired_at, self.is_counted);
        dropped.fair = self.fair.take();
        dropped.is_released = true;
        LeaseEnd::then(self.state.renews.as_ref(), move || match Handle::try_current() {
            Ok(runtime) => _ = runtime.spawn(dropped.end(&[], Confirmation::ByMajority)),
            // Nothing can be sent, and the lock expires on the nodes.
            Err(_) => dropped.state.end.mark(),
        });
    }
}
