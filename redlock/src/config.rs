//! What a caller chooses: the nodes, and the policy of one acquisition.

use std::time::Duration;

use crate::AcquireError;

/// Redis reckons in milliseconds. One that is not well above 2 ms and the time of a round trip is over
/// before it is won.
pub const SHORTEST_LEASE: Duration = Duration::from_millis(1);

/// One Redis node.
#[derive(Clone)]
pub struct NodeConfig {
    /// `host:port`, or `redis://[:password@]host:port[/db]`.
    pub address: String,
    /// Overrides the password in the address.
    pub password: Option<String>,
}

impl std::fmt::Debug for NodeConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither field: the address may carry a password too.
        f.debug_struct("NodeConfig").finish_non_exhaustive()
    }
}

/// The nodes and how to speak with them.
#[derive(Debug, Clone)]
pub struct Config {
    /// The independent nodes; a quorum is more than half of them.
    pub nodes: Vec<NodeConfig>,
    /// How long one node may take to answer; a node that is slower has no vote in that round.
    pub node_timeout: Duration,
    /// No lease is longer. For so long a node does not vote that restarted, or whose clock jumped:
    /// all clients must have the same.
    pub longest_lease: Duration,
    /// Protections that a test has turned off.
    #[cfg(feature = "ablation")]
    pub ablation: Ablation,
}

/// Turns protections off, for tests that show what they are for.
#[cfg(feature = "ablation")]
#[derive(Debug, Clone, Copy, Default)]
pub struct Ablation {
    /// A node that restarted votes at once.
    pub quarantine_is_off: bool,
    /// A release frees a lock whoever its owner is.
    pub owner_check_is_off: bool,
}

impl Config {
    /// These nodes, 50 ms for each to answer, and leases of up to 10 s.
    #[must_use]
    pub fn new(nodes: Vec<NodeConfig>) -> Self {
        Self {
            nodes,
            node_timeout: Duration::from_millis(50),
            longest_lease: Duration::from_secs(10),
            #[cfg(feature = "ablation")]
            ablation: Ablation::default(),
        }
    }

    /// Whether a lock can ever be acquired so; the nodes are checked when they are read.
    pub(crate) fn check(&self) -> Result<(), AcquireError> {
        if self.node_timeout.is_zero() {
            return Err(AcquireError::BadConfig { field: "node_timeout", rule: "must not be 0" });
        }
        if self.longest_lease < SHORTEST_LEASE {
            let rule = "must be at least 1 ms";
            return Err(AcquireError::BadConfig { field: "longest_lease", rule });
        }
        Ok(())
    }
}

/// Who comes first among those who wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// Whoever gets a majority of the nodes.
    #[default]
    Unordered,
    /// Whoever asked first, over all clients.
    Fair,
}

impl std::str::FromStr for Order {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "Unordered" => Ok(Self::Unordered),
            "Fair" => Ok(Self::Fair),
            _ => Err("expected Fair or Unordered"),
        }
    }
}

/// How one acquisition behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How long a caller waits for the lock before it is told so; at most a year.
    pub wait_timeout: Duration,
    /// How long a node keeps the lock for a holder that says nothing more: from [`SHORTEST_LEASE`] to
    /// [`Config::longest_lease`], and at most a year.
    pub lease_time: Duration,
    /// Who comes first.
    pub order: Order,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            wait_timeout: Duration::from_secs(2),
            lease_time: Duration::from_secs(5),
            order: Order::Unordered,
        }
    }
}
