//! Acquires leases: the rounds of votes of one caller, and the lease that a round wins.
//!
//! Knows nothing of batches or of the callers that share a lease.

mod acquisition;
mod give_up;
mod lease;
mod lease_end;
mod lease_state;
mod renewable;
mod renewal;
mod round;
mod won;

pub(crate) use acquisition::{Acquisition, Present, acquire_in_slot};
pub use lease::Lease;
pub(crate) use renewable::Renewable;
pub(crate) use renewal::{Renewal, renew};
