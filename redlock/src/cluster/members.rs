//! The nodes at one epoch: one set, or two while the membership changes.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::DropGuard;

use crate::node::Node;
use crate::protocol::Membership;

/// A node and its monitor, which stops with it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) node: Arc<Node>,
    pub(crate) _monitor: DropGuard,
}

impl Deref for Member {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

/// The nodes at one epoch.
#[derive(Debug)]
pub(crate) struct Members {
    pub(crate) membership: Membership,
    /// When this client learned of the epoch.
    pub(crate) since: Instant,
    /// Every node once, future nodes last.
    pub(crate) nodes: Vec<Arc<Member>>,
    /// Positions in `nodes`: the present set and, while the membership changes, the future set.
    pub(crate) sets: Vec<Vec<usize>>,
}

impl Members {
    /// The majority of a set.
    pub(crate) fn quorum(set: &[usize]) -> usize {
        set.len() / 2 + 1
    }

    /// The larger majority of the two sets.
    pub(crate) fn largest_quorum(&self) -> usize {
        self.sets.iter().map(|set| Self::quorum(set)).max().unwrap_or(1)
    }

    /// The number of nodes of the present set that may vote now, and of all nodes of that set.
    pub(crate) fn voting(&self) -> (usize, usize) {
        let present = self.sets.first().map(Vec::as_slice).unwrap_or_default();
        let votes = |position: &&usize| self.nodes.get(**position).is_some_and(|node| node.votes());
        (present.iter().filter(votes).count(), present.len())
    }

    /// Whether a majority of each set satisfies the condition.
    pub(crate) fn majority_of_each(&self, condition: impl Fn(&Node) -> bool) -> bool {
        Self::majority(&self.sets, |position| {
            self.nodes.get(position).is_some_and(|member| condition(member))
        })
    }

    /// Whether a majority of the positions in each of these sets satisfies the condition.
    pub(crate) fn majority(sets: &[Vec<usize>], condition: impl Fn(usize) -> bool) -> bool {
        let count = |set: &Vec<usize>| set.iter().filter(|position| condition(**position)).count();
        sets.iter().all(|set| count(set) >= Self::quorum(set))
    }
}
