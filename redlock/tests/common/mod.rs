//! Shared by the tests: nodes, clients, policies.
#![allow(clippy::allow_attributes, dead_code, reason = "each test file uses a part of this")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use redlock::{Config, Exclusion, NodeConfig, Observer, Policy, QueueDiscipline, Redlock};
use testkit::RedisServer;

pub fn config(nodes: &[RedisServer]) -> Config {
    let mut config = Config::new(nodes.iter().map(node).collect());
    config.node_timeout = Duration::from_millis(200);
    config.longest_lease = LEASE;
    // From any distance.
    config.renew_from = Duration::ZERO;
    config
}

pub fn node(server: &RedisServer) -> NodeConfig {
    NodeConfig { address: server.address(), password: None }
}

/// Longer than any step of a test that holds the lock.
pub const LEASE: Duration = Duration::from_secs(2);

/// A client that is connected to all nodes.
pub async fn client(nodes: &[RedisServer]) -> Redlock {
    connected(&config(nodes)).await
}

/// A client for leases that outlast every test, so that only a release ends them.
pub async fn client_with_long_leases(nodes: &[RedisServer]) -> Redlock {
    connected(&Config { longest_lease: Duration::from_mins(5), ..config(nodes) }).await
}

/// A client whose nodes answer in time even on a busy machine, for tests that count calls or lock a lot.
pub async fn client_without_timeouts(nodes: &[RedisServer]) -> Redlock {
    let (node_timeout, longest_lease) = (Duration::from_secs(20), Duration::from_mins(5));
    connected(&Config { node_timeout, longest_lease, ..config(nodes) }).await
}

pub async fn connected(config: &Config) -> Redlock {
    let redlock = Redlock::start(config).unwrap();
    let nodes = &config.nodes;
    until("all nodes are connected", || redlock.connected().0 == nodes.len()).await;
    redlock
}

/// Records which nodes were excluded from votes, and why.
#[derive(Debug, Default)]
pub struct Exclusions(Mutex<Vec<(usize, Exclusion)>>);

impl Observer for Exclusions {
    fn node_excluded(&self, node: usize, why: Exclusion) {
        self.0.lock().unwrap().push((node, why));
    }
}

impl Exclusions {
    /// How often this node was excluded for this reason.
    pub fn count(&self, node: usize, why: &str) -> usize {
        let exclusions = self.0.lock().unwrap();
        exclusions.iter().filter(|(of, is)| *of == node && format!("{is:?}") == why).count()
    }
}

/// A client that is connected to all nodes, and its observer.
pub async fn observed_client(nodes: &[RedisServer]) -> (Redlock, Arc<Exclusions>) {
    let exclusions = Arc::new(Exclusions::default());
    let redlock = Redlock::start_observed(&config(nodes), Arc::clone(&exclusions) as _).unwrap();
    until("all nodes are connected", || redlock.connected().0 == nodes.len()).await;
    (redlock, exclusions)
}

pub fn policy(wait: Duration, lease: Duration) -> Policy {
    Policy { wait_timeout: wait, lease_time: lease, discipline: QueueDiscipline::Unordered }
}

pub fn patient() -> Policy {
    policy(Duration::from_secs(20), LEASE)
}

/// Waits until a condition holds. The deadline is generous: only a failure reaches it.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The number of nodes with this value under the key.
pub fn nodes_with(nodes: &[RedisServer], key: &str, value: Option<&str>) -> usize {
    nodes.iter().filter(|node| node.get(key).unwrap().as_deref() == value).count()
}

/// Removes a key without the lock's knowledge.
pub async fn delete(node: &RedisServer, key: &str) {
    redis::cmd("DEL").arg(key).exec_async(&mut connection(&node.address()).await).await.unwrap();
}

/// Sets a key without the lock's knowledge.
pub async fn set(node: &RedisServer, key: &str, value: &str) {
    let set = redis::cmd("SET").arg(key).arg(value).to_owned();
    set.exec_async(&mut connection(&node.address()).await).await.unwrap();
}

/// A connection on which only a server that hangs fails a command, however busy the machine is.
pub async fn connection(address: &str) -> redis::aio::MultiplexedConnection {
    let limit = Some(Duration::from_secs(20));
    let patient = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(limit)
        .set_response_timeout(limit);
    let client = redis::Client::open(format!("redis://{address}")).unwrap();
    client.get_multiplexed_async_connection_with_config(&patient).await.unwrap()
}
