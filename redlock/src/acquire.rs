//! Acquires leases: the rounds of votes of one caller, and the lease that a round wins.
//!
//! Knows nothing of batches or of the callers that share a lease.

mod acquisition;
mod lease;
mod lease_state;
mod round;
mod won;

pub(crate) use acquisition::{Acquisition, acquire_in_slot};
pub use lease::Lease;
