//! `STRATEGY=Atomic`: one script in Redis decides, and the database follows.
//!
//! A purchase joins the queue of its product at this replica, and one call of `purchase.lua` decides
//! the whole queue: in one step it checks units, limit and idempotency key, and appends the orders to
//! a stream. Redis replies once that is on its disk (`appendfsync always`). The replica then writes
//! the orders to the database and removes them from the stream ([`recorder`]). If it cannot, another
//! replica does. No order is recorded twice, because its id is made before the decision.
//!
//! One node decides; several would have to vote on each purchase. So a replica must be sure that the
//! node still knows all sales. The database row names the Redis stock that was made from it (the
//! incarnation) and counts its recorded units. A replica sells over a connection only when both agree
//! with Redis; a stock that does not agree is rebuilt from the database, under a lock
//! ([`reconciler`]). Remaining plus recorded units in the database always equal the units that Redis
//! was given, so the two stores can be compared exactly at any moment, and later changes (restock, a
//! cancelled order) reach Redis by the same comparison.

mod barrier;
mod delete;
mod engine;
mod entry;
mod erase;
mod error;
mod fill;
mod keys;
mod link;
mod queue;
mod rebuild;
mod reconciler;
mod recorder;
mod script;
mod stock_state;
mod stream_ends;
mod sync;
mod unrecorded;
mod wait_queue;
mod worker;
mod workers;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ledger::erasure::Erasure;
use ledger::{Ledger, Order, Product, ProductChange, Purchase};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use tracing::warn;
use uuid::Uuid;

use self::engine::AtomicEngine;
use self::error::ReconcileError;
use self::queue::{Queue, QueuedPurchase};
use self::script::Scripts;
use self::stream_ends::StreamEndsCache;
use self::unrecorded::UnrecordedOrders;
use self::workers::Workers;
use crate::catalog::Catalog;
use crate::change::ChangeError;
use crate::config::LockConfig;
use crate::erasure_error::ErasureError;
use crate::error::PurchaseError;
use crate::observer::Observer;
use crate::purchase::Receipt;
use crate::resource::stock_resource;

/// The engine that decides in Redis.
#[derive(Debug)]
pub(crate) struct Atomic {
    engine: Arc<AtomicEngine>,
    workers: Workers,
}

/// What Redis says of an idempotency key.
pub(crate) enum KeyedOrder {
    /// The order.
    Found(Order),
    /// There is none.
    None,
    /// It does not have all keys. What it lacks is in the database.
    AskDatabase,
    /// Nothing: it is away. It may have orders that the database lacks.
    Away,
}

