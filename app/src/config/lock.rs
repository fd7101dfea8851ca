//! The Redis nodes and the lock on them.

use std::path::PathBuf;
use std::time::Duration;

use ::sale::{LockConfig, bounds};
use clap::{ArgAction, Args};
use redlock::{NodeConfig, Policy, QueueDiscipline};

use super::error::ConfigError;
use super::values::{seconds, value};

/// Settings of [`LockConfig`].
// No `Debug`: it holds secrets.
#[derive(Args)]
#[command(next_help_heading = "Redis and the lock")]
pub struct LockArgs {
    /// `host:port` of each Redis node, separated by commas.
    #[arg(long, env = "REDIS_NODES")]
    redis_nodes: String,
    /// Password of every Redis node.
    #[arg(long, env = "REDIS_PASSWORD", hide_env_values = true)]
    redis_password: Option<String>,
    /// PEM file with the certificates of the authorities that issue the certificates of the Redis nodes. With it, all
    /// connections to them use TLS. It is read again for each connection. Default: none, plain text.
    #[arg(long, env = "REDIS_CA_FILE")]
    redis_ca_file: Option<PathBuf>,
    /// `true`: a quorum of all nodes grants the lock. `false`: the first node alone does.
    #[arg(
        long,
        env = "USE_REDLOCK",
        action = ArgAction::Set,
        default_value = "true",
        value_parser = value::<bool>("true or false")
    )]
    use_redlock: bool,
    /// Lease time of the lock in seconds: more than twice `LOCK_NODE_TIMEOUT_SECONDS`.
    #[arg(
        long,
        env = "LOCK_TIMEOUT_SECONDS",
        default_value = "5",
        value_parser = seconds(bounds::LEASE_TIME)
    )]
    lock_timeout_seconds: Duration,
    /// Longest lease time of any product in seconds, the same for all replicas. A Redis node that restarted
    /// does not vote for this long. Default: `LOCK_TIMEOUT_SECONDS`.
    #[arg(
        long,
        env = "LOCK_LONGEST_LEASE_SECONDS",
        value_parser = seconds(bounds::LEASE_TIME)
    )]
    lock_longest_lease_seconds: Option<Duration>,
    /// Maximum time that a purchase waits for the lock, in seconds.
    #[arg(
        long,
        env = "LOCK_WAIT_SECONDS",
        default_value = "2",
        value_parser = seconds(bounds::WAIT_TIMEOUT)
    )]
    lock_wait_seconds: Duration,
    /// Maximum time for the reply of one Redis node, in seconds.
    #[arg(
        long,
        env = "LOCK_NODE_TIMEOUT_SECONDS",
        default_value = "0.05",
        value_parser = seconds(bounds::NODE_TIMEOUT)
    )]
    lock_node_timeout_seconds: Duration,
    /// Order in which waiting purchases get the lock. `Fair`: first come, first served, across all replicas.
    /// `Unordered`: no order.
    #[arg(
        long,
        env = "LOCK_ORDER",
        default_value = "Unordered",
        value_parser = value::<QueueDiscipline>("Fair or Unordered")
    )]
    lock_order: QueueDiscipline,
}

impl TryFrom<LockArgs> for LockConfig {
    type Error = ConfigError;

    fn try_from(args: LockArgs) -> Result<Self, ConfigError> {
        let (lease_time, node_timeout) =
            (args.lock_timeout_seconds, args.lock_node_timeout_seconds);
        if lease_time <= node_timeout * bounds::NODE_TIMEOUTS_PER_LEASE {
            let problem = "must be more than twice LOCK_NODE_TIMEOUT_SECONDS";
            return Err(ConfigError::new("LOCK_TIMEOUT_SECONDS", problem));
        }
        let longest_lease = args.lock_longest_lease_seconds.unwrap_or(lease_time);
        if longest_lease < lease_time {
            let problem = "must not be less than LOCK_TIMEOUT_SECONDS";
            return Err(ConfigError::new("LOCK_LONGEST_LEASE_SECONDS", problem));
        }
        let policy = Policy {
            wait_timeout: args.lock_wait_seconds,
            lease_time,
            discipline: args.lock_order,
        };
        let nodes = redlock::Config {
            node_timeout,
            longest_lease,
            ca_file: args.redis_ca_file.clone(),
            ..redlock::Config::new(nodes(&args)?)
        };
        Ok(Self { nodes, policy })
    }
}

fn nodes(args: &LockArgs) -> Result<Vec<NodeConfig>, ConfigError> {
    let addresses = args.redis_nodes.split(',').map(str::trim).filter(|it| !it.is_empty());
    let mut nodes: Vec<NodeConfig> = addresses
        .map(|it| NodeConfig { address: it.to_owned(), password: args.redis_password.clone() })
        .collect();
    if !args.use_redlock {
        nodes.truncate(1);
    }
    if nodes.is_empty() {
        return Err(ConfigError::new("REDIS_NODES", "names no node"));
    }
    Ok(nodes)
}
