//! The settings of the sale itself and of its lock.

use std::time::Duration;

use ::sale::bounds;
use ::sale::{LockConfig, SaleConfig, SaleWindow, StoresConfig, Strategy};
use redlock::{NodeConfig, Policy};

use super::source::{ConfigError, Source};
use super::values::{moment, optional, required, seconds, time, wrong};

pub(super) fn read_sale(source: &impl Source, name: &str) -> Result<SaleConfig, ConfigError> {
    let lock = read_lock(source)?;
    Ok(SaleConfig {
        name: name.to_owned(),
        window: read_window(source)?,
        strategy: read_strategy(source, &lock)?,
        stores: StoresConfig {
            compare_every: time(source, "COMPARE_SECONDS", Duration::from_mins(1))?,
            load_every: time(source, "LOAD_SECONDS", Duration::from_mins(5))?,
        },
        lock,
    })
}

fn read_window(source: &impl Source) -> Result<SaleWindow, ConfigError> {
    let window = SaleWindow {
        starts_at: moment(source, "SALE_STARTS_AT")?,
        ends_at: moment(source, "SALE_ENDS_AT")?,
    };
    if window.starts_at.zip(window.ends_at).is_some_and(|(starts, ends)| ends <= starts) {
        return Err(wrong("SALE_ENDS_AT", "must be after SALE_STARTS_AT"));
    }
    Ok(window)
}

fn read_strategy(source: &impl Source, lock: &LockConfig) -> Result<Strategy, ConfigError> {
    let strategy = optional(source, "STRATEGY", "Locked or Atomic")?.unwrap_or_default();
    if strategy == Strategy::Atomic && lock.nodes.nodes.len() != 1 {
        let problem = "Atomic needs one node that decides: name one in REDIS_NODES";
        return Err(wrong("STRATEGY", problem));
    }
    Ok(strategy)
}

pub(super) fn read_lock(source: &impl Source) -> Result<LockConfig, ConfigError> {
    let password = source.get("REDIS_PASSWORD");
    let mut nodes: Vec<NodeConfig> =
        required(source, "REDIS_NODES", "host:port of each node, separated by commas")?
            .split(',')
            .map(str::trim)
            .filter(|address| !address.is_empty())
            .map(|address| NodeConfig { address: address.to_owned(), password: password.clone() })
            .collect();
    if !optional(source, "USE_REDLOCK", "true or false")?.unwrap_or(true) {
        nodes.truncate(1);
    }
    if nodes.is_empty() {
        return Err(wrong("REDIS_NODES", "names no node"));
    }
    let default = Policy::default();
    let lease = |name, default| seconds(source, name, default, bounds::LEASE_TIME);
    let policy = Policy {
        wait_timeout: seconds(
            source,
            "LOCK_WAIT_SECONDS",
            default.wait_timeout,
            bounds::WAIT_TIMEOUT,
        )?,
        lease_time: lease("LOCK_TIMEOUT_SECONDS", default.lease_time)?,
        discipline: optional(source, "LOCK_ORDER", "Fair or Unordered")?
            .unwrap_or(default.discipline),
    };
    let node_timeout = seconds(
        source,
        "LOCK_NODE_TIMEOUT_SECONDS",
        Duration::from_millis(50),
        bounds::NODE_TIMEOUT,
    )?;
    if policy.lease_time <= node_timeout * bounds::NODE_TIMEOUTS_PER_LEASE {
        let problem = "must be more than twice LOCK_NODE_TIMEOUT_SECONDS";
        return Err(wrong("LOCK_TIMEOUT_SECONDS", problem));
    }
    let longest_lease = lease("LOCK_LONGEST_LEASE_SECONDS", policy.lease_time)?;
    if longest_lease < policy.lease_time {
        let problem = "must not be less than LOCK_TIMEOUT_SECONDS";
        return Err(wrong("LOCK_LONGEST_LEASE_SECONDS", problem));
    }
    let config = redlock::Config { node_timeout, longest_lease, ..redlock::Config::new(nodes) };
    Ok(LockConfig { nodes: config, policy })
}
