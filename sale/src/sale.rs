//! The sale: checks the window and the known stock of a purchase, passes it to the engine of the
//! strategy, and returns the result.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ledger::{Ledger, Outcome, Product, ProductChange, Purchase};
use redlock::{Combiner, CombinerConfig, Redlock};
use tracing::warn;

use crate::atomic::{Atomic, KeyedOrder};
use crate::batch_recorder::Marked;
use crate::catalog::Catalog;
use crate::change::{ChangeError, change_product};
use crate::config::{SaleConfig, SaleWindow, Strategy};
use crate::error::PurchaseError;
use crate::known_keys::KnownKeys;
use crate::locked::order_batch::OrderQueues;
use crate::locked::purchase_batch::{PurchaseBatch, RepeatedKeys};
use crate::locked::stock_reconciler::StockReconciler;
use crate::observer::Observer;
use crate::purchase::{Receipt, receipt};
use crate::resource::stock_resource;

/// A running sale.
#[derive(Debug)]
pub struct Sale {
    pub(crate) window: SaleWindow,
    pub(crate) ledger: Ledger,
    pub(crate) redlock: Redlock,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) known_keys: Arc<KnownKeys>,
    pub(crate) engine: Engine,
    pub(crate) order_queues: OrderQueues,
    pub(crate) hold: Duration,
    pub(crate) observer: Arc<dyn Observer>,
}

/// The engine that decides purchases and keeps the two stores in agreement.
#[derive(Debug)]
pub(crate) enum Engine {
    Locked(Combiner<PurchaseBatch>, Box<StockReconciler>),
    Atomic(Atomic),
}

