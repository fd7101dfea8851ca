//! The limit: the same messages without a lock around them, by the bare redis crate.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::StreamExt;
use futures::future::try_join_all;
use futures::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{Client, Script};

const LEASE_MS: u64 = 10_000;
const DELETE_OWN: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then \
                          return redis.call('DEL', KEYS[1]) else return 0 end";

/// A connection to each node.
#[derive(Clone)]
pub(crate) struct Raw {
    connections: Vec<MultiplexedConnection>,
    delete_own: Script,
}

impl Raw {
    pub(crate) async fn connect(addresses: &[String]) -> Result<Self> {
        let delete_own = Script::new(DELETE_OWN);
        let mut connections = Vec::new();
        for address in addresses {
            let client = Client::open(format!("redis://{address}"))?;
            let mut connection = client.get_multiplexed_async_connection().await?;
            delete_own.load_async(&mut connection).await?;
            connections.push(connection);
        }
        Ok(Self { connections, delete_own })
    }

    /// `SET key owner NX PX` on all nodes at once; how long the slowest took.
    pub(crate) async fn set(&mut self, key: &str, owner: &str) -> Result<Duration> {
        let started = Instant::now();
        let answers = self.connections.iter_mut().map(|connection| async move {
            let mut set = redis::cmd("SET");
            set.arg(key).arg(owner).arg("NX").arg("PX").arg(LEASE_MS);
            set.query_async::<bool>(connection).await
        });
        let answers = try_join_all(answers).await?;
        let took = started.elapsed();
        ensure!(answers.iter().all(|set| *set), "{key} is held by others");
        Ok(took)
    }

    /// `PING` to all nodes at once; how long a majority took.
    pub(crate) async fn ping_majority(&mut self) -> Result<Duration> {
        let majority = self.connections.len() / 2 + 1;
        let started = Instant::now();
        let mut answers: FuturesUnordered<_> = self
            .connections
            .iter_mut()
            .map(|connection| async move { redis::cmd("PING").exec_async(connection).await })
            .collect();
        let mut took = Duration::ZERO;
        let mut answered = 0;
        while let Some(answer) = answers.next().await {
            answer?;
            answered += 1;
            if answered == majority {
                took = started.elapsed();
            }
        }
        Ok(took)
    }

    /// Whether the first node's key was free and is the owner's now.
    pub(crate) async fn set_on_one(&mut self, key: &str, owner: &str) -> Result<bool> {
        let mut set = redis::cmd("SET");
        set.arg(key).arg(owner).arg("NX").arg("PX").arg(LEASE_MS);
        Ok(set.query_async(&mut self.connections[0]).await?)
    }

    /// Compare and delete on all nodes at once; how long the slowest took.
    pub(crate) async fn delete(&mut self, key: &str, owner: &str) -> Result<Duration> {
        let (started, script) = (Instant::now(), &self.delete_own);
        let answers = self.connections.iter_mut().map(|connection| async move {
            script.key(key).arg(owner).invoke_async::<u64>(connection).await
        });
        let answers = try_join_all(answers).await?;
        let took = started.elapsed();
        ensure!(answers.iter().all(|deleted| *deleted == 1), "{key} was lost");
        Ok(took)
    }

    /// Compare and delete on the first node.
    pub(crate) async fn delete_on_one(&mut self, key: &str, owner: &str) -> Result<()> {
        let call = self.delete_own.key(key).arg(owner).invoke_async(&mut self.connections[0]).await;
        Ok(call?)
    }
}
