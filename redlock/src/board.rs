//! What this process has heard about each resource: tokens, values, releases.
//!
//! Fed by the nodes' pub/sub notices and by this process's own votes. A notice that is lost costs
//! a waiter one bounded poll, never a hang.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use crate::keys::{fence_key, ticket_key};
use crate::script::{Handover, is_counter};

/// The value that removes a resource's value from the nodes. Like any other it has the token of its
/// holder, so a late one cannot bring the old value back.
pub const REMOVED: &str = "\0";

/// The value that the holder of `token` left behind for a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// The token of the hold that wrote it.
    pub token: u64,
    /// The value, if that hold published one; [`REMOVED`] if it removed it.
    pub value: Option<String>,
}

/// A request of this process that a node granted when the resource was released.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grant {
    /// The node's slot.
    pub(crate) node: usize,
    pub(crate) token: u64,
    /// The lowest place of another line, if there is one.
    pub(crate) next_place: Option<u64>,
    /// The node's clock, in microseconds.
    pub(crate) micros: i64,
}

/// Where the grants of a request arrive.
pub(crate) type Grants = UnboundedReceiver<Grant>;

/// One notice, as `release.lua` writes it.
struct Notice<'a> {
    resource: &'a str,
    token: u64,
    /// Empty: nobody; `-`: it is left to one that waits for other resources too.
    granted_to: &'a str,
    grant: Grant,
    value: &'a str,
}

impl<'a> Notice<'a> {
    fn parse(text: &'a str, node: usize) -> Option<Self> {
        let mut parts = text.splitn(7, '\n');
        let mut next = || parts.next();
        let (resource, token, granted_to) = (next()?, next()?, next()?);
        let (granted, next_place, micros, value) = (next()?, next()?, next()?, next()?);
        let next_place = next_place.parse().ok().filter(|place| *place > 0);
        let grant =
            Grant { node, token: granted.parse().ok()?, next_place, micros: micros.parse().ok()? };
        Some(Self { resource, token: token.parse().ok()?, granted_to, grant, value })
    }
}

/// What is known of one resource.
#[derive(Debug)]
pub(crate) struct Topic {
    /// The highest token seen anywhere.
    highest_token: AtomicU64,
    /// The highest ticket seen anywhere.
    highest_ticket: AtomicU64,
    /// When it was last left to one that waits for other resources too.
    left_at: Mutex<Option<Instant>>,
    /// The requests of this process, by their owner.
    requests: Mutex<HashMap<String, UnboundedSender<Grant>>>,
    /// The last token whose release was heard of, and from which nodes.
    releases: Mutex<(u64, BTreeSet<usize>)>,
    /// Callers of this process that ask for the lock on their own pass one by one.
    gate: Arc<tokio::sync::Mutex<()>>,
    published: watch::Sender<Published>,
    released: watch::Sender<u64>,
}

impl Topic {
    fn new() -> Self {
        Self {
            highest_token: AtomicU64::new(0),
            highest_ticket: AtomicU64::new(0),
            left_at: Mutex::new(None),
            requests: Mutex::default(),
            releases: Mutex::default(),
            gate: Arc::default(),
            published: watch::Sender::new(Published::default()),
            released: watch::Sender::new(0),
        }
    }

    pub(crate) fn saw_token(&self, token: u64) {
        if !is_counter(token) {
            return;
        }
        self.highest_token.fetch_max(token, Ordering::AcqRel);
    }

    pub(crate) fn highest_token(&self) -> u64 {
        self.highest_token.load(Ordering::Acquire)
    }

    pub(crate) fn saw_ticket(&self, ticket: u64) {
        if !is_counter(ticket) {
            return;
        }
        self.highest_ticket.fetch_max(ticket, Ordering::AcqRel);
    }

    pub(crate) fn highest_ticket(&self) -> u64 {
        self.highest_ticket.load(Ordering::Acquire)
    }

