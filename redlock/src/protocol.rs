//! The messages between a client and a node, as plain data.
//!
//! `scripts` encodes requests and decodes replies. This module imports nothing of the crate, so that
//! every other module can use its types.

use std::sync::Arc;
use std::time::Duration;

/// The highest value of a counter (`counters.lua`). Lua compares numbers exactly up to twice this.
pub(crate) const HIGHEST_COUNTER: u64 = 1 << 52;

/// Whether a script can compare this number exactly. Higher numbers never come from counting.
pub(crate) fn is_counter(number: u64) -> bool {
    number <= HIGHEST_COUNTER
}

/// How long a node keeps a silent slot in its queue, by the node's own clock. A waiting request is
/// granted for this long at most; the new holder extends that to its lease.
pub(crate) const SLOT_LIMIT: Duration = Duration::from_millis(500);
/// How long a node can grant a waiting request after the request arrived, by the node's own clock.
pub(crate) const REQUEST_LIMIT: Duration = Duration::from_millis(150);

/// A node's vote on a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vote {
    /// The node granted all resources.
    Granted,
    /// A lock is held, or another slot is first in fair order.
    Held {
        /// Milliseconds until what is in the way expires.
        wait_ms: u64,
    },
    /// A proposed token is not above the node's fence.
    Stale,
    /// The node knows a later membership.
    OldEpoch,
}

/// The lease that a request asks for or extends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeaseSpec<'a> {
    /// The epoch of the membership.
    pub(crate) epoch: u64,
    /// The owner's name on the nodes.
    pub(crate) owner: &'a str,
    /// How long the lease lasts.
    pub(crate) lease: Duration,
    /// [`crate::Config::longest_lease`].
    pub(crate) longest: Duration,
}

/// A waiter's entry in the queues of the nodes.
#[derive(Debug, Clone)]
pub(crate) struct QueueEntry {
    /// The name of the slot.
    pub(crate) slot: Arc<str>,
    /// The lowest rank is served first. In fair order it is the lowest ticket of the slot, otherwise it
    /// is negative.
    pub(crate) rank: f64,
    /// The tickets to issue, in fair order: a node grants nothing to the slot while a lower rank waits.
    pub(crate) tickets: Option<TicketRequest>,
}

/// A request for consecutive tickets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TicketRequest {
    /// The number of tickets.
    pub(crate) count: usize,
    /// The first ticket that the client proposes.
    pub(crate) first: u64,
}

impl TicketRequest {
    /// The last ticket, if `first` is the first one.
    pub(crate) fn last(self, first: u64) -> u64 {
        first + u64::try_from(self.count).unwrap_or(0) - 1
    }
}

/// The request on which the nodes vote in one round.
#[derive(Debug)]
pub(crate) struct VoteRequest {
    /// The epoch of the membership.
    pub(crate) epoch: u64,
    /// The owner's name, which no other round uses.
    pub(crate) owner: String,
    /// How long the lease lasts.
    pub(crate) lease: Duration,
    /// Each resource with the token that the client proposes for it.
    pub(crate) proposals: Vec<(String, u64)>,
    /// The queue entry that the request leaves on nodes that refuse it. A renewal leaves none.
    pub(crate) entry: QueueEntry,
    /// The owner's name of the lease that the request renews. A node then grants only the lock that it
    /// holds for this owner, and only if nobody waits for it.
    pub(crate) renews: Option<String>,
}

/// A node's reply to a [`VoteRequest`].
#[derive(Debug)]
pub(crate) struct VoteReply {
    /// The node's clock, in microseconds since the Unix epoch.
    pub(crate) micros: i64,
    /// The vote.
    pub(crate) vote: Vote,
    /// The node's fence of each resource.
    pub(crate) fences: Vec<u64>,
    /// The lowest ticket of another slot.
    pub(crate) next_ticket: Option<u64>,
    /// The first ticket that the node issued.
    pub(crate) first_ticket: Option<u64>,
}

/// One resource in a release.
#[derive(Debug, Clone)]
pub(crate) struct Handover {
    /// The name of the resource.
    pub(crate) resource: String,
    /// The token of the lease; the highest known token where there was no quorum.
    pub(crate) token: u64,
    /// The highest known token. The node grants the next waiter a higher one.
    pub(crate) highest: u64,
    /// The value that the holder leaves behind.
    pub(crate) value: Option<String>,
}

/// What a release says about the slot of the lease that ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct Departure {
    /// The name of the slot.
    pub(crate) slot: Arc<str>,
    /// The slot's place in the queue from now on.
    pub(crate) after: AfterRelease,
    /// The round had no quorum, so the node publishes no release.
    pub(crate) gives_up: bool,
    /// The slot's next request, in fair order.
    pub(crate) next_request: Option<Arc<VoteRequest>>,
}

/// A slot's place in the queue after a release.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum AfterRelease {
    /// The place does not change.
    #[default]
    Unchanged,
    /// The slot waits with this ticket, its lowest.
    WaitsWith(u64),
    /// No ticket waits. Tickets from this one on are being issued, so the slot stays in the queue unless
    /// its rank is lower.
    WaitsFrom(u64),
    /// The slot leaves the queue.
    Leaves,
}

/// The membership as the nodes store it. Absent on a node: as configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Membership {
    /// Rises with every change; 0: as configured. A node refuses votes of an earlier epoch.
    pub(crate) epoch: u64,
    /// `host:port` of each node.
    pub(crate) nodes: Vec<String>,
    /// `host:port` of each future node while the membership changes. Votes then need a majority of both
    /// sets.
    pub(crate) joining: Vec<String>,
}

impl Membership {
    /// Parses the stored form: addresses separated by spaces.
    pub(crate) fn new(epoch: u64, nodes: &str, joining: &str) -> Self {
        let list = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        Self { epoch, nodes: list(nodes), joining: list(joining) }
    }
}

/// A node's reply to a probe.
#[derive(Debug)]
pub(crate) struct Probe {
    /// The node's clock, in microseconds since the Unix epoch.
    pub(crate) micros: i64,
    /// The membership that the node stores.
    pub(crate) membership: Membership,
    /// The run id of the admitted process; empty: none.
    pub(crate) admitted: String,
    /// Why the node refuses writes; empty: it accepts them.
    pub(crate) refusal: String,
    /// The damaged ones among the node's own keys.
    pub(crate) damaged: Vec<String>,
}

/// A waiting request that a node granted when the previous holder released the resource.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LateGrant {
    /// The index of the node.
    pub(crate) node: usize,
    /// The token that the node granted.
    pub(crate) token: u64,
    /// The lowest ticket of another slot.
    pub(crate) next_ticket: Option<u64>,
    /// The node's clock, in microseconds since the Unix epoch.
    pub(crate) micros: i64,
}
