//! What this process has heard about each resource: tokens, values, releases.
//!
//! Fed by the nodes' pub/sub notices and by this process's own votes. A notice that is lost costs
//! a waiter one bounded poll, never a hang.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use crate::script::Handover;

/// The value that the holder of `token` left behind for a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// The token of the hold that wrote it.
    pub token: u64,
    /// The value, if that hold published one.
    pub value: Option<String>,
}

/// What is known of one resource.
#[derive(Debug)]
pub(crate) struct Topic {
    /// The highest token seen anywhere.
    highest_token: AtomicU64,
    /// The highest ticket seen anywhere.
    highest_ticket: AtomicU64,
    /// When another client last released it.
    contended_at: Mutex<Option<Instant>>,
    /// The last token whose release was heard of, and from how many nodes.
    releases: Mutex<(u64, usize)>,
    published: watch::Sender<Published>,
    released: watch::Sender<u64>,
}

impl Topic {
    fn new() -> Self {
        Self {
            highest_token: AtomicU64::new(0),
            highest_ticket: AtomicU64::new(0),
            contended_at: Mutex::new(None),
            releases: Mutex::new((0, 0)),
            published: watch::Sender::new(Published::default()),
            released: watch::Sender::new(0),
        }
    }

    pub(crate) fn saw_token(&self, token: u64) {
        self.highest_token.fetch_max(token, Ordering::AcqRel);
    }

    pub(crate) fn highest_token(&self) -> u64 {
        self.highest_token.load(Ordering::Acquire)
    }

    pub(crate) fn saw_ticket(&self, ticket: u64) {
        self.highest_ticket.fetch_max(ticket, Ordering::AcqRel);
    }

    pub(crate) fn highest_ticket(&self) -> u64 {
        self.highest_ticket.load(Ordering::Acquire)
    }

    pub(crate) fn contended_at(&self) -> Option<Instant> {
        *self.contended_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes when a majority of the nodes has told of a release.
    pub(crate) fn releases(&self) -> watch::Receiver<u64> {
        self.released.subscribe()
    }

    pub(crate) fn published(&self) -> watch::Receiver<Published> {
        self.published.subscribe()
    }

    /// From how many nodes the release of this token has been heard of, if it is the last.
    fn count_release(&self, token: u64) -> usize {
        let mut releases = self.releases.lock().unwrap_or_else(PoisonError::into_inner);
        if token > releases.0 {
            *releases = (token, 0);
        }
        if token == releases.0 {
            releases.1 += 1;
            return releases.1;
        }
        0
    }

    /// Keeps the value unless one of a higher token is known.
    pub(crate) fn publish(&self, token: u64, value: &str) {
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
    quorum: usize,
    topics: Mutex<HashMap<String, Arc<Topic>>>,
}

impl Board {
    pub(crate) fn new(quorum: usize) -> Self {
        Self { quorum, topics: Mutex::default() }
    }

    pub(crate) fn topic(&self, resource: &str) -> Arc<Topic> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = topics.get(resource) {
            return Arc::clone(topic);
        }
        Arc::clone(topics.entry(resource.to_owned()).or_insert_with(|| Arc::new(Topic::new())))
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

    /// Takes in one notice, as `release.lua` writes it. What cannot be read is dropped.
    pub(crate) fn heard(&self, notice: &str, own_client: &str) {
        let mut parts = notice.splitn(4, '\n');
        let (Some(client), Some(resource), Some(token), Some(value)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return;
        };
        let Ok(token) = token.parse::<u64>() else {
            return;
        };
        // A resource that nobody here uses needs no memory.
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(topic) = topics.get(resource).cloned() else {
            return;
        };
        drop(topics);

        topic.saw_token(token);
        if client != own_client {
            *topic.contended_at.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(Instant::now());
        }
        if !value.is_empty() {
            topic.publish(token, value);
        }
        if topic.count_release(token) == self.quorum {
            topic.released.send_replace(token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_value_of_the_highest_token() {
        let board = Board::new(3);
        let topic = board.topic("stock:1");
        board.heard("other\nstock:1\n7\n42", "me");
        board.heard("other\nstock:1\n6\n50", "me");
        assert_eq!(
            *topic.published().borrow(),
            Published { token: 7, value: Some("42".to_owned()) }
        );
        assert_eq!(topic.highest_token(), 7);
        assert!(topic.contended_at().is_some());
    }

    #[test]
    fn wakes_waiters_once_when_a_majority_has_told() {
        let board = Board::new(2);
        let mut releases = board.topic("x").releases();
        board.heard("other\nx\n7\n", "me");
        assert!(!releases.has_changed().unwrap());
        board.heard("other\nx\n6\n", "me");
        assert!(!releases.has_changed().unwrap(), "an older one does not count");
        board.heard("other\nx\n7\n", "me");
        assert!(releases.has_changed().unwrap());
        releases.mark_unchanged();
        board.heard("other\nx\n7\n", "me");
        assert!(!releases.has_changed().unwrap());
    }

    #[test]
    fn ignores_what_it_cannot_read_and_resources_nobody_uses() {
        let board = Board::new(3);
        let topic = board.topic("stock:1");
        for notice in ["", "a\nb", "me\nstock:1\nx\n1", "me\nstock:2\n1\n1"] {
            board.heard(notice, "me");
        }
        assert_eq!(topic.highest_token(), 0);
        assert_eq!(board.topics.lock().unwrap().len(), 1);
    }
}
