//! The sale: who gets what.
//!
//! A purchase is submitted and its result awaited; how it gets there is this module's business:
//! the window, what is known of the stock, then the batch under the lock and the ledger. It knows
//! no HTTP.

use std::sync::Arc;

use jiff::Timestamp;
use ledger::{Ledger, Outcome, Product, ProductChange, Purchase};
use redlock::{Combiner, CombinerConfig, Redlock};
use tracing::warn;

use crate::atomic::Atomic;
use crate::catalog::Catalog;
use crate::change::{ChangeError, change_product};
use crate::config::{SaleConfig, SaleWindow, Strategy};
use crate::error::PurchaseError;
use crate::known_keys::KnownKeys;
use crate::locked::order_batch::Orders;
use crate::locked::purchase_batch::PurchaseBatch;
use crate::locked::stock_reconciler::StockReconciler;
use crate::observer::Observer;
use crate::purchase::{Receipt, receipt};
use crate::resource::stock_resource;

/// Sells.
#[derive(Debug)]
pub struct Sale {
    pub(crate) window: SaleWindow,
    pub(crate) ledger: Ledger,
    pub(crate) redlock: Redlock,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) known_keys: Arc<KnownKeys>,
    pub(crate) engine: Engine,
    pub(crate) orders: Orders,
    pub(crate) observer: Arc<dyn Observer>,
}

/// What decides, and what keeps the two stores in agreement meanwhile.
#[derive(Debug)]
pub(crate) enum Engine {
    Locked(Combiner<PurchaseBatch>, Box<StockReconciler>),
    Atomic(Atomic),
}

impl Sale {
    /// Opens the sale of what the ledger lists. Products appear with [`Catalog::refresh`].
    ///
    /// # Errors
    /// When the address of the node that decides cannot be used.
    pub fn new(
        ledger: Ledger,
        redlock: Redlock,
        config: &SaleConfig,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, redis::RedisError> {
        let SaleConfig { name: _, lock, window, strategy, stores } = config;
        let window = *window;
        let catalog = Arc::new(Catalog::new(ledger.clone(), redlock.clone(), config));
        let orders = Orders::new(&ledger, &redlock, &catalog, &observer);
        let (of_ledger, of_catalog) = (ledger.clone(), Arc::clone(&catalog));
        let engine = match strategy {
            Strategy::Locked => {
                let stores = StockReconciler::new(
                    ledger.clone(),
                    redlock.clone(),
                    lock.policy,
                    *stores,
                    Arc::clone(&observer),
                );
                let selling = PurchaseBatch {
                    ledger: of_ledger,
                    redlock: redlock.clone(),
                    catalog: of_catalog,
                    observer: Arc::clone(&observer),
                };
                let combiner = Combiner::new(redlock.clone(), selling, CombinerConfig::default());
                Engine::Locked(combiner, Box::new(stores))
            }
            Strategy::Atomic => Engine::Atomic(Atomic::new(
                of_ledger,
                redlock.clone(),
                lock,
                of_catalog,
                Arc::clone(&observer),
            )?),
        };
        let known_keys = Arc::new(KnownKeys::new(ledger.clone()));
        Ok(Self { window, ledger, redlock, catalog, known_keys, engine, orders, observer })
    }

    /// Keeps the two stores in agreement, until it is dropped.
    pub async fn keep(&self) {
        match &self.engine {
            Engine::Locked(_, stores) => Box::pin(stores.keep()).await,
            Engine::Atomic(atomic) => Box::pin(atomic.keep()).await,
        }
    }

    /// Whether the database decides, so that units can be taken there.
    pub(crate) fn is_decided_by_the_database(&self) -> bool {
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
        self.observer.purchase(result.as_ref());
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
