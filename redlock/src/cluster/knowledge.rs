//! What no majority may forget: the counters of tokens and tickets, and the membership.

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, RedisResult, ScanOptions};

use super::members::Members;
use super::state::Cluster;
use crate::node::Node;
use crate::protocol::{HIGHEST_COUNTER, Membership, is_counter};
use crate::scripts::keys::{COUNTERS, FLOOR, MEMBERS};

/// The number of keys in one call.
const CHUNK: usize = 500;
/// More tokens than a resource is granted in the last second, which a node with its data may forget.
const SKIP_AHEAD: u64 = 1 << 20;

/// The counters and the membership of one node, or of several nodes together.
#[derive(Debug, Default)]
pub(super) struct Knowledge {
    /// Counters of tokens and tickets, by their keys.
    counters: HashMap<String, u64>,
    membership: Membership,
}

impl Knowledge {
    /// What this client itself knows.
    pub(super) fn of_client(cluster: &Cluster) -> Self {
        let membership = cluster.members().membership.clone();
        Self { counters: cluster.registry.counters(), membership }
    }

    /// The epoch of the membership.
    pub(super) fn epoch(&self) -> u64 {
        self.membership.epoch
    }

    /// The membership.
    pub(super) fn into_membership(self) -> Membership {
        self.membership
    }

    /// Raises all counters above the tokens that a node may have granted and forgotten. The floor rises
    /// too, on behalf of resources that no node here knows.
    pub(super) fn skip_ahead(&mut self) {
        self.counters.entry(FLOOR.to_owned()).or_default();
        for counter in self.counters.values_mut() {
            *counter = (*counter + SKIP_AHEAD).min(HIGHEST_COUNTER);
        }
    }

    fn merge(&mut self, other: Self) {
        for (key, counter) in other.counters {
            let highest = self.counters.entry(key).or_default();
            *highest = counter.max(*highest);
        }
        if other.membership.epoch > self.membership.epoch {
            self.membership = other.membership;
        }
    }

    /// Raises a node's counters and membership to these.
    pub(super) async fn apply_to(
        &self,
        connection: &mut MultiplexedConnection,
        cluster: &Cluster,
    ) -> RedisResult<()> {
        let counters: Vec<_> = self.counters.iter().collect();
        let none: &[(&String, &u64)] = &[];
        let chunks = counters.chunks(CHUNK);
        for chunk in if counters.is_empty() { vec![none] } else { chunks.collect() } {
            let call = cluster.scripts.raise_counters(&self.membership, chunk);
            call.invoke::<u64>(connection).await?;
        }
        Ok(())
    }
}

/// The common knowledge of a majority of each of these sets. Only nodes count that satisfy the condition
/// and store at least this epoch.
pub(super) async fn collect_knowledge(
    members: &Members,
    sets: &[Vec<usize>],
    epoch: u64,
    condition: fn(&Node) -> bool,
) -> Option<Knowledge> {
    let reads = members.nodes.iter().map(async |node| {
        let mut connection = node.connection().filter(|_| condition(node))?;
        match read(&mut connection).await.ok()? {
            Ok(knowledge) => Some(knowledge).filter(|known| known.epoch() >= epoch),
            Err(damaged) => {
                node.mark_damaged(damaged);
                None
            }
        }
    });
    let found = futures::future::join_all(reads).await;
    if !Members::majority(sets, |position| found[position].is_some()) {
        return None;
    }
    let mut merged = Knowledge::default();
    found.into_iter().flatten().for_each(|knowledge| merged.merge(knowledge));
    Some(merged)
}

/// The knowledge of one node; or its damaged counters, without which its knowledge is incomplete.
async fn read(
    connection: &mut MultiplexedConnection,
) -> RedisResult<Result<Knowledge, Vec<String>>> {
    // Before the counters: a grant in between belongs to this epoch or to a later one.
    let fields = ["epoch", "nodes", "joining"];
    let membership = redis::cmd("HMGET").arg(MEMBERS).arg(&fields).query_async(connection).await?;
    let mut keys: Vec<String> = Vec::new();
    for pattern in COUNTERS {
        let options = ScanOptions::default().with_pattern(pattern).with_count(CHUNK);
        let mut found = connection.scan_options::<String>(options).await?;
        while let Some(key) = found.next_item().await {
            keys.push(key?);
        }
    }
    let (mut counters, mut damaged) = (HashMap::new(), Vec::new());
    for chunk in keys.chunks(CHUNK) {
        // MGET returns nothing for a key of another type.
        let values: Vec<Option<String>> =
            redis::cmd("MGET").arg(chunk).query_async(connection).await?;
        for (key, value) in chunk.iter().zip(values) {
            let counter = value.and_then(|value| value.parse().ok());
            match counter.filter(|counter| is_counter(*counter)) {
                Some(counter) => _ = counters.insert(key.clone(), counter),
                None => damaged.push(key.clone()),
            }
        }
    }
    Ok(if damaged.is_empty() { Ok(Knowledge { counters, membership }) } else { Err(damaged) })
}
