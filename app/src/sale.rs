//! The sale: who gets what.
//!
//! A purchase is submitted and its result awaited; how it gets there is this module's business:
//! the window, what is known of the stock, then the batch under the lock and the ledger. It knows
//! no HTTP.

mod atomic;
mod batch;
mod catalog;
mod change;
mod failure;
mod known_keys;
mod ordering;
mod orders;
mod rules;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use redlock::{Combiner, CombinerConfig, Redlock};
use tracing::warn;

use crate::config::{ConfigError, SaleWindow, ServeConfig, Strategy};
use crate::ledger::{Ledger, Order, Outcome, Product, ProductChange, Purchase};
use crate::metrics::Metrics;
use crate::stores::Stores;
use atomic::Atomic;
use batch::Selling;
pub use catalog::{Catalog, Listing};
pub use change::{ChangeError, change_product};
use known_keys::KnownKeys;
use ordering::Orders;
pub use orders::{OrderError, OrderReceipt};
pub use rules::{LeaseBounds, RuleError, check_product, check_terms, check_units};

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
    redlock: Redlock,
    catalog: Arc<Catalog>,
    known_keys: Arc<KnownKeys>,
    engine: Engine,
    orders: Orders,
    metrics: Arc<Metrics>,
}

/// What decides, and what keeps the two stores in agreement meanwhile.
#[derive(Debug)]
enum Engine {
    Locked(Combiner<Selling>, Box<Stores>),
    Atomic(Atomic),
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
    /// Redis, which decides, is away, takes no writes, or is being filled from the database.
    #[error("the stock is not there at the moment")]
    StockUnavailable,
    /// Redis decides in this sale, one product at a time.
    #[error(
        "this sale is decided by Redis (strategy Atomic): buy products one by one with POST /v1/purchases"
    )]
    NotWithAtomic,
    /// The batch ended without an answer.
    #[error("the purchase was interrupted")]
    Interrupted,
    /// The lock was asked for what can never be had, or not at all: a defect, or a wrong setting.
    #[error("an internal error, which has been logged")]
    Internal,
}

impl Sale {
    /// Opens the sale of what the ledger lists. Products appear with [`Catalog::refresh`].
    ///
    /// # Errors
    /// When the node that decides cannot be used.
    pub fn new(
        ledger: Ledger,
        redlock: Redlock,
        config: &ServeConfig,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ConfigError> {
        let ServeConfig { lock, window, strategy, stores, .. } = config;
        let window = *window;
        let catalog = Arc::new(Catalog::new(ledger.clone(), redlock.clone(), config));
        let orders = Orders::new(&ledger, &redlock, &catalog, &metrics);
        let (of_ledger, of_catalog) = (ledger.clone(), Arc::clone(&catalog));
        let engine = match strategy {
            Strategy::Locked => {
                let stores = Stores::new(
                    ledger.clone(),
                    redlock.clone(),
                    lock.policy,
                    *stores,
                    Arc::clone(metrics.stores()),
                );
                let selling = Selling {
                    ledger: of_ledger,
                    redlock: redlock.clone(),
                    catalog: of_catalog,
                    metrics: Arc::clone(&metrics),
                };
                let combiner = Combiner::new(redlock.clone(), selling, CombinerConfig::default());
                Engine::Locked(combiner, Box::new(stores))
            }
            Strategy::Atomic => Engine::Atomic(
                Atomic::new(of_ledger, redlock.clone(), lock, of_catalog, Arc::clone(&metrics))
                    .map_err(|error| ConfigError::unusable("REDIS_NODES", &error))?,
            ),
        };
        let known_keys = Arc::new(KnownKeys::new(ledger.clone()));
        Ok(Self { window, ledger, redlock, catalog, known_keys, engine, orders, metrics })
    }

    /// Keeps the two stores in agreement, until it is dropped.
    pub async fn keep(&self) {
        match &self.engine {
            Engine::Locked(_, stores) => Box::pin(stores.keep()).await,
            Engine::Atomic(atomic) => Box::pin(atomic.keep()).await,
        }
    }

    /// Whether the database decides, so that units can be taken there.
    fn is_decided_by_the_database(&self) -> bool {
        matches!(self.engine, Engine::Locked(..))
    }

    /// The products on sale.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// When it is open.
    #[must_use]
    pub fn window(&self) -> SaleWindow {
        self.window
    }

    /// How many lock nodes may vote now, and how many there are.
    #[must_use]
    pub fn lock_nodes(&self) -> (usize, usize) {
        self.redlock.connected()
    }

    /// Changes a product in both stores, for an administrator. This replica knows of it at once;
    /// the others of its stock at once, of the rest with their next look at the ledger.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn change(&self, change: &ProductChange) -> Result<Option<Product>, ChangeError> {
        let policy = self.catalog.policy(&stock_resource(change.product_id()));
        let product = match (&self.engine, change) {
            (Engine::Atomic(atomic), ProductChange::Delete { .. }) => {
                Box::pin(atomic.delete(change)).await?
            }
            _ => change_product(&self.ledger, &self.redlock, policy, change).await?,
        };
        if let Err(error) = self.catalog.refresh().await {
            warn!(%error, "cannot read the catalog after a change");
        }
        Ok(product)
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
        let Some(stock) = self.catalog.loaded()?.stock(product_id) else {
            return Err(PurchaseError::UnknownProduct(product_id.to_owned()));
        };
        if let Err(refusal) = self.window.check(Timestamp::now()) {
            return self.replay_or(refusal, product_id, &purchase).await;
        }
        if purchase.quantity > stock.remaining {
            // Where Redis decides, it knows the keys as well, and before the database does.
            if self.is_decided_by_the_database()
                && self.known_keys.rule_out(product_id, stock.token, &purchase)
            {
                return Err(PurchaseError::SoldOut);
            }
            return self.replay_or(PurchaseError::SoldOut, product_id, &purchase).await;
        }
        match &self.engine {
            Engine::Locked(combiner, _) => {
                combiner.submit(&stock_resource(product_id), purchase).await?
            }
            Engine::Atomic(atomic) => atomic.purchase(product_id, purchase).await,
        }
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
        let decided = match &self.engine {
            Engine::Locked(..) => None,
            Engine::Atomic(atomic) => atomic.order_by_key(&purchase.buyer, key).await,
        };
        let order = match decided {
            Some(order) => order,
            // Boxed: every purchase that waits would have room for it.
            None => Box::pin(self.known_keys.order(&purchase.buyer, key)).await?,
        };
        match order {
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
    /// Whether purchases are taken at this time.
    pub(crate) fn check(&self, now: Timestamp) -> Result<(), PurchaseError> {
        match (self.starts_at, self.ends_at) {
            (Some(starts_at), _) if now < starts_at => Err(PurchaseError::NotStarted(starts_at)),
            (_, Some(ends_at)) if now >= ends_at => Err(PurchaseError::Ended(ends_at)),
            _ => Ok(()),
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
