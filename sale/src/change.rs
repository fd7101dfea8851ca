//! Changes a product in both stores: in the ledger under the product's lock, then on the nodes with
//! the release of the lock.

use ledger::{Ledger, LedgerError, Product, ProductChange};
use redlock::{AcquireError, Policy, REMOVED, Redlock};
use tracing::warn;

use crate::resource::stock_resource;

/// Why a product was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The lock could not be acquired.
    #[error(transparent)]
    Lock(#[from] AcquireError),
    /// The ledger refused the change, or failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// `Atomic`: the product's stock in Redis could not be ended, or some of its orders could not be
    /// recorded.
    #[error("the stock in Redis: {0}")]
    Stock(String),
    /// The ledger did not answer within the lease. The change may have been made.
    #[error("the database did not answer within the lease")]
    LeaseOver,
}

impl ChangeError {
    /// Whether another attempt may succeed.
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

/// Changes a product. Returns when every connected node has the new stock, or has the removal of a
/// deleted product.
///
/// `actor`: the administrator who does it.
///
/// # Errors
/// See [`ChangeError`].
pub async fn change_product(
    ledger: &Ledger,
    redlock: &Redlock,
    policy: Policy,
    change: &ProductChange,
    actor: Option<&str>,
) -> Result<Option<Product>, ChangeError> {
    let resource = stock_resource(change.product_id());
    loop {
        let lease = redlock.acquire(&resource, policy).await?;
        let token = i64::try_from(lease.token()).unwrap_or(i64::MAX);
        // Boxed: the future is large, and changes are rare.
        match lease.while_held(Box::pin(ledger.change_as(change, token, actor))).await {
            Some(Ok(product)) => {
                let value = product.as_ref().map(|product| product.available.to_string());
                let value = value.unwrap_or_else(|| REMOVED.to_owned());
                lease.release_everywhere(&[(&resource, value)]).await;
                return Ok(product);
            }
            // After a loss of data the nodes count from zero; the ledger has the highest token.
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
