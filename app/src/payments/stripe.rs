//! Stripe: <https://docs.stripe.com/webhooks> and <https://docs.stripe.com/payments/checkout>.

mod amount;
mod event;
mod signature;

use std::path::PathBuf;

use axum::http::HeaderMap;
use jiff::Timestamp;

use super::error::{PaymentError, SecretsError};
use super::provider::{PaymentNotice, PaymentProvider};
use super::secrets::SecretsFile;

/// The name in paths, metrics and the database.
pub(crate) const NAME: &str = "stripe";
/// The setting that names the file of the secrets.
pub(crate) const SETTING: &str = "STRIPE_WEBHOOK_FILE";

/// The webhook of Stripe.
#[derive(Debug)]
pub struct Stripe {
    secrets: SecretsFile,
}

impl Stripe {
    /// With the secrets of this file.
    ///
    /// # Errors
    /// When the file cannot be read or has no usable secret.
    pub fn read(path: PathBuf) -> Result<Self, SecretsError> {
        Ok(Self { secrets: SecretsFile::read(path)? })
    }

    /// Reads the secrets again whenever the file changes, for ever.
    pub async fn watch(&self) {
        self.secrets.watch(SETTING).await;
    }
}

impl PaymentProvider for Stripe {
    fn name(&self) -> &'static str {
        NAME
    }

    fn read(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: Timestamp,
    ) -> Result<PaymentNotice, PaymentError> {
        signature::verify(headers, body, &self.secrets.secrets(), now)?;
        event::read(body)
    }
}