    /// When it was last left to one that waits for other resources too, who should get it.
    pub(crate) fn left_at(&self) -> Option<Instant> {
        *self.left_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the grants of this owner's request arrive, until it is forgotten.
    pub(crate) fn expect_grants(&self, owner: &str) -> Grants {
        let (sender, grants) = unbounded_channel();
        self.requests().insert(owner.to_owned(), sender);
        grants
    }

    pub(crate) fn forget_grants(&self, owner: &str) {
        self.requests().remove(owner);
    }

    fn requests(&self) -> MutexGuard<'_, HashMap<String, UnboundedSender<Grant>>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held while a caller asks the nodes, not while it holds the lock: the next in line would
    /// only be refused.
    pub(crate) fn gate(&self) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(&self.gate)
    }

    /// Changes when a majority of the nodes has told of a release, and that nobody got it then.
    pub(crate) fn releases(&self) -> watch::Receiver<u64> {
        self.released.subscribe()
    }

    pub(crate) fn published(&self) -> watch::Receiver<Published> {
        self.published.subscribe()
    }

    /// Whether this notice makes it a majority that told of the release of the last token.
    fn count_release(&self, token: u64, node: usize, quorum: usize) -> bool {
        let mut releases = self.releases.lock().unwrap_or_else(PoisonError::into_inner);
        if token > releases.0 {
            *releases = (token, BTreeSet::new());
        }
        token == releases.0 && releases.1.insert(node) && releases.1.len() == quorum
    }

    /// Keeps the value unless one of a higher token is known.
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

/// All resources this process has touched.
#[derive(Debug)]
pub(crate) struct Board {
    quorum: AtomicUsize,
    topics: Mutex<HashMap<String, Arc<Topic>>>,
}

impl Board {
    pub(crate) fn new() -> Self {
        Self { quorum: AtomicUsize::new(1), topics: Mutex::default() }
    }

    /// How many nodes must tell of a release before waiters are woken.
    pub(crate) fn set_quorum(&self, quorum: usize) {
        self.quorum.store(quorum, Ordering::Relaxed);
    }

    /// Whether any token is known.
    pub(crate) fn remembers(&self) -> bool {
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.values().any(|topic| topic.highest_token() > 0)
    }

    pub(crate) fn topic(&self, resource: &str) -> Arc<Topic> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = topics.get(resource) {
            return Arc::clone(topic);
        }
        Arc::clone(topics.entry(resource.to_owned()).or_insert_with(|| Arc::new(Topic::new())))
    }

    /// The highest token and ticket of every resource, by the keys of a node's counters.
    pub(crate) fn counters(&self) -> HashMap<String, u64> {
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = topics.iter().flat_map(|(resource, topic)| {
            let token = (fence_key(resource).to_string(), topic.highest_token());
            [token, (ticket_key(resource).to_string(), topic.highest_ticket())]
        });
        counters.filter(|(_, counter)| *counter > 0).collect()
    }

    /// The newest value of every resource that has one.
    pub(crate) fn values(&self) -> Vec<Handover> {
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = topics.iter().map(|(resource, topic)| {
            let Published { token, value } = topic.published.borrow().clone();
            Handover { resource: resource.clone(), token, value }
        });
        newest.filter(|handover| handover.value.is_some()).collect()
    }

    /// Takes in notices of a node, as `release.lua` writes them: each after its length. What cannot
    /// be read is dropped.
    pub(crate) fn heard(&self, mut notices: &str, node: usize) {
        while let Some((length, rest)) = notices.split_once(':')
            && let Ok(length) = length.parse()
            && let Some((notice, rest)) = rest.split_at_checked(length)
        {
            self.take_in(notice, node);
            notices = rest;
        }
    }

