//! Changing the membership while the lock is in use: by a joint majority of the present nodes and
//! of those to come, as in Raft (Ongaro's thesis, section 4.3).
//!
//! 1. Nodes that nobody used yet are admitted, while the lock is held. Others that join wait as if
//!    they had restarted.
//! 2. The joint membership is written to a majority of both sets, under an epoch of its own. From
//!    then on whoever still votes by the old one is refused by a majority, and finds the new one.
//! 3. What is known to a majority of the present nodes that have the joint membership is taught to
//!    the nodes to come: every token granted without them.
//! 4. After the longest lease nobody holds a lock that only the present nodes know of. Then the
//!    nodes to come are written to both sets as the only ones.
//!
//! The change is guarded by the lock itself, and its fencing token makes the epochs: of two that
//! change the membership at once, one is refused by the nodes. The rules are checked by
//! `redlock/model`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use redis::AsyncCommands;
use tokio::time::{sleep, sleep_until};

use crate::clock::after;
use crate::members::{Member, Members, Membership};
use crate::node::Node;
use crate::quarantine::{learn, teach};
use crate::roster::addresses;
use crate::script::ADMITTED;
use crate::{ChangeError, Lease, NodeConfig, Policy, Redlock};

/// The lock that guards the membership.
const RESOURCE: &str = "redlock:membership";
/// How often the nodes to come are looked at until they are connected.
const POLL: Duration = Duration::from_millis(20);

impl Redlock {
    /// Makes these the nodes, adding, replacing and removing at once; all clients follow by
    /// themselves. Takes a little more than the longest lease. If it fails half-way, the same call
    /// by any client goes on.
    ///
    /// Nodes are known by `host:port`, which must be the same for all clients; new ones take the
    /// password of the first that was configured. Take nodes that were removed out of the clients'
    /// configuration too: one that starts with none but removed nodes finds no other.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn change_members(&self, nodes: &[NodeConfig]) -> Result<(), ChangeError> {
        let joining = addresses(nodes).map_err(ChangeError::BadNodes)?;
        let roster = &self.shared.roster;
        let policy = Policy { lease_time: roster.longest_lease, ..Policy::default() };
        let lease = self.acquire(RESOURCE, policy).await.map_err(ChangeError::Lock)?;
        // Until the joint membership is written, which ends every extension.
        lease.keep_extended();
        let present = roster.members().membership.clone();
        let goes_on = !present.joining.is_empty();
        if goes_on && present.joining != joining {
            return Err(ChangeError::InProgress(present.joining));
        }
        if !goes_on && present.nodes == joining {
            return Ok(());
        }
        let joint =
            Membership { epoch: epoch_of(&lease), nodes: present.nodes, joining: joining.clone() };
        let members = roster.build(joint.clone(), &[]);
        connected(&members, after(Instant::now(), policy.wait_timeout)).await?;
        if !goes_on {
            self.admit_unused(&members, &lease).await?;
        }
        self.write(&members, &joint).await?;
        roster.install(Arc::clone(&members));
        let leases_are_over = after(Instant::now(), roster.longest_lease);
        self.teach_joining(&members).await?;
        lease.release_in_background(&[]);

        sleep_until(leases_are_over.into()).await;
        let last = Membership { epoch: joint.epoch + 1, nodes: joining, joining: Vec::new() };
        self.write(&members, &last).await?;
        roster.adopt(last);
        Ok(())
    }

    /// Admits nodes to come that are blank: no vote of theirs was ever counted, since no membership
    /// that they are in was written yet. That is so only as long as nobody else changes it: so the
    /// lock must still be held after they were seen to be blank.
    async fn admit_unused(&self, members: &Members, lease: &Lease) -> Result<(), ChangeError> {
        let roster = &self.shared.roster;
        let present = members.sets.first().map(Vec::as_slice).unwrap_or_default();
        let blank = |(position, node): (usize, &Arc<Member>)| {
            let restarted = node.restarted().filter(|restarted| restarted.blank)?;
            (!present.contains(&position)).then(|| (Arc::clone(node), restarted.run_id))
        };
        let unused: Vec<_> = members.nodes.iter().enumerate().filter_map(blank).collect();
        lease.extend(roster.longest_lease).await.map_err(ChangeError::LockLost)?;
        for (node, run_id) in unused {
            if let Some(mut connection) = node.connection()
                && connection.set::<_, _, ()>(ADMITTED, &run_id).await.is_ok()
            {
                roster.admit(&node, &run_id);
            }
        }
        Ok(())
    }

    /// Writes a membership to a majority of each set.
    async fn write(&self, members: &Members, membership: &Membership) -> Result<(), ChangeError> {
        let call = self.shared.roster.scripts.change_members(RESOURCE, membership);
        let write = async |node: &Arc<Member>| {
            let epoch = node.run::<u64>(&call).await.ok()?;
            (epoch == membership.epoch).then_some(node.slot())
        };
        let written = join_all(members.nodes.iter().map(write)).await;
        let so = |node: &Node| written.contains(&Some(node.slot()));
        if members.majority_of_each(so) { Ok(()) } else { Err(ChangeError::NoQuorum) }
    }

    async fn teach_joining(&self, members: &Members) -> Result<(), ChangeError> {
        let (present, epoch) = (&members.sets[..1], members.membership.epoch);
        let known = learn(members, present, epoch, Node::is_admitted).await;
        let known = known.ok_or(ChangeError::NoQuorum)?;
        let teach = async |node: &Arc<Member>| {
            let mut connection = node.connection()?;
            teach(&mut connection, &known, &self.shared.roster).await.ok()?;
            Some(node.slot())
        };
        let taught = join_all(members.nodes.iter().map(teach)).await;
        let so = |node: &Node| taught.contains(&Some(node.slot()));
        if members.majority_of_each(so) { Ok(()) } else { Err(ChangeError::NoQuorum) }
    }
}

/// Of the joint membership; the last one has the next.
fn epoch_of(lease: &Lease) -> u64 {
    2 * lease.token()
}

/// Waits for all nodes; a majority of each set is enough when the time is up.
async fn connected(members: &Members, deadline: Instant) -> Result<(), ChangeError> {
    while !members.nodes.iter().all(|node| node.is_connected()) {
        if Instant::now() >= deadline {
            let enough = members.majority_of_each(Node::is_connected);
            return if enough { Ok(()) } else { Err(ChangeError::NoQuorum) };
        }
        sleep(POLL).await;
    }
    Ok(())
}
