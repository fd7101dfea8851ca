//! Accounts of buyers, and how long the sale keeps their names.

use clap::Args;

use super::error::ConfigError;
use super::values::{number, value};
use crate::auth::{SignUpMode, SignUpPolicy};

/// What the sale does with buyers.
// No `Debug`: it holds secrets.
#[derive(Clone)]
pub struct BuyersConfig {
    /// `SIGN_UP` with `INVITE_CODES`
    pub sign_up: SignUpPolicy,
    /// `RETENTION_DAYS`
    pub retention_days: Option<u32>,
}

/// Settings of [`BuyersConfig`].
// No `Debug`: it holds secrets.
#[derive(Args)]
#[command(next_help_heading = "Buyers")]
pub struct BuyersArgs {
    /// `Open`: everybody can sign up. `Invited`: with one of `INVITE_CODES`. `Closed`: nobody, so buyers come with
    /// tokens of the shop.
    #[arg(
        long,
        env = "SIGN_UP",
        default_value = "Open",
        value_parser = value::<SignUpMode>("Open, Invited or Closed")
    )]
    sign_up: SignUpMode,
    /// Codes that allow a sign-up with `SIGN_UP=Invited`: 8 to 128 characters each, separated by blanks or line ends.
    /// A code can be used any number of times.
    #[arg(long, env = "INVITE_CODES", hide_env_values = true)]
    invite_codes: Option<String>,
    /// Days after `SALE_ENDS_AT` until buyers in orders and coupons are replaced by pseudonyms, 1 to 3650. Default:
    /// never.
    #[arg(long, env = "RETENTION_DAYS", value_parser = number::<u32>(1..=3650))]
    retention_days: Option<u32>,
}

impl BuyersArgs {
    pub(super) fn into_config(self, has_end: bool) -> Result<BuyersConfig, ConfigError> {
        if self.retention_days.is_some() && !has_end {
            let problem = "needs SALE_ENDS_AT: the days count from the end of the sale";
            return Err(ConfigError::new("RETENTION_DAYS", problem));
        }
        let codes = self.invite_codes.unwrap_or_default();
        let codes: Vec<&str> = codes.split_whitespace().collect();
        if codes.iter().any(|code| !(8..=128).contains(&code.chars().count())) {
            let problem =
                "each code must have 8 to 128 characters, such as from: openssl rand -hex 8";
            return Err(ConfigError::new("INVITE_CODES", problem));
        }
        if self.sign_up == SignUpMode::Invited && codes.is_empty() {
            return Err(ConfigError::new("INVITE_CODES", "is needed with SIGN_UP=Invited"));
        }
        let sign_up = SignUpPolicy::new(self.sign_up, &codes);
        Ok(BuyersConfig { sign_up, retention_days: self.retention_days })
    }
}
