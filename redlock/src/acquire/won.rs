//! The result of a round that won.

use std::sync::Arc;
use std::time::Duration;

use super::lease_end::LeaseEnd;
use crate::cluster::Members;
use crate::queue::SlotTicket;

/// The nodes that were asked, and what they granted.
pub(super) struct WonRound {
    pub(super) members: Arc<Members>,
    /// The owner's name on the nodes.
    pub(super) owner: String,
    /// The name of the slot in which the round waited.
    pub(super) slot_name: Arc<str>,
    /// The token of each resource.
    pub(super) tokens: Vec<(String, u64)>,
    /// How long the decisive votes took.
    pub(super) took: Duration,
    /// A release granted the lock, so other clients wait for it too.
    pub(super) was_granted_late: bool,
    /// The end of the lease that the round renews.
    pub(super) renews: Option<Arc<LeaseEnd>>,
    /// The slot and its lowest ticket, in fair order.
    pub(super) fair: Option<SlotTicket>,
}
