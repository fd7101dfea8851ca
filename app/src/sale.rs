//! The sale: who gets what.
//!
//! A purchase is submitted and its result awaited; how it gets there is this module's business:
//! the window, what is known of the stock, then the batch under the lock and the ledger. It knows
//! no HTTP.

mod batch;
mod catalog;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use redlock::{AcquireError, Combiner, CombinerConfig, Redlock, SubmitError};
use tracing::error;

use crate::config::{LockConfig, SaleWindow};
use crate::ledger::{Ledger, LedgerError, Order, Outcome, Purchase};
use crate::metrics::Metrics;
use batch::Selling;
pub use catalog::{Catalog, Listing};

/// The lock's resource, and the Redis key of the stock, of a product: `stock:<product>`.
#[must_use]
pub fn stock_resource(product_id: &str) -> String {
    format!("stock:{product_id}")
}

/// Sells.
#[derive(Debug)]
pub struct Sale {
    window: SaleWindow,
    ledger: Ledger,
    catalog: Arc<Catalog>,
    combiner: Combiner<Selling>,
    metrics: Arc<Metrics>,
}

/// A purchase that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Committed.
    pub order: Order,
    /// The same purchase had been made before; nothing was taken this time.
    pub replayed: bool,
}

/// Why a purchase was not made. Nothing was taken, except that after `DatabaseUnavailable` and
/// `Interrupted` it is not known: the same idempotency key tells.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PurchaseError {
    /// The sale has not begun.
    #[error("the sale starts at {0}")]
    NotStarted(Timestamp),
    /// The sale is over.
    #[error("the sale ended at {0}")]
    Ended(Timestamp),
    /// There is no such product.
    #[error("there is no product {0:?}")]
    UnknownProduct(String),
    /// Fewer units are left than were asked for.
    #[error("sold out")]
    SoldOut,
    /// The buyer would have more than the product allows.
    #[error("limit per buyer reached")]
    LimitReached,
    /// The idempotency key came before with another product or quantity.
    #[error("the idempotency key was used for another purchase")]
    KeyReused,
    /// The lock was not to be had in time.
    #[error("the lock was held by others for the whole wait")]
    LockTimeout,
    /// Too few Redis nodes answer.
    #[error("too few lock nodes answer")]
    QuorumUnavailable,
    /// Too many are waiting.
    #[error("too many purchases are waiting")]
    Overloaded {
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// The database failed or is away.
    #[error("the database does not answer")]
    DatabaseUnavailable,
    /// The batch ended without an answer.
    #[error("the purchase was interrupted")]
    Interrupted,
}

impl Sale {
    /// Opens the sale of what the ledger lists. Products appear with [`Catalog::refresh`].
    #[must_use]
    pub fn new(
        ledger: Ledger,
        redlock: Redlock,
        lock: &LockConfig,
        window: SaleWindow,
        metrics: Arc<Metrics>,
    ) -> Self {
        let catalog = Arc::new(Catalog::new(ledger.clone(), redlock.clone(), lock.policy));
        let selling = Selling {
            ledger: ledger.clone(),
            redlock: redlock.clone(),
            catalog: Arc::clone(&catalog),
            metrics: Arc::clone(&metrics),
        };
        let combiner = Combiner::new(redlock, selling, CombinerConfig::default());
        Self { window, ledger, catalog, combiner, metrics }
    }

    /// The products on sale.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Buys, or says why not.
    ///
    /// # Errors
    /// See [`PurchaseError`].
    pub async fn purchase(
        &self,
        product_id: &str,
        purchase: Purchase,
    ) -> Result<Receipt, PurchaseError> {
        let result = self.try_purchase(product_id, purchase).await;
        self.metrics.purchase(result.as_ref());
        result
    }

    async fn try_purchase(
        &self,
        product_id: &str,
        purchase: Purchase,
    ) -> Result<Receipt, PurchaseError> {
        let Some(remaining) = self.catalog.loaded()?.remaining(product_id) else {
            return Err(PurchaseError::UnknownProduct(product_id.to_owned()));
        };
        if let Err(refusal) = self.window.check(Timestamp::now()) {
            return self.replay_or(refusal, product_id, &purchase).await;
        }
        if purchase.quantity > remaining {
            return self.replay_or(PurchaseError::SoldOut, product_id, &purchase).await;
        }
        self.combiner.submit(&stock_resource(product_id), purchase).await?
    }

    /// The answer a known idempotency key had, else the refusal.
    async fn replay_or(
        &self,
        refusal: PurchaseError,
        product_id: &str,
        purchase: &Purchase,
    ) -> Result<Receipt, PurchaseError> {
        let Some(key) = &purchase.idempotency_key else {
            return Err(refusal);
        };
        match self.ledger.order_by_key(&purchase.buyer, key).await? {
            Some(order) => receipt(Outcome::of_existing(order, product_id, purchase.quantity)),
            None => Err(refusal),
        }
    }
}

fn receipt(outcome: Outcome) -> Result<Receipt, PurchaseError> {
    match outcome {
        Outcome::Sold(order) => Ok(Receipt { order, replayed: false }),
        Outcome::Replayed(order) => Ok(Receipt { order, replayed: true }),
        Outcome::KeyReused => Err(PurchaseError::KeyReused),
        Outcome::SoldOut => Err(PurchaseError::SoldOut),
        Outcome::LimitReached => Err(PurchaseError::LimitReached),
    }
}

impl SaleWindow {
    fn check(&self, now: Timestamp) -> Result<(), PurchaseError> {
        match (self.starts_at, self.ends_at) {
            (Some(starts_at), _) if now < starts_at => Err(PurchaseError::NotStarted(starts_at)),
            (_, Some(ends_at)) if now >= ends_at => Err(PurchaseError::Ended(ends_at)),
            _ => Ok(()),
        }
    }
}

impl From<SubmitError> for PurchaseError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Overloaded { expected_wait } => {
                Self::Overloaded { retry_after: expected_wait }
            }
            SubmitError::Lock(AcquireError::Timeout { .. }) => Self::LockTimeout,
            SubmitError::Lock(_) => Self::QuorumUnavailable,
            SubmitError::Abandoned => Self::Interrupted,
        }
    }
}

impl From<LedgerError> for PurchaseError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::UnknownProduct(id) => Self::UnknownProduct(id),
            error => {
                error!(%error, "ledger failed");
                Self::DatabaseUnavailable
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_includes_its_start_and_not_its_end() {
        let [before, start, end] =
            [0, 10, 20].map(|second| Timestamp::from_second(second).unwrap());
        let window = SaleWindow { starts_at: Some(start), ends_at: Some(end) };
        assert_eq!(window.check(before), Err(PurchaseError::NotStarted(start)));
        assert_eq!(window.check(start), Ok(()));
        assert_eq!(window.check(end), Err(PurchaseError::Ended(end)));
        assert_eq!(SaleWindow::default().check(before), Ok(()));
    }
}
