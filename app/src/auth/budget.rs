//! How many attempts there are, and how fast they come back.

use std::time::Duration;

/// A token bucket's size and speed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    pub(super) attempts: u32,
    /// Time until one attempt is refilled.
    pub(super) refill: Duration,
}

pub(super) const PER_ID_AND_ADDRESS: Budget =
    Budget { attempts: 5, refill: Duration::from_secs(30) };
pub(super) const PER_ADDRESS: Budget = Budget { attempts: 300, refill: Duration::from_secs(1) };
pub(super) const PER_ID: Budget = Budget { attempts: 50, refill: Duration::from_secs(10) };
pub(super) const SIGN_UPS_PER_ADDRESS: Budget =
    Budget { attempts: 30, refill: Duration::from_secs(1) };

/// The budget is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many attempts")]
pub struct TooManyAttempts {
    /// Time until the next attempt is refilled.
    pub retry_after: Duration,
}
