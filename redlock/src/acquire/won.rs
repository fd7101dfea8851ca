//! The result of a round that won.

use std::sync::Arc;

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
    /// The slot and its lowest ticket, in fair order.
    pub(super) fair: Option<SlotTicket>,
}
