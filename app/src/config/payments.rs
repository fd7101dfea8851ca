//! Payment services that report payments by themselves.

use std::path::PathBuf;

use clap::Args;

/// Settings of payment services.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Payments")]
pub struct PaymentsConfig {
    /// File with the signing secret of the Stripe webhook endpoint (`whsec_...`), or several while it is replaced,
    /// separated by blanks or line ends. It is read again when it changes. Default: none, events are refused.
    #[arg(long = "stripe-webhook-file", env = "STRIPE_WEBHOOK_FILE")]
    pub stripe: Option<PathBuf>,
}
