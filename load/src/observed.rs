//! The observations of a run as plain data: the input of the verdict. No network access.

pub mod tally;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use load_report::{Buckets, Series};

/// States of orders whose units are not the buyer's.
pub const GIVEN_BACK: [&str; 4] = ["cancelled", "payment_failed", "expired", "refund_required"];

/// The reason of a user whom a defect of the load tool ended.
const PANICKED: &str = "panicked";

/// An order, from a response or from the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its id
    pub id: String,
    /// The subject of the buyer's token
    pub buyer: String,
    /// Units of each product
    pub quantity: i64,
    /// `pending`, `confirmed`, `paid`, `cancelled`, `payment_failed`, `expired` or `refund_required`; `issued` for a
    /// coupon
    pub state: String,
}

impl Order {
    /// Whether its units are sold, and not on sale again.
    #[must_use]
    pub fn holds_units(&self) -> bool {
        !GIVEN_BACK.contains(&self.state.as_str())
    }
}

/// How a user's attempts ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// 201 response
    Sold(Order),
    /// Final refusal: `sold_out`, `limit_reached` or `coupon_exhausted`
    Declined(String),
    /// No final answer; the last reason
    Unanswered(String),
}

/// One user's purchase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purchase {
    /// The subject of the user's token
    pub buyer: String,
    /// How it ended
    pub outcome: Outcome,
    /// Attempts whose answer was lost (timeout, connection, 5xx)
    pub lost_answers: u32,
}

/// All purchases of a run, or of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purchases {
    /// How many users there were
    pub users: u32,
    /// Orders that were answered, with the numbers of the users
    pub sold: Vec<(u32, Order)>,
    /// Users without an order, by the last reason
    pub failed: BTreeMap<String, u32>,
    /// Users without a final answer
    pub unanswered: u32,
    /// Of them: the names of those who may have an order that they don't know of, because an answer was lost
    pub in_doubt: Vec<String>,
    /// Attempts whose answer was lost
    pub lost_answers: u32,
}

impl Purchases {
    /// Adds the purchase of the user of this number.
    pub fn add(&mut self, user: u32, purchase: Purchase) {
        let Purchase { buyer, outcome, lost_answers } = purchase;
        self.users += 1;
        self.lost_answers += lost_answers;
        match outcome {
            Outcome::Sold(order) => self.sold.push((user, order)),
            Outcome::Declined(code) => *self.failed.entry(code).or_default() += 1,
            Outcome::Unanswered(code) => {
                *self.failed.entry(code).or_default() += 1;
                self.unanswered += 1;
                if lost_answers > 0 {
                    self.in_doubt.push(buyer);
                }
            }
        }
    }

    /// Adds a user of whom nothing is known, because the load tool itself failed.
    pub fn add_lost(&mut self) {
        self.users += 1;
        self.unanswered += 1;
        *self.failed.entry(PANICKED.to_owned()).or_default() += 1;
    }

    /// Adds those of another pod.
    pub fn merge(&mut self, other: Self) {
        self.users += other.users;
        self.sold.extend(other.sold);
        for (code, users) in other.failed {
            *self.failed.entry(code).or_default() += users;
        }
        self.unanswered += other.unanswered;
        self.in_doubt.extend(other.in_doubt);
        self.lost_answers += other.lost_answers;
    }

    /// Users who got nothing although one with a higher number did. All numbers from 0 on must be there.
    #[must_use]
    pub fn overtaken(&self) -> u32 {
        let winners = u32::try_from(self.sold.len()).unwrap_or(u32::MAX);
        let last = self.sold.iter().map(|(user, _)| *user).max();
        last.map_or(0, |last| (last + 1).saturating_sub(winners))
    }
}

/// Response times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latency {
    /// Requests, answered or not
    pub requests: u32,
    /// Median
    pub p50: Duration,
    /// Mean
    pub average: Duration,
    /// 99th percentile
    pub p99: Duration,
    /// Maximum
    pub max: Duration,
}

/// What the response times consist of, apart from waits for a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LatencyParts {
    /// What the look-up of the API's names took, once before the run
    pub lookup: Duration,
    /// TCP connects
    pub tcp: Latency,
    /// TLS handshakes
    pub tls: Latency,
    /// From an open connection to the whole answer
    pub answer: Latency,
}

