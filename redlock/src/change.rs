//! Changes the membership while the lock is in use, by a joint majority of the present and the future
//! nodes, as in Raft (Ongaro's thesis, section 4.3).
//!
//! 1. Future nodes that no client has used are admitted while the lock on the membership is held. Other
//!    future nodes wait as if they had restarted.
//! 2. The joint membership is written to a majority of both sets, under an epoch of its own. From then on
//!    a majority refuses votes under the old membership, and the refused clients read the new one.
//! 3. The counters of a majority of the present nodes that store the joint membership are copied to the
//!    future nodes. They include every token that was granted without the future nodes.
//! 4. After the longest lease, no lock is held that only the present nodes know. Then the final membership
//!    is written to both sets: the future nodes alone.
//!
//! The lock itself guards the change, and its fencing token yields the epochs, so the nodes refuse one of
//! two simultaneous changes. `redlock/model` checks the rules.

use std::sync::Arc;
use std::time::Instant;

use tokio::time::sleep_until;

use crate::acquire::Lease;
use crate::cluster::addresses;
use crate::cluster::change::{
    admit_unused, copy_counters, find_unused, wait_until_connected, write_membership,
};
use crate::config::{NodeConfig, Policy};
use crate::error::ChangeError;
use crate::lock::Redlock;
use crate::protocol::Membership;
use crate::time::after;

/// The nodes of a lock, as one of its clients knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberNodes {
    /// `host:port` of each node.
    pub nodes: Vec<String>,
    /// `host:port` of each future node while the membership changes; otherwise empty.
    pub joining: Vec<String>,
    /// When the client learned of them.
    pub since: Instant,
}

/// The lock that guards the membership.
const RESOURCE: &str = "redlock:membership";

impl Redlock {
    /// The nodes of the lock. A client knows a change that another one makes half a second later at most,
    /// while it is connected to a node.
    #[must_use]
    pub fn members(&self) -> MemberNodes {
        let members = self.client.cluster.members();
        let Membership { epoch: _, nodes, joining } = members.membership.clone();
        MemberNodes { nodes, joining, since: members.since }
    }

    /// Replaces the set of nodes: adds, replaces and removes nodes in one step. All clients follow by
    /// themselves. Takes a little longer than the longest lease. After a failure, the same call by any
    /// client resumes the change.
    ///
    /// Nodes are identified by `host:port`, which must be the same for all clients. New nodes use the
    /// password of the first configured node. Remove nodes from the clients' configuration as well: a
    /// client that is configured with removed nodes only cannot find the present ones.
    ///
    /// # Errors
    /// [`ChangeError`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use redlock::{Config, NodeConfig, Redlock};
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let servers = testkit::RedisServer::start_many(5)?;
    /// # let nodes = servers.iter().map(|server| NodeConfig { address: server.address(), password: None });
    /// # let five: Vec<NodeConfig> = nodes.collect();
    /// # let times = Config::new(five[..3].to_vec());
    /// # let (node_timeout, longest_lease) = (Duration::from_millis(200), Duration::from_secs(2));
    /// # let three = Config { node_timeout, longest_lease, ..times };
    /// let redlock = Redlock::start(&three)?;
    /// # while redlock.connected() != (3, 3) {
    /// #     tokio::time::sleep(Duration::from_millis(5)).await;
    /// # }
    /// redlock.change_members(&five).await?;
    /// assert_eq!(redlock.members().nodes.len(), 5);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn change_members(&self, nodes: &[NodeConfig]) -> Result<(), ChangeError> {
        let joining = addresses(nodes).map_err(ChangeError::BadNodes)?;
        let cluster = &self.client.cluster;
        let policy = Policy { lease_time: cluster.longest_lease, ..Policy::default() };
        let lease = self.acquire(RESOURCE, policy).await.map_err(ChangeError::Lock)?;
        // Until the joint membership is written, which ends every extension.
        lease.keep_extended();
        let present = cluster.members().membership.clone();
        let resumes = !present.joining.is_empty();
        if resumes && present.joining != joining {
            return Err(ChangeError::InProgress(present.joining));
        }
        if !resumes && present.nodes == joining {
            return Ok(());
        }
        let joint = Membership {
            epoch: joint_epoch(&lease),
            nodes: present.nodes,
            joining: joining.clone(),
        };
        let members = cluster.build(joint.clone(), &[]);
        wait_until_connected(&members, after(Instant::now(), policy.wait_timeout)).await?;
        if !resumes {
            // No vote of a blank future node was ever counted, unless another change has written a
            // membership with it. The extension shows that this client held the lock all along.
            let unused = find_unused(&members);
            lease.extend(cluster.longest_lease).await.map_err(ChangeError::LockLost)?;
            admit_unused(cluster, unused).await;
        }
        write_membership(cluster, &members, RESOURCE, &joint).await?;
        cluster.install(Arc::clone(&members));
        let leases_are_over = after(Instant::now(), cluster.longest_lease);
        copy_counters(cluster, &members).await?;
        lease.release_in_background(&[]);

        sleep_until(leases_are_over.into()).await;
        let last = Membership { epoch: joint.epoch + 1, nodes: joining, joining: Vec::new() };
        write_membership(cluster, &members, RESOURCE, &last).await?;
        cluster.adopt(last);
        Ok(())
    }
}

/// The epoch of the joint membership. The final membership has the next one.
fn joint_epoch(lease: &Lease) -> u64 {
    2 * lease.token()
}