impl Atomic {
    pub(crate) fn new(
        ledger: Ledger,
        redlock: redlock::Redlock,
        lock: &LockConfig,
        catalog: Arc<Catalog>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, redis::RedisError> {
        let engine = AtomicEngine {
            ledger,
            redlock,
            policy: redlock::Policy {
                discipline: redlock::QueueDiscipline::Unordered,
                ..lock.policy
            },
            endpoint: link::endpoint(&lock.nodes)?,
            catalog,
            observer,
            scripts: Scripts::new(),
            unrecorded: UnrecordedOrders::default(),
            ready: watch::Sender::default(),
            stream_ends: StreamEndsCache::default(),
            wakeup: Notify::new(),
            refusal_logged: AtomicBool::new(false),
        };
        Ok(Self { engine: Arc::new(engine), workers: Workers::new() })
    }

    /// Keeps the stores in agreement and records orders, until the future is dropped.
    pub(crate) async fn run(&self) {
        tokio::join!(
            self.engine.run_reconciler(),
            self.engine.run_recorder(),
            self.engine.run_filler()
        );
    }

    /// Submits a purchase and waits for its result. The product must exist.
    pub(crate) async fn purchase(
        &self,
        product_id: &str,
        purchase: Purchase,
    ) -> Result<Receipt, PurchaseError> {
        let wait = self.engine.catalog.policy(&stock_resource(product_id)).wait_timeout;
        let (reply, answer) = oneshot::channel();
        let (deadline, origin) = (Instant::now() + wait, self.engine.observer.origin());
        let queued = QueuedPurchase { purchase, deadline, checked: None, reply, origin };
        if !self.queue(product_id).push(queued) {
            return Err(PurchaseError::Overloaded { retry_after: wait });
        }
        answer.await.unwrap_or(Err(PurchaseError::Interrupted))
    }

    /// The order of this buyer's key.
    pub(crate) async fn order_by_key(&self, buyer: &str, key: &str) -> KeyedOrder {
        let connection = self.engine.ready.borrow().connection.clone();
        let Some(mut connection) = connection else { return KeyedOrder::Away };
        let mut ask = redis::cmd("HMGET");
        ask.arg(keys::KEYS).arg("").arg(entry::key_field(buyer, key));
        let answer = ask.query_async(&mut connection).await;
        let Ok((complete, order)): Result<(Option<u8>, Option<String>), _> = answer else {
            return KeyedOrder::Away;
        };
        match order.map(|order| entry::keyed_order(&order, buyer, key)) {
            Some(Some(order)) => KeyedOrder::Found(order),
            None if complete.is_some() => KeyedOrder::None,
            _ => KeyedOrder::AskDatabase,
        }
    }

    /// Waits, for less than a second, until the database has all earlier sales; see
    /// [`AtomicEngine::await_recorded`].
    pub(crate) async fn await_recorded(&self, order: Option<Uuid>) -> bool {
        self.engine.await_recorded(order).await
    }

    /// Makes sure that Redis counts the units of these names, the buyer's and the limit key, before the database gives
    /// some of them back. If Redis read them later, it could not tell whether the returned units are among them.
    /// Returns the incarnation that counts them.
    pub(crate) async fn prepare_give_back(
        &self,
        product_id: &str,
        names: &[String],
    ) -> Option<i64> {
        self.engine.catalog.max_per_buyer(product_id)?;
        let deadline = Instant::now() + READY_FOR_CANCEL;
        let (mut connection, _, incarnation) = self.engine.ready_for(product_id, deadline).await?;
        let known = self.engine.fill_names(&mut connection, (product_id, incarnation), names).await;
        known.map_err(|error| warn!(product_id, %error, "units cannot be looked up")).ok()?;
        Some(incarnation)
    }

    /// Reduces the counts of these names after the database gave units back, if this incarnation counted them
    /// before, and wakes the reconciler, which brings the units to Redis.
    pub(crate) async fn give_back(
        &self,
        product_id: &str,
        (names, units): (&[String], i64),
        incarnation: Option<i64>,
    ) {
        let connection = self.engine.ready.borrow().connection.clone();
        let limited = self.engine.catalog.max_per_buyer(product_id).is_some();
        if let Some(mut connection) = connection.filter(|_| limited) {
            let (scripts, stock) = (&self.engine.scripts, (product_id, incarnation));
            for name in names {
                if let Err(error) = scripts.give_back(&mut connection, stock, name, units).await {
                    warn!(product_id, units, %error, "the limit still counts returned units");
                }
            }
        }
        self.engine.wakeup.notify_one();
    }

    /// Deletes a product once all its sales are recorded.
    pub(crate) async fn delete(
        &self,
        change: &ProductChange,
        actor: Option<&str>,
    ) -> Result<Option<Product>, ChangeError> {
        self.engine.delete(change, actor).await
    }

    /// See [`AtomicEngine::erase`].
    pub(crate) async fn erase(&self, erasure: &Erasure) -> Result<(), ErasureError> {
        self.engine.erase(erasure).await.map_err(not_erased)
    }

    /// See [`AtomicEngine::remove_keys`].
    pub(crate) async fn remove_keys(
        &self,
        buyer: &str,
        keys: &[String],
    ) -> Result<(), ErasureError> {
        self.engine.remove_keys(buyer, keys).await.map_err(not_erased)
    }

    /// See [`AtomicEngine::forget_buyers`].
    pub(crate) async fn forget_buyers(&self) -> Result<(), ErasureError> {
        self.engine.forget_buyers().await.map_err(not_erased)
    }

    fn queue(&self, product_id: &str) -> Arc<Queue> {
        self.workers.queue(product_id, |queue| {
            worker::serve(Arc::clone(&self.engine), product_id.to_owned(), queue)
        })
    }
}

fn not_erased(error: ReconcileError) -> ErasureError {
    match error {
        ReconcileError::Ledger(error) => ErasureError::Ledger(error),
        error => ErasureError::Redis(error.to_string()),
    }
}

/// How long a cancel waits for a stock that can count the buyer's units.
const READY_FOR_CANCEL: Duration = Duration::from_secs(1);
