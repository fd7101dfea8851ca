//! The five nodes of one round, and clients connected to them.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use redlock::{Config, NodeConfig, Policy, QueueDiscipline, Redlock};
use testkit::RedisServer;
use tokio::time::sleep;

const NODES: usize = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Processes with the settings that the operator gives them; fresh ones for each round, so that
/// no client and no key of another section is left.
pub(super) struct Nodes(pub(super) Vec<RedisServer>);

impl Nodes {
    pub(super) fn start() -> Result<Self> {
        Ok(Self(RedisServer::start_many(NODES)?))
    }

    pub(super) fn addresses(&self) -> Vec<String> {
        self.0.iter().map(RedisServer::address).collect()
    }

    /// One client that is connected to all of them.
    pub(super) async fn client(&self) -> Result<Redlock> {
        connect(&self.addresses()).await
    }

    pub(super) async fn clients(&self, count: usize) -> Result<Vec<Redlock>> {
        let mut clients = Vec::new();
        for _ in 0..count {
            clients.push(self.client().await?);
        }
        Ok(clients)
    }
}

/// A client that is connected to all of these.
pub(super) async fn connect(addresses: &[String]) -> Result<Redlock> {
    let node = |address: &String| NodeConfig { address: address.clone(), password: None };
    let redlock = Redlock::start(&Config::new(addresses.iter().map(node).collect()))?;
    all_connected(&redlock).await?;
    Ok(redlock)
}

/// Waits until every node takes part.
pub(super) async fn all_connected(redlock: &Redlock) -> Result<()> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    while redlock.connected() != (NODES, NODES) {
        ensure!(
            Instant::now() < deadline,
            "not all nodes are connected: {:?}",
            redlock.connected()
        );
        sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// A wait that does not end before the measurement does.
pub(super) fn patient(discipline: QueueDiscipline) -> Policy {
    let wait_timeout = Duration::from_mins(1);
    Policy { wait_timeout, lease_time: Duration::from_secs(10), discipline }
}