impl Sale {
    /// Starts a sale of the ledger's products, which appear with [`Catalog::refresh`].
    ///
    /// # Errors
    /// When the address of the deciding Redis node is invalid.
    pub fn new(
        ledger: Ledger,
        redlock: Redlock,
        config: &SaleConfig,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, redis::RedisError> {
        let SaleConfig { name: _, lock, window, strategy, stores, hold } = config;
        let (window, hold) = (*window, *hold);
        let catalog = Arc::new(Catalog::new(ledger.clone(), redlock.clone(), config));
        let order_queues = OrderQueues::new(&ledger, &redlock, &catalog, &observer);
        let (of_ledger, of_catalog) = (ledger.clone(), Arc::clone(&catalog));
        let known_keys = Arc::new(KnownKeys::new(ledger.clone()));
        let engine = match strategy {
            Strategy::Locked => {
                let reconciler = StockReconciler::new(
                    ledger.clone(),
                    redlock.clone(),
                    lock.policy,
                    *stores,
                    Arc::clone(&observer),
                );
                let batch = PurchaseBatch {
                    ledger: of_ledger,
                    redlock: redlock.clone(),
                    catalog: of_catalog,
                    observer: Arc::clone(&observer),
                    keys: RepeatedKeys::default(),
                    known_keys: Arc::clone(&known_keys),
                    refusing: Arc::default(),
                };
                let combiner = Combiner::new(redlock.clone(), batch, CombinerConfig::default());
                Engine::Locked(combiner, Box::new(reconciler))
            }
            Strategy::Atomic => Engine::Atomic(Atomic::new(
                of_ledger,
                redlock.clone(),
                lock,
                of_catalog,
                Arc::clone(&observer),
            )?),
        };
        Ok(Self {
            window,
            ledger,
            redlock,
            catalog,
            known_keys,
            engine,
            order_queues,
            hold,
            observer,
        })
    }

    /// Keeps the two stores in agreement and ends the holds of unpaid orders, until the future is dropped.
    pub async fn keep(&self) {
        let stores = async {
            match &self.engine {
                Engine::Locked(_, reconciler) => Box::pin(reconciler.run()).await,
                Engine::Atomic(atomic) => Box::pin(atomic.run()).await,
            }
        };
        tokio::join!(stores, Box::pin(self.end_holds()));
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

    /// When the sale is open.
    #[must_use]
    pub fn window(&self) -> SaleWindow {
        self.window
    }

    /// How many lock nodes may vote now, and how many there are.
    #[must_use]
    pub fn lock_nodes(&self) -> (usize, usize) {
        self.redlock.connected()
    }

    /// Changes a product in both stores, for the administrator `actor`. This replica applies the change at
    /// once. Other replicas get the new stock at once, and the other fields with their next refresh of
    /// the catalog.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn change(
        &self,
        change: &ProductChange,
        actor: &str,
    ) -> Result<Option<Product>, ChangeError> {
        let actor = Some(actor);
        let policy = self.catalog.policy(&stock_resource(change.product_id()));
        let product = match (&self.engine, change) {
            (Engine::Atomic(atomic), ProductChange::Delete { .. }) => {
                Box::pin(atomic.delete(change, actor)).await?
            }
            _ => change_product(&self.ledger, &self.redlock, policy, change, actor).await?,
        };
        if let Err(error) = self.catalog.refresh().await {
            warn!(%error, "cannot read the catalog after a change");
        }
        Ok(product)
    }

    /// Makes a purchase.
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
            if self.is_decided_by_the_database() {
                return self.known_keys.answer_sold_out(product_id, stock.token, &purchase).await;
            }
            // Redis has the keys, and has them earlier than the database.
            return self.replay_or(PurchaseError::SoldOut, product_id, &purchase).await;
        }
        if let Err(refusal) = self.check_limit_key(product_id, purchase.limit_key.as_deref()) {
            return self.replay_or(refusal, product_id, &purchase).await;
        }
        match &self.engine {
            Engine::Locked(combiner, _) => {
                let purchase = Marked { item: purchase, origin: self.observer.origin() };
                combiner.submit(&stock_resource(product_id), purchase).await?
            }
            Engine::Atomic(atomic) => atomic.purchase(product_id, purchase).await,
        }
    }

    /// Without the claim by which the sale limits buyers, nobody knows whose limit a purchase counts for.
    pub(crate) fn check_limit_key(
        &self,
        product_id: &str,
        limit_key: Option<&str>,
    ) -> Result<(), PurchaseError> {
        match self.catalog.limit_by() {
            Some(limit_by)
                if limit_key.is_none() && self.catalog.max_per_buyer(product_id).is_some() =>
            {
                Err(PurchaseError::LimitClaimMissing(limit_by.claim.clone()))
            }
            _ => Ok(()),
        }
    }

    /// The earlier order of a known idempotency key, otherwise the refusal.
    async fn replay_or(
        &self,
        refusal: PurchaseError,
        product_id: &str,
        purchase: &Purchase,
    ) -> Result<Receipt, PurchaseError> {
        let Some(key) = &purchase.idempotency_key else {
            return Err(refusal);
        };
        let keyed = match &self.engine {
            Engine::Locked(..) => KeyedOrder::AskDatabase,
            Engine::Atomic(atomic) => atomic.order_by_key(&purchase.buyer, key).await,
        };
        let is_away = matches!(keyed, KeyedOrder::Away);
        let mut order = match keyed {
            KeyedOrder::Found(order) => Some(order),
            KeyedOrder::None => None,
            // Boxed: the future of each waiting purchase stays small.
            KeyedOrder::AskDatabase | KeyedOrder::Away => {
                Box::pin(self.known_keys.order(&purchase.buyer, key)).await?
            }
        };
        // With `Atomic`, Redis answers most repetitions, and does not have it: all answers shall be the same.
        if !self.is_decided_by_the_database()
            && let Some(order) = &mut order
        {
            order.unit_price = None;
        }
        match order {
            Some(order) => receipt(Outcome::of_existing(order, product_id, purchase.quantity)),
            // The order of the key may not be recorded yet.
            None if is_away => Err(PurchaseError::StockUnavailable),
            None => Err(refusal),
        }
    }
}
