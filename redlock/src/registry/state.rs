//! What this process knows about one resource.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use super::published::Published;
use crate::protocol::{LateGrant, is_counter};

/// How long the waiter for several resources keeps its priority after it was last seen.
const RESERVATION_LIMIT: Duration = Duration::from_millis(500);

/// The channel on which the late grants of one request arrive.
pub(crate) type LateGrants = UnboundedReceiver<LateGrant>;

/// The tokens, tickets, values and waiters of one resource.
#[derive(Debug)]
pub(crate) struct ResourceState {
    highest_token: AtomicU64,
    highest_ticket: AtomicU64,
    reserved_at: Mutex<Option<Instant>>,
    /// The waiting requests of this process, by owner.
    requests: Mutex<HashMap<String, UnboundedSender<LateGrant>>>,
    /// The last released token, and the nodes that reported its release.
    releases: Mutex<(u64, BTreeSet<usize>)>,
    gate: Arc<tokio::sync::Mutex<()>>,
    published: watch::Sender<Published>,
    released: watch::Sender<u64>,
}

impl ResourceState {
    pub(super) fn new() -> Self {
        Self {
            highest_token: AtomicU64::new(0),
            highest_ticket: AtomicU64::new(0),
            reserved_at: Mutex::new(None),
            requests: Mutex::default(),
            releases: Mutex::default(),
            gate: Arc::default(),
            published: watch::Sender::new(Published::default()),
            released: watch::Sender::new(0),
        }
    }

    /// Records a token. Ignores numbers that no node can have counted.
    pub(crate) fn observe_token(&self, token: u64) {
        if is_counter(token) {
            self.highest_token.fetch_max(token, Ordering::AcqRel);
        }
    }

    /// The highest token observed anywhere.
    pub(crate) fn highest_token(&self) -> u64 {
        self.highest_token.load(Ordering::Acquire)
    }

    /// Records a ticket. Ignores numbers that no node can have counted.
    pub(crate) fn observe_ticket(&self, ticket: u64) {
        if is_counter(ticket) {
            self.highest_ticket.fetch_max(ticket, Ordering::AcqRel);
        }
    }

    /// The highest ticket observed anywhere.
    pub(crate) fn highest_ticket(&self) -> u64 {
        self.highest_ticket.load(Ordering::Acquire)
    }

    /// Whether a node has lately reserved the resource for a waiter that needs several resources.
    pub(crate) fn is_reserved(&self) -> bool {
        let reserved_at = *self.reserved_at.lock().unwrap_or_else(PoisonError::into_inner);
        reserved_at.is_some_and(|at| at.elapsed() < RESERVATION_LIMIT)
    }

    pub(super) fn reserve(&self) {
        *self.reserved_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Subscribes to the late grants of this owner's request.
    pub(crate) fn subscribe_grants(&self, owner: &str) -> LateGrants {
        let (sender, grants) = unbounded_channel();
        self.requests().insert(owner.to_owned(), sender);
        grants
    }

    /// Ends that subscription.
    pub(crate) fn unsubscribe_grants(&self, owner: &str) {
        self.requests().remove(owner);
    }

    pub(super) fn deliver_grant(&self, owner: &str, grant: LateGrant) {
        if let Some(request) = self.requests().get(owner) {
            // The round may have ended at this moment.
            let _ = request.send(grant);
        }
    }

    fn requests(&self) -> MutexGuard<'_, HashMap<String, UnboundedSender<LateGrant>>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serializes the callers of this process that ask the nodes for the lock. A caller holds it while it
    /// asks, not while it holds the lock: the nodes would only refuse the next caller.
    pub(crate) fn gate(&self) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(&self.gate)
    }

    /// Changes when a majority of the nodes has reported a release after which nobody got the resource.
    pub(crate) fn releases(&self) -> watch::Receiver<u64> {
        self.released.subscribe()
    }

    /// Follows the value of the highest token.
    pub(crate) fn published(&self) -> watch::Receiver<Published> {
        self.published.subscribe()
    }

    /// Records that a node reported the release of a token. Wakes the waiters when `quorum` nodes have
    /// reported the last one.
    pub(super) fn record_release(&self, token: u64, node: usize, quorum: usize) {
        let mut releases = self.releases.lock().unwrap_or_else(PoisonError::into_inner);
        if token > releases.0 {
            *releases = (token, BTreeSet::new());
        }
        let completes_quorum =
            token == releases.0 && releases.1.insert(node) && releases.1.len() == quorum;
        drop(releases);
        if completes_quorum {
            self.released.send_replace(token);
        }
    }

    /// Stores a value, unless the value of a higher token is known.
    pub(crate) fn publish(&self, token: u64, value: &str) {
        if !is_counter(token) {
            return;
        }
        self.published.send_if_modified(|last| {
            let newer = token > last.token;
            if newer {
                *last = Published { token, value: Some(value.to_owned()) };
            }
            newer
        });
    }
}