/// The lock's metrics during the run, summed over all replicas.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LockMetrics {
    /// Median wait for the lock in seconds, interpolated
    pub wait_p50: Option<f64>,
    /// 99th percentile of the wait in seconds, interpolated
    pub wait_p99: Option<f64>,
    /// Lock attempts on single nodes, by node
    pub nodes: BTreeMap<String, NodeAttempts>,
    /// Share of acquisitions that reached a quorum, 0 to 1; absent without acquisitions
    pub quorum_success: Option<f64>,
    /// All waits for the lock
    pub waits: Buckets,
    /// All lock attempts on single nodes, by node
    pub node_attempts: BTreeMap<String, Buckets>,
}

/// Lock attempts on one node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NodeAttempts {
    /// Mean, in seconds
    pub average: f64,
    /// 99th percentile in seconds, interpolated
    pub p99: f64,
}

/// The stock value of a Redis node, or the error of reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStock {
    /// `host:port`
    pub node: String,
    /// `GET stock:<product>`
    pub stock: Result<i64, String>,
}

/// The product in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseState {
    /// Units ever put on sale
    pub declared: i64,
    /// Units left
    pub available: i64,
    /// Orders that the run made
    pub orders: Vec<Order>,
    /// Other orders that came or went during the run; absent: they are the same as before
    pub foreign: Option<Foreign>,
    /// Units that orders of before the run gave back during it; negative if they took some again, by a late payment
    pub given_back: i64,
}

/// What came and went without the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foreign {
    /// More orders than before
    pub orders: i64,
    /// More units of them, sold and not given back
    pub units: i64,
}

/// Another product of the same orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherProduct {
    /// Its id
    pub id: String,
    /// Units left at the start
    pub stock_before: i64,
    /// In the order of `REDIS_NODES`
    pub nodes: Vec<NodeStock>,
    /// The database, or the error of reading it
    pub database: Result<DatabaseState, String>,
}

/// Units that were added during the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restocked {
    /// By the answers
    pub answered: i64,
    /// By the database
    pub recorded: i64,
}

/// How the result of a new token begins that was refused.
pub(crate) const REFUSED: &str = "refused: ";

/// Answers over time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timeline {
    /// Number of answers by code, for each second of the run
    pub seconds: Vec<BTreeMap<String, u32>>,
    /// The longest time without a successful purchase while users came
    pub longest_pause: Duration,
}

/// All observations of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// Units left at the start
    pub stock_before: i64,
    /// How the purchases ended
    pub purchases: Purchases,
    /// Number of answers by code; `sold` is 201
    pub answers: BTreeMap<String, u32>,
    /// The same answers over time
    pub timeline: Timeline,
    /// The same answers and their times, for plots
    pub series: Series,
    /// New tokens by the result of their first use; `ok` is accepted
    pub new_tokens: BTreeMap<String, u32>,
    /// Time from the start of the first user to the last answer
    pub elapsed: Duration,
    /// Response times of all requests
    pub latency: Latency,
    /// What they consist of
    pub parts: LatencyParts,
    /// The lock's metrics, or the error of reading them
    pub locks: Result<LockMetrics, String>,
    /// In the order of `REDIS_NODES`
    pub nodes: Vec<NodeStock>,
    /// The database, or the error of reading it
    pub database: Result<DatabaseState, String>,
    /// What the same orders took as well
    pub others: Vec<OtherProduct>,
    /// Units added by administrators
    pub restocked: Restocked,
    /// Redis nodes that were restarted during the run, or are away
    pub stopped_nodes: Vec<String>,
    /// Users whose ticket was not seen before the next one started
    pub unseen_tickets: usize,
    /// Pods, and the longest time from the order to start until one of them had started; absent without others
    pub pods: Option<(u32, Duration)>,
}

impl Observed {
    /// Whether the database and all nodes have the same stock. A late release may delay that.
    #[must_use]
    pub fn stock_agrees(&self) -> bool {
        agrees(&self.nodes, &self.database)
            && self.others.iter().all(|other| agrees(&other.nodes, &other.database))
    }
}

fn agrees(nodes: &[NodeStock], database: &Result<DatabaseState, String>) -> bool {
    let Ok(database) = database else { return false };
    nodes.iter().all(|node| node.stock == Ok(database.available))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_before_the_last_winner_are_overtaken() {
        let order = |user: u32| {
            let (id, buyer, state) = (user.to_string(), user.to_string(), "paid".to_owned());
            (user, Order { id, buyer, quantity: 1, state })
        };
        let overtaken = |winners: &[u32]| {
            let sold = winners.iter().copied().map(order).collect();
            Purchases { sold, ..Purchases::default() }.overtaken()
        };
        assert_eq!([overtaken(&[]), overtaken(&[1, 0]), overtaken(&[0, 4, 2])], [0, 0, 2]);
    }
}
