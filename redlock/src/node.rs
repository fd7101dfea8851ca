//! One Redis node: its connection, its clock, whether it may vote, and the calls to it.
//!
//! Knows the scripts and nothing of other nodes, majorities or leases.

mod clock;
mod fault;
mod release;
mod state;

pub(crate) use clock::ClockSample;
pub(crate) use fault::NodeFault;
pub(crate) use release::{LowestTicket, Release};
pub(crate) use state::{Node, NodeError, REFUSAL_POLL, Restarted};
