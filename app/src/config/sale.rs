//! The sale itself.

use std::time::Duration;

use ::sale::{LockConfig, SaleConfig, SaleWindow, StoresConfig, Strategy, bounds};
use clap::Args;
use jiff::Timestamp;

use super::error::ConfigError;
use super::values::{TIME, moment, seconds, value};

/// Settings of [`SaleConfig`] beside its name and its lock.
#[derive(Args, Debug)]
#[command(next_help_heading = "Sale")]
pub struct SaleArgs {
    /// `Locked`: one database transaction decides a purchase, under the lock. `Atomic`: one Redis script decides
    /// it, and the database follows; this needs a single Redis node.
    #[arg(
        long,
        env = "STRATEGY",
        default_value = "Locked",
        value_parser = value::<Strategy>("Locked or Atomic")
    )]
    strategy: Strategy,
    /// Start of the sale by RFC 3339, at most 9999-12-30T22:00:00Z. Earlier purchases are refused.
    #[arg(long, env = "SALE_STARTS_AT", value_parser = moment)]
    sale_starts_at: Option<Timestamp>,
    /// End of the sale by RFC 3339, after `SALE_STARTS_AT`. Purchases from then on are refused.
    #[arg(long, env = "SALE_ENDS_AT", value_parser = moment)]
    sale_ends_at: Option<Timestamp>,
    /// Interval in seconds at which the stock on the nodes is compared with the database.
    #[arg(long, env = "COMPARE_SECONDS", default_value = "60", value_parser = seconds(TIME))]
    compare_seconds: Duration,
    /// Interval in seconds at which products that a node lacks are loaded onto it.
    #[arg(long, env = "LOAD_SECONDS", default_value = "300", value_parser = seconds(TIME))]
    load_seconds: Duration,
    /// How long an order of `POST /v1/orders` holds its units until it is paid, in seconds. A product's own hold
    /// overrides it.
    #[arg(long, env = "HOLD_SECONDS", default_value = "600", value_parser = seconds(bounds::HOLD))]
    hold_seconds: Duration,
}

impl SaleArgs {
    pub(super) fn into_config(
        self,
        name: String,
        lock: LockConfig,
    ) -> Result<SaleConfig, ConfigError> {
        let window = SaleWindow { starts_at: self.sale_starts_at, ends_at: self.sale_ends_at };
        if window.starts_at.zip(window.ends_at).is_some_and(|(starts, ends)| ends <= starts) {
            return Err(ConfigError::new("SALE_ENDS_AT", "must be after SALE_STARTS_AT"));
        }
        if self.strategy == Strategy::Atomic && lock.nodes.nodes.len() != 1 {
            let problem = "Atomic needs one node that decides: name one in REDIS_NODES";
            return Err(ConfigError::new("STRATEGY", problem));
        }
        let stores =
            StoresConfig { compare_every: self.compare_seconds, load_every: self.load_seconds };
        let (strategy, hold) = (self.strategy, self.hold_seconds);
        Ok(SaleConfig { name, lock, window, strategy, stores, hold })
    }
}
