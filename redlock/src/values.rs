//! Reads the values that holders left behind, node by node, for a comparison with the guarded store.

use std::time::Duration;

use futures::future::join_all;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tokio::time::timeout;

use crate::lock::Redlock;
use crate::protocol::is_counter;
use crate::registry::Published;
use crate::scripts::keys::version_key;

/// The number of resources in one call.
const CHUNK: usize = 250;
/// How long a node may take to answer.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// The values on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeValues {
    /// `host:port`.
    pub node: String,
    /// The value of each requested resource, in the order of the request. Token 0: the node has none.
    pub values: Vec<Published>,
}

impl Redlock {
    /// Reads the values of these resources from each node. Leaves out nodes that do not answer, but not
    /// those that may not vote.
    pub async fn values(&self, resources: &[String]) -> Vec<NodeValues> {
        let members = self.client.cluster.members();
        let ask = members.nodes.iter().map(async |node| {
            let connection = node.connection()?;
            let values = timeout(READ_TIMEOUT, read(connection, resources)).await.ok()?.ok()?;
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
            // As in release.lua, a version that is no counter counts as older than any.
            let token = token.filter(|token| is_counter(*token)).unwrap_or(0);
            Published { token, value }
        }));
    }
    Ok(values)
}
