//! What the tests share: nodes, clients, policies.
#![allow(clippy::allow_attributes, dead_code, reason = "each test file uses its part of this")]

use std::time::{Duration, Instant};

use redlock::{Config, NodeConfig, Order, Policy, Redlock};
use testkit::RedisServer;

pub fn config(nodes: &[RedisServer]) -> Config {
    let node = |server: &RedisServer| NodeConfig { address: server.address(), password: None };
    Config { nodes: nodes.iter().map(node).collect(), node_timeout: Duration::from_millis(200) }
}

/// A client that is connected to all nodes that run.
pub async fn client(nodes: &[RedisServer]) -> Redlock {
    let redlock = Redlock::start(&config(nodes)).unwrap();
    until("all nodes are connected", || redlock.connected().0 == nodes.len()).await;
    redlock
}

pub fn policy(wait: Duration, lease: Duration) -> Policy {
    Policy { wait_timeout: wait, lease_time: lease, order: Order::Unordered }
}

pub fn patient() -> Policy {
    policy(Duration::from_secs(20), Duration::from_secs(10))
}

/// Waits until something is so; the deadline is generous because it only bounds a failure.
pub async fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// How many nodes have this value under the key.
pub fn nodes_with(nodes: &[RedisServer], key: &str, value: Option<&str>) -> usize {
    nodes.iter().filter(|node| node.get(key).unwrap().as_deref() == value).count()
}
