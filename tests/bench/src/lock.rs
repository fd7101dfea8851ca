//! The lock against its limits: raw round trips to the same five nodes, made by the bare redis
//! crate in the same process; and next to other ways of locking.
//!
//! A *raw round trip* is `SET key owner NX PX` sent to five nodes at once, each over a connection
//! of its own, until the slowest has answered; a *raw lock + unlock* is one, and then the same with
//! an `EVALSHA` that deletes the key if its value is the owner's.

mod fair;
mod hand_off;
pub(crate) mod latencies;
mod nodes;
mod others;
mod purchases;
pub(crate) mod raw;
mod stopped;
mod uncontended;

use crate::figures::Section;

pub use hand_off::{ReplicaOptions, replica};

/// All of them, in the order of the table.
pub const SECTIONS: &[Section] = &[
    uncontended::SECTION,
    hand_off::SECTION,
    fair::COMBINED,
    fair::DIRECT,
    stopped::SECTION,
    others::SECTION,
    purchases::SECTION,
];
