//! Decides when a node that restarted may vote again.
//!
//! Such a node may have forgotten locks and counters: those of its last second, or all of them. It votes
//! again when
//!
//! 1. every lease that it may have forgotten is over. That takes the longest lease, from the moment when
//!    a client noticed the restart. By then every acquisition that counted one of the node's votes is
//!    over too, because no round counts votes longer than a lease;
//! 2. its counters are as high as those of a majority of the other nodes. That majority shares a node
//!    with every earlier majority that contained this node. While the membership changes, a majority of
//!    each set is needed.
//!
//! Then a client writes the run id of the node's process into the node, which admits it for all clients.
//!
//! If other nodes restarted or are away, there may be no such majority. A node that kept its data then
//! learns from all nodes that answer, and raises its counters above what it may have forgotten: its last
//! second (`appendfsync everysec`). A node that lost its data waits for a majority, unless a majority
//! restarted at the same time. In that case a token may repeat, and only the guarded store can tell
//! holders apart.
//!
//! `redlock/model` checks these rules and has a counterexample for each rule left out.

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, RedisResult};
use tracing::warn;

use super::knowledge::{Knowledge, collect_knowledge};
use super::members::Members;
use super::state::Cluster;
use crate::node::{Node, Restarted};
use crate::scripts::keys::ADMITTED;

/// Admits the node if it may vote. Returns whether it may. `admitted` is the run id that the node stores.
pub(super) async fn try_admit(
    node: &Node,
    connection: &mut MultiplexedConnection,
    restarted: &Restarted,
    admitted: &str,
    cluster: &Arc<Cluster>,
) -> RedisResult<bool> {
    if admitted == restarted.run_id {
        return Ok(true);
    }
    #[cfg(feature = "ablation")]
    if cluster.quarantine_is_off {
        return Ok(true);
    }
    if !cluster.is_first_use(&restarted.run_id) {
        let members = cluster.members();
        let Some(sources) = Sources::of(node, restarted, &members, cluster) else {
            return Ok(false);
        };
        let collected = collect_knowledge(&members, &members.sets, 0, sources.condition).await;
        let Some(mut knowledge) = collected else { return Ok(false) };
        if knowledge.epoch() > members.membership.epoch {
            // The later membership may need other nodes.
            cluster.adopt(knowledge.into_membership());
            return Ok(false);
        }
        if !sources.are_majority {
            knowledge.skip_ahead();
        }
        knowledge.apply_to(connection, cluster).await?;
    }
    connection.set::<_, _, ()>(ADMITTED, &restarted.run_id).await?;
    Ok(true)
}

/// The nodes that a restarted node learns from.
struct Sources {
    condition: fn(&Node) -> bool,
    /// A majority of them never forgot anything, so together they know every token.
    are_majority: bool,
}

impl Sources {
    /// `None` if it is too early, or the node is no member.
    fn of(
        node: &Node,
        restarted: &Restarted,
        members: &Members,
        cluster: &Cluster,
    ) -> Option<Self> {
        let is_member = members.nodes.iter().any(|member| member.address() == node.address());
        if !is_member || restarted.since.elapsed() < cluster.longest_lease {
            return None;
        }
        if members.majority_of_each(Node::is_admitted) {
            return Some(Self { condition: Node::is_admitted, are_majority: true });
        }
        let majority_connected = members.majority_of_each(Node::is_connected);
        let remembers = |node: &Node| node.restarted().is_none();
        let majority_restarted = !members.majority_of_each(remembers);
        if !majority_connected || (restarted.blank && !majority_restarted) {
            return None;
        }
        warn!(
            node = node.address(),
            blank = restarted.blank,
            "lock node restarted, and there is no majority to learn from: fencing tokens may repeat"
        );
        Some(Self { condition: Node::is_connected, are_majority: false })
    }
}

/// Raises a node that lost its data above every token that this client knows.
pub(super) async fn restore_from_client(
    connection: &mut MultiplexedConnection,
    cluster: &Cluster,
) -> RedisResult<()> {
    let mut knowledge = Knowledge::of_client(cluster);
    knowledge.skip_ahead();
    knowledge.apply_to(connection, cluster).await
}
