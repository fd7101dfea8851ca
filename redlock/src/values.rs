//! Reads what holders left behind, node by node: for whoever compares it with what the lock guards.

use std::time::Duration;

use futures::future::join_all;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tokio::time::timeout;

use crate::keys::version_key;
use crate::script::is_counter;
use crate::{Published, Redlock};

/// Resources that go into one call.
const CHUNK: usize = 250;
/// A node that needs longer counts as away.
const LIMIT: Duration = Duration::from_secs(1);

/// What one node has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeValues {
    /// `host:port`
    pub node: String,
    /// One for each resource that was asked for, in that order; token 0: the node knows of none.
    pub values: Vec<Published>,
}

impl Redlock {
    /// What each node has of these resources' values. Nodes that do not answer are left out; those
    /// that may not vote are not.
    pub async fn values(&self, resources: &[String]) -> Vec<NodeValues> {
        let members = self.shared.roster.members();
        let ask = members.nodes.iter().map(async |node| {
            let connection = node.connection()?;
            let values = timeout(LIMIT, read(connection, resources)).await.ok()?.ok()?;
            Some(NodeValues { node: node.address().to_owned(), values })
        });
        join_all(ask).await.into_iter().flatten().collect()
    }
}

async fn read(
    mut connection: MultiplexedConnection,
    resources: &[String],
) -> RedisResult<Vec<Published>> {
    let mut values = Vec::with_capacity(resources.len());
    for chunk in resources.chunks(CHUNK) {
        let versions = chunk.iter().map(|resource| version_key(resource).to_string());
        let keys: Vec<String> = chunk.iter().cloned().chain(versions).collect();
        let mut found: Vec<Option<String>> =
            redis::cmd("MGET").arg(&keys).query_async(&mut connection).await?;
        let versions = found.split_off(chunk.len());
        values.extend(found.into_iter().zip(versions).map(|(value, version)| {
            let token = version.and_then(|version| version.parse().ok());
            // As release.lua takes it: what is no version is older than any.
            let token = token.filter(|token| is_counter(*token)).unwrap_or(0);
            Published { token, value }
        }));
    }
    Ok(values)
}
