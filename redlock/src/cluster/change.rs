//! The steps that change the membership. `change.rs` of the crate runs them under the lock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use redis::AsyncCommands;
use tokio::time::sleep;

use super::knowledge::collect_knowledge;
use super::members::{Member, Members};
use super::state::Cluster;
use crate::error::ChangeError;
use crate::node::Node;
use crate::protocol::Membership;
use crate::scripts::keys::ADMITTED;

/// How often a change checks whether the future nodes are connected.
const POLL: Duration = Duration::from_millis(20);

/// A future node that no client has used, and the run id of its process.
pub(crate) struct UnusedNode {
    node: Arc<Member>,
    run_id: String,
}

/// Waits until all nodes are connected. At the deadline a majority of each set is enough.
pub(crate) async fn wait_until_connected(
    members: &Members,
    deadline: Instant,
) -> Result<(), ChangeError> {
    while !members.nodes.iter().all(|node| node.is_connected()) {
        if Instant::now() >= deadline {
            return if_quorum(members.majority_of_each(Node::is_connected));
        }
        sleep(POLL).await;
    }
    Ok(())
}

/// The future nodes that are blank.
pub(crate) fn find_unused(members: &Members) -> Vec<UnusedNode> {
    let present = members.sets.first().map(Vec::as_slice).unwrap_or_default();
    let unused = |(position, node): (usize, &Arc<Member>)| {
        let restarted = node.restarted().filter(|restarted| restarted.blank)?;
        let unused = UnusedNode { node: Arc::clone(node), run_id: restarted.run_id };
        (!present.contains(&position)).then_some(unused)
    };
    members.nodes.iter().enumerate().filter_map(unused).collect()
}

/// Admits nodes that no client has used.
pub(crate) async fn admit_unused(cluster: &Cluster, unused: Vec<UnusedNode>) {
    for UnusedNode { node, run_id } in unused {
        if let Some(mut connection) = node.connection()
            && connection.set::<_, _, ()>(ADMITTED, &run_id).await.is_ok()
        {
            cluster.admit(&node, &run_id);
        }
    }
}

/// Writes a membership to a majority of each set. The lock on `resource` guards it.
pub(crate) async fn write_membership(
    cluster: &Cluster,
    members: &Members,
    resource: &str,
    membership: &Membership,
) -> Result<(), ChangeError> {
    let call = cluster.scripts.change_members(resource, membership);
    let write = async |node: &Arc<Member>| {
        let epoch = node.run::<u64>(&call).await.ok()?;
        (epoch == membership.epoch).then_some(node.index())
    };
    let written = join_all(members.nodes.iter().map(write)).await;
    if_quorum(members.majority_of_each(|node| written.contains(&Some(node.index()))))
}

/// Raises the counters of a majority of each set to those of a majority of the present nodes. Only nodes
/// that store the joint membership and never forgot anything count.
pub(crate) async fn copy_counters(cluster: &Cluster, members: &Members) -> Result<(), ChangeError> {
    let (present, epoch) = (&members.sets[..1], members.membership.epoch);
    let collected = collect_knowledge(members, present, epoch, Node::is_admitted).await;
    let knowledge = collected.ok_or(ChangeError::NoQuorum)?;
    let copy = async |node: &Arc<Member>| {
        let mut connection = node.connection()?;
        knowledge.apply_to(&mut connection, cluster).await.ok()?;
        Some(node.index())
    };
    let copied = join_all(members.nodes.iter().map(copy)).await;
    if_quorum(members.majority_of_each(|node| copied.contains(&Some(node.index()))))
}

fn if_quorum(is_quorum: bool) -> Result<(), ChangeError> {
    if is_quorum { Ok(()) } else { Err(ChangeError::NoQuorum) }
}
