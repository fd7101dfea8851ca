//! What a caller configures: the nodes, and the policy of an acquisition.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::AcquireError;

/// The shortest lease. Redis expires locks in milliseconds. A useful lease is far longer than 2 ms plus a
/// round trip; a shorter one expires before it is won.
pub const SHORTEST_LEASE: Duration = Duration::from_millis(1);

/// One Redis node.
#[derive(Clone)]
pub struct NodeConfig {
    /// `host:port`, or `redis://[:password@]host:port[/db]`; `rediss://` for TLS.
    pub address: String,
    /// Overrides the password in the address.
    pub password: Option<String>,
}

impl std::fmt::Debug for NodeConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither field: the address may contain a password too.
        f.debug_struct("NodeConfig").finish_non_exhaustive()
    }
}

/// The nodes and the times that all locks share.
///
/// ```
/// use std::time::Duration;
///
/// use redlock::{AcquireError, Config, NodeConfig, Redlock};
///
/// let password = Some("secret".to_owned());
/// let node = |host: &str| NodeConfig { address: format!("{host}:6379"), password: password.clone() };
/// let config = Config {
///     // The same in all clients.
///     longest_lease: Duration::from_secs(30),
///     // All connections use TLS.
///     ca_file: Some("/etc/redis/ca.crt".into()),
///     ..Config::new(["redis-0", "redis-1", "redis-2"].map(node).into())
/// };
/// assert_eq!(config.node_timeout, Duration::from_millis(50));
///
/// let none = Config { nodes: Vec::new(), ..config };
/// assert_eq!(Redlock::start(&none).unwrap_err(), AcquireError::NoNodes);
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    /// The independent nodes; a quorum is more than half of them.
    pub nodes: Vec<NodeConfig>,
    /// How long a node may take to answer. A slower node has no vote in that round.
    pub node_timeout: Duration,
    /// The upper limit of all leases. A node that restarted or whose clock jumped has no vote for this
    /// long. All clients must use the same value.
    pub longest_lease: Duration,
    /// A [`Combiner`](crate::Combiner) renews the lease of a batch for the next one if the votes on it took at
    /// least this long. A shorter round trip costs less than the smaller batches that follow without a pause.
    pub renew_from: Duration,
    /// A PEM file with the certificates of the authorities that issue the nodes' certificates. With it, all connections
    /// use TLS. It is read for each connection.
    pub ca_file: Option<PathBuf>,
    /// The protections that a test turned off.
    #[cfg(feature = "ablation")]
    pub ablation: Ablation,
}

/// Turns protections off, for tests that show their purpose.
#[cfg(feature = "ablation")]
#[derive(Debug, Clone, Copy, Default)]
pub struct Ablation {
    /// A node that restarted votes at once.
    pub quarantine_is_off: bool,
    /// A release frees a lock of any owner.
    pub owner_check_is_off: bool,
}

impl Config {
    /// These nodes, a node time-out of 50 ms, leases of up to 10 s, and renewals from a round trip of half a
    /// millisecond.
    #[must_use]
    pub fn new(nodes: Vec<NodeConfig>) -> Self {
        Self {
            nodes,
            node_timeout: Duration::from_millis(50),
            longest_lease: Duration::from_secs(10),
            renew_from: Duration::from_micros(500),
            ca_file: None,
            #[cfg(feature = "ablation")]
            ablation: Ablation::default(),
        }
    }

    /// Checks the times. The addresses are checked where they are parsed.
    pub(crate) fn validate(&self) -> Result<(), AcquireError> {
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

/// The order in which waiting callers get a lock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum QueueDiscipline {
    /// The caller that wins a majority of the nodes first. This takes the fewest messages.
    #[default]
    Unordered,
    /// First come, first served, over all clients.
    Fair,
}

impl std::str::FromStr for QueueDiscipline {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "Unordered" => Ok(Self::Unordered),
            "Fair" => Ok(Self::Fair),
            _ => Err("expected Fair or Unordered"),
        }
    }
}

/// How a lock is acquired.
///
/// ```
/// use std::time::Duration;
///
/// use redlock::{Policy, QueueDiscipline};
///
/// let policy = Policy {
///     wait_timeout: Duration::from_millis(500),
///     discipline: QueueDiscipline::Fair,
///     ..Policy::default()
/// };
/// assert_eq!(policy.lease_time, Duration::from_secs(5));
/// assert_eq!("Fair".parse::<QueueDiscipline>(), Ok(policy.discipline));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How long a caller waits for the lock; at most a year.
    pub wait_timeout: Duration,
    /// How long the nodes keep the lock unless the holder extends it: from [`SHORTEST_LEASE`] to
    /// [`Config::longest_lease`], and at most a year.
    pub lease_time: Duration,
    /// The order in which waiting callers get the lock.
    pub discipline: QueueDiscipline,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            wait_timeout: Duration::from_secs(2),
            lease_time: Duration::from_secs(5),
            discipline: QueueDiscipline::Unordered,
        }
    }
}
