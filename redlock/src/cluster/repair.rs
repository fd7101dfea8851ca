//! Repairs keys with a content that the lock does not write: someone set, restored or reused them.
//!
//! A lock without an expiry gets one from the script that finds it. Any other damage makes the script
//! fail without a change, and the node has no vote until its monitor has repaired it. A node whose
//! counters or membership were damaged has forgotten them, so it counts as wiped ([`super::quarantine`]).

use std::collections::BTreeSet;

use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tracing::warn;

use super::state::Cluster;
use crate::node::Node;
use crate::observe::Exclusion;
use crate::scripts::keys::{ADMITTED, MEMBERS, resource_of};

/// Repairs these keys. Returns whether the node thereby forgot something that no node may forget.
pub(super) async fn repair(
    node: &Node,
    connection: &mut MultiplexedConnection,
    damaged: &BTreeSet<String>,
    cluster: &Cluster,
) -> RedisResult<bool> {
    let names: BTreeSet<&str> = damaged.iter().filter_map(|key| resource_of(key)).collect();
    let known = |name: &str| {
        let state = cluster.registry.state_of(name);
        (state.highest_token(), state.highest_ticket())
    };
    let resources: Vec<_> = names.iter().map(|name| (*name, known(name))).collect();
    let call =
        cluster.scripts.repair(damaged.contains(MEMBERS), damaged.contains(ADMITTED), &resources);
    let repaired: Vec<String> = call.invoke(connection).await?;
    // Empty if another client has repaired the node.
    if !repaired.is_empty() {
        warn!(
            node = node.address(),
            keys = ?repaired,
            "lock node repaired: keys had a content that the lock does not write"
        );
        cluster.observer.node_excluded(node.index(), Exclusion::Damaged);
    }
    Ok(repaired.iter().any(|key| !key.starts_with("queue")))
}