    fn take_in(&self, notice: &str, node: usize) {
        let Some(notice) = Notice::parse(notice, node) else { return };
        let Notice { resource, token, granted_to, grant, value } = notice;
        // A resource that nobody here uses needs no memory.
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(topic) = topics.get(resource).cloned() else {
            return;
        };
        drop(topics);

        topic.saw_token(token.max(grant.token));
        if !value.is_empty() {
            topic.publish(token, value);
        }
        match granted_to {
            "" => {}
            "-" => {
                *topic.left_at.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(Instant::now());
            }
            owner => {
                if let Some(request) = topic.requests().get(owner) {
                    // Whoever asked may have given up in this moment.
                    let _ = request.send(grant);
                }
                return;
            }
        }
        if topic.count_release(token, node, self.quorum.load(Ordering::Relaxed)) {
            topic.released.send_replace(token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(board: &Board, notice: &str, node: usize) {
        board.heard(&format!("{}:{notice}", notice.len()), node);
    }

    #[test]
    fn keeps_the_value_of_the_highest_token() {
        let board = Board::new();
        let topic = board.topic("stock:1");
        hear(&board, "stock:1\n7\n\n0\n0\n1\n42", 0);
        hear(&board, "stock:1\n6\n\n0\n0\n1\n50", 0);
        assert_eq!(
            *topic.published().borrow(),
            Published { token: 7, value: Some("42".to_owned()) }
        );
        assert_eq!(topic.highest_token(), 7);
        let both = ["stock:2\n9\n\n0\n0\n1\n5", "stock:1\n8\n\n0\n0\n1\n41"];
        let both = both.map(|notice| format!("{}:{notice}", notice.len())).concat();
        board.heard(&both, 0);
        assert_eq!(topic.published().borrow().value.as_deref(), Some("41"), "one message");
    }

    #[test]
    fn wakes_waiters_once_when_a_majority_has_told() {
        let board = Board::new();
        board.set_quorum(2);
        let mut releases = board.topic("x").releases();
        hear(&board, "x\n7\n\n0\n0\n1\n", 0);
        assert!(!releases.has_changed().unwrap());
        hear(&board, "x\n7\n\n0\n0\n1\n", 0);
        assert!(!releases.has_changed().unwrap(), "a node that repeats itself counts once");
        hear(&board, "x\n6\n\n0\n0\n1\n", 1);
        assert!(!releases.has_changed().unwrap(), "an older one does not count");
        hear(&board, "x\n7\n\n0\n0\n1\n", 1);
        assert!(releases.has_changed().unwrap());
        releases.mark_unchanged();
        hear(&board, "x\n7\n\n0\n0\n1\n", 2);
        assert!(!releases.has_changed().unwrap());
    }

    #[test]
    fn ignores_what_it_cannot_read_and_resources_nobody_uses() {
        let board = Board::new();
        let topic = board.topic("stock:1");
        for unread in ["", "7:stock:1", ":", "x:", "-1:a"] {
            board.heard(unread, 0);
        }
        for notice in ["", "a\nb", "stock:1\nx\n\n0\n0\n1\n1", "stock:2\n1\n\n0\n0\n1\n1"] {
            hear(&board, notice, 0);
        }
        assert_eq!(topic.highest_token(), 0);
        assert_eq!(board.topics.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_grant_reaches_whoever_asked_and_wakes_nobody() {
        let board = Board::new();
        let topic = board.topic("x");
        let (mut grants, releases) = (topic.expect_grants("me-1"), topic.releases());
        hear(&board, "x\n7\nme-1\n8\n12\n99\n", 3);
        hear(&board, "x\n7\nyou-1\n8\n0\n99\n", 4);
        let grant = grants.try_recv().unwrap();
        assert_eq!((grant.node, grant.token, grant.next_place, grant.micros), (3, 8, Some(12), 99));
        assert!(grants.try_recv().is_err());
        assert!(!releases.has_changed().unwrap());
        assert_eq!(topic.highest_token(), 8);
        topic.forget_grants("me-1");
        hear(&board, "x\n9\n-\n0\n0\n99\n", 3);
        assert!(releases.has_changed().unwrap());
        assert!(topic.left_at().is_some());
    }
}
