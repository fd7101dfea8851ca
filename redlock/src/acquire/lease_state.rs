//! What the tasks that extend a lease share with it.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;
use tokio::time::sleep;

use super::lease_end::LeaseEnd;
use super::won::WonRound;
use crate::cluster::{ClusterClient, Members, Tally, Verdict};
use crate::error::ExtendError;
use crate::protocol::{LeaseSpec, Vote};
use crate::time::usable;

/// After a failed attempt, the next extension follows after this part of the lease.
const RETRY_AFTER: f64 = 1.0 / 48.0;

/// A held lock on the nodes.
#[derive(Debug)]
pub(super) struct LeaseState {
    pub(super) client: Arc<ClusterClient>,
    /// The nodes that were asked. Nodes of a later membership never held the lock.
    pub(super) members: Arc<Members>,
    /// The owner's name on the nodes.
    pub(super) owner: String,
    /// The slot in which the round waited. Some nodes may not have granted the request yet.
    pub(super) slot_name: Arc<str>,
    /// The token of each resource.
    pub(super) tokens: Vec<(String, u64)>,
    /// How long the decisive votes took.
    pub(super) took: Duration,
    /// A release granted the lock, so other clients wait for it too.
    pub(super) was_granted_late: bool,
    /// The end of the lease that this one renews. Nothing of this one is used or freed before.
    pub(super) renews: Option<Arc<LeaseEnd>>,
    pub(super) end: Arc<LeaseEnd>,
    /// The owner's name of the lease that renews this one. A node that has it had this owner's before.
    pub(super) renewed_by: OnceLock<String>,
    deadline: watch::Sender<Instant>,
}

impl LeaseState {
    /// The lock that a round won, valid until the deadline.
    pub(super) fn new(client: Arc<ClusterClient>, won: WonRound, deadline: Instant) -> Self {
        let WonRound { members, owner, slot_name, tokens, took, was_granted_late, renews, fair: _ } =
            won;
        Self {
            client,
            members,
            owner,
            slot_name,
            tokens,
            took,
            was_granted_late,
            renews,
            end: Arc::default(),
            renewed_by: OnceLock::new(),
            deadline: watch::Sender::new(deadline),
        }
    }

    /// When the lease ends.
    pub(super) fn deadline(&self) -> Instant {
        *self.deadline.borrow()
    }

    /// Extends the lease. Only nodes count that have held the lock without a break.
    pub(super) async fn extend(&self, lease: Duration) -> Result<(), ExtendError> {
        let renewed_by = self.renewed_by.get();
        let extended = self.extend_as(lease, renewed_by).await;
        match (renewed_by, &extended) {
            // Nodes that renewed the lease in the meantime did not know its name any more.
            (None, Err(ExtendError::NoQuorum { .. })) if self.renewed_by.get().is_some() => {
                self.extend_as(lease, self.renewed_by.get()).await
            }
            _ => extended,
        }
    }

    async fn extend_as(
        &self,
        lease: Duration,
        renewed_by: Option<&String>,
    ) -> Result<(), ExtendError> {
        let sent = Instant::now();
        if sent >= self.deadline() {
            return Err(ExtendError::Expired);
        }
        let cluster = &self.client.cluster;
        let (epoch, longest) = (self.members.membership.epoch, cluster.longest_lease);
        let spec = LeaseSpec { epoch, owner: &self.owner, lease, longest };
        let call = cluster.scripts.extend(spec, &self.tokens, renewed_by);
        let ask = async |position: usize| {
            let node = self.members.nodes.get(position)?;
            Some(self.client.extend(node, &call).await)
        };
        let positions = 0..self.members.nodes.len();
        let mut votes: FuturesUnordered<_> =
            positions.map(async |position| (position, ask(position).await)).collect();
        let mut tally = Tally::new(&self.members.sets);
        let mut extended = 0;
        while let Some((position, reply)) = votes.next().await {
            let granted = reply == Some(true);
            extended += usize::from(granted);
            tally.count(position, granted.then_some(Vote::Granted));
            if tally.verdict() == Some(Verdict::Won) {
                if Instant::now() >= self.deadline() {
                    return Err(ExtendError::Expired);
                }
                // The other nodes got the call too.
                self.deadline.send_modify(|deadline| *deadline = sent + usable(lease));
                return Ok(());
            }
        }
        let (_, nodes, quorum) = tally.shortage();
        Err(ExtendError::NoQuorum { extended, nodes, quorum })
    }

    /// Retries until the lease is extended or over. Returns whether it is extended.
    pub(super) async fn extend_with_retries(&self, lease: Duration) -> bool {
        loop {
            match self.extend(lease).await {
                Ok(()) => return true,
                Err(ExtendError::Expired) => return false,
                Err(_) => sleep(lease.mul_f64(RETRY_AFTER)).await,
            }
        }
    }
}
