//! Changing a product in both stores: the ledger under the product's lock, then the value on the
//! nodes with the lock's release.

use ledger::{Ledger, LedgerError, Product, ProductChange};
use redlock::{AcquireError, Policy, REMOVED, Redlock};
use tracing::warn;

use crate::resource::stock_resource;

/// Why a product was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The lock was not to be had.
    #[error(transparent)]
    Lock(#[from] AcquireError),
    /// The ledger said no, or nothing.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Where Redis decides, its stock could not be ended, or not all its orders recorded.
    #[error("the stock in Redis: {0}")]
    Stock(String),
    /// The ledger did not answer within the lease; whether it was changed is not known.
    #[error("the database did not answer within the lease")]
    LeaseOver,
}

impl ChangeError {
    /// Whether it may work when it is tried again.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Lock(error) => !error.is_invalid(),
            Self::Stock(_) | Self::LeaseOver => true,
            Self::Ledger(error) => {
                matches!(error, LedgerError::Database(_) | LedgerError::TimedOut(_))
            }
        }
    }
}

/// Changes a product; returns when every node that is connected has its stock, or has none of a
/// deleted one.
///
/// # Errors
/// See [`ChangeError`].
pub async fn change_product(
    ledger: &Ledger,
    redlock: &Redlock,
    policy: Policy,
    change: &ProductChange,
) -> Result<Option<Product>, ChangeError> {
    let resource = stock_resource(change.product_id());
    loop {
        let lease = redlock.acquire(&resource, policy).await?;
        let token = i64::try_from(lease.token()).unwrap_or(i64::MAX);
        // Boxed: it is large, and rare.
        match lease.while_held(Box::pin(ledger.change(change, token))).await {
            Some(Ok(product)) => {
                let value = product.as_ref().map(|product| product.available.to_string());
                let value = value.unwrap_or_else(|| REMOVED.to_owned());
                lease.release_everywhere(&[(&resource, value)]).await;
                return Ok(product);
            }
            // Nodes that lost their data count from zero again; the ledger knows better.
            Some(Err(LedgerError::StaleToken { seen, .. })) => {
                warn!(resource, token, seen, "late holder refused, trying again");
                redlock.observe_token(&resource, u64::try_from(seen).unwrap_or(0));
                lease.release().await;
            }
            Some(Err(error)) => {
                lease.release().await;
                return Err(error.into());
            }
            None => return Err(ChangeError::LeaseOver),
        }
    }
}
