//! What a sale is configured with. The comments name the settings of `flashsale-app` that fill it.

use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use redlock::Policy;

/// Everything that a sale is configured with.
#[derive(Debug, Clone)]
pub struct SaleConfig {
    /// `SALE_NAME`: the sale that the database must belong to
    pub name: String,
    /// See [`LockConfig`].
    pub lock: LockConfig,
    /// See [`SaleWindow`].
    pub window: SaleWindow,
    /// `STRATEGY`
    pub strategy: Strategy,
    /// See [`StoresConfig`].
    pub stores: StoresConfig,
    /// `HOLD_SECONDS`: how long an order holds its units until it is paid
    pub hold: Duration,
}

/// The lock's nodes and its timing.
#[derive(Debug, Clone)]
pub struct LockConfig {
    /// `REDIS_NODES` with `REDIS_PASSWORD`; only the first without `USE_REDLOCK`
    pub nodes: redlock::Config,
    /// `LOCK_WAIT_SECONDS`, `LOCK_TIMEOUT_SECONDS` and `LOCK_ORDER`
    pub policy: Policy,
}

/// When the sale is open.
#[derive(Debug, Clone, Copy, Default)]
pub struct SaleWindow {
    /// `SALE_STARTS_AT`
    pub starts_at: Option<Timestamp>,
    /// `SALE_ENDS_AT`
    pub ends_at: Option<Timestamp>,
}

/// Which store decides a purchase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The database, in one transaction under the lock.
    #[default]
    Locked,
    /// Redis, in one script; the database follows.
    Atomic,
}

impl FromStr for Strategy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "Locked" => Ok(Self::Locked),
            "Atomic" => Ok(Self::Atomic),
            _ => Err("expected Locked or Atomic"),
        }
    }
}

/// How often the two stores are brought to agree, by one replica at a time.
#[derive(Debug, Clone, Copy)]
pub struct StoresConfig {
    /// `COMPARE_SECONDS`
    pub compare_every: Duration,
    /// `LOAD_SECONDS`
    pub load_every: Duration,
}
