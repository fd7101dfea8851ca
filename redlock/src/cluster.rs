//! All nodes together: the membership, majorities, and the calls that go to every node.
//!
//! `monitor` watches each node; `quarantine` and `repair` decide when a node may vote again; `change`
//! changes the membership. Knows nothing of tickets, waiting callers or leases.

mod address;
pub(crate) mod change;
mod client;
mod connect;
mod knowledge;
mod members;
mod monitor;
mod quarantine;
mod repair;
mod state;
mod tally;

pub(crate) use address::addresses;
pub(crate) use client::{ClusterClient, Confirmation, PendingVotes};
pub(crate) use members::{Member, Members};
pub(crate) use monitor::monitor;
pub(crate) use state::Cluster;
pub(crate) use tally::{Tally, Verdict};
