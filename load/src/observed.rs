//! What a run saw, as plain data: the input of the verdict. Knows no network.

use std::collections::BTreeMap;
use std::time::Duration;

/// An order, as an answer 201 or the database tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its id
    pub id: String,
    /// The subject of the buyer's token
    pub buyer: String,
    /// Units
    pub quantity: i64,
}

/// How a user's attempts ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Answer 201
    Sold(Order),
    /// `sold_out` or `limit_reached`: no use in trying again
    Declined(String),
    /// No final answer; the last reason
    Unanswered(String),
}

/// One user's purchase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purchase {
    /// The subject of the user's token
    pub buyer: String,
    /// How it ended
    pub outcome: Outcome,
    /// Tries whose answer was lost (timeout, connection, 5xx)
    pub lost_answers: u32,
}

/// Times to answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latency {
    /// Requests, answered or not
    pub requests: u32,
    /// Half of them took at most this
    pub p50: Duration,
    /// Mean
    pub average: Duration,
    /// 99 % took at most this
    pub p99: Duration,
    /// The longest
    pub max: Duration,
}

/// What the replicas' metrics say of the lock during the run, all replicas together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Locks {
    /// Median wait for the lock in seconds, interpolated
    pub wait_p50: Option<f64>,
    /// 99th percentile of the wait in seconds, interpolated
    pub wait_p99: Option<f64>,
    /// Lock attempts on single nodes, by node
    pub nodes: BTreeMap<String, NodeAttempts>,
    /// Share of acquisitions that reached a quorum, 0 to 1; nothing when there were none
    pub quorum_success: Option<f64>,
}

/// Lock attempts on one node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NodeAttempts {
    /// Mean, in seconds
    pub average: f64,
    /// 99th percentile in seconds, interpolated
    pub p99: f64,
}

/// The stock a Redis node shows, or why it could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStock {
    /// `host:port`
    pub node: String,
    /// `GET stock:<product>`
    pub stock: Result<i64, String>,
}

/// What the database holds of the product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Books {
    /// Units left
    pub available: i64,
    /// All orders
    pub orders: Vec<Order>,
}

/// Everything.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// One a user
    pub purchases: Vec<Purchase>,
    /// How often each answer came, by code; `sold` is 201
    pub answers: BTreeMap<String, u32>,
    /// From the start of all users to the last answer
    pub elapsed: Duration,
    /// Of every request
    pub latency: Latency,
    /// Or why the metrics could not be read
    pub locks: Result<Locks, String>,
    /// In the order of `REDIS_NODES`
    pub nodes: Vec<NodeStock>,
    /// Or why the database could not be read
    pub books: Result<Books, String>,
}

impl Observed {
    /// Whether database and nodes show the same stock: what a straggling release may delay.
    #[must_use]
    pub fn stores_agree(&self) -> bool {
        let Ok(books) = &self.books else { return false };
        self.nodes.iter().all(|node| node.stock == Ok(books.available))
    }
}
