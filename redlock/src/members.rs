//! Which nodes there are: one set, or two while the membership changes.

use std::ops::Deref;
use std::sync::Arc;

use redis::{FromRedisValue, ParsingError, Value};
use tokio_util::sync::DropGuard;

use crate::node::Node;

/// The membership as the nodes keep it, under [`crate::script::MEMBERS`]. Absent: as configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Membership {
    /// Rises with every change; 0: as configured. A node refuses votes of an earlier one.
    pub(crate) epoch: u64,
    /// `host:port` of each node.
    pub(crate) nodes: Vec<String>,
    /// While the membership changes: the nodes to come. A majority of both sets is needed then.
    pub(crate) joining: Vec<String>,
}

impl Membership {
    /// As the nodes keep it: addresses with spaces in between.
    pub(crate) fn new(epoch: u64, nodes: &str, joining: &str) -> Self {
        let list = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        Self { epoch, nodes: list(nodes), joining: list(joining) }
    }
}

impl FromRedisValue for Membership {
    /// Reads what `HMGET epoch nodes joining` answers.
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (epoch, nodes, joining): (Option<u64>, Option<String>, Option<String>) =
            redis::from_redis_value(value)?;
        let text = Option::unwrap_or_default;
        Ok(Self::new(epoch.unwrap_or(0), &text(nodes), &text(joining)))
    }
}

/// A node and its keeper, which ends with it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) node: Arc<Node>,
    pub(crate) _keeper: DropGuard,
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
    /// Each node once, those to come last.
    pub(crate) nodes: Vec<Arc<Member>>,
    /// Positions in `nodes`: the present set, and while the membership changes the set to come.
    pub(crate) sets: Vec<Vec<usize>>,
}

impl Members {
    /// The majority of a set.
    pub(crate) fn quorum(set: &[usize]) -> usize {
        set.len() / 2 + 1
    }

    pub(crate) fn largest_quorum(&self) -> usize {
        self.sets.iter().map(|set| Self::quorum(set)).max().unwrap_or(1)
    }

    /// How many of the present set's nodes may vote now, and how many there are.
    pub(crate) fn voting(&self) -> (usize, usize) {
        let present = self.sets.first().map(Vec::as_slice).unwrap_or_default();
        let votes = |position: &&usize| self.nodes.get(**position).is_some_and(|node| node.votes());
        (present.iter().filter(votes).count(), present.len())
    }

    /// Whether of each set a majority is so.
    pub(crate) fn majority_of_each(&self, so: impl Fn(&Node) -> bool) -> bool {
        Self::majority(&self.sets, |position| self.nodes.get(position).is_some_and(|node| so(node)))
    }

    /// Whether of each of these sets a majority of the positions is so.
    pub(crate) fn majority(sets: &[Vec<usize>], so: impl Fn(usize) -> bool) -> bool {
        let count = |set: &Vec<usize>| set.iter().filter(|position| so(**position)).count();
        sets.iter().all(|set| count(set) >= Self::quorum(set))
    }
}
