//! `STRATEGY=Atomic`: one script in Redis decides, and the database follows.
//!
//! A purchase joins the others that wait at this replica, and one call of `purchase.lua` decides all
//! of them: units, limit and idempotency key are checked and each order is appended to a stream,
//! in one step. Redis answers when that is on its disk (`appendfsync always`). The replica then writes
//! them to the database and takes them off the stream ([`recorder`]); if it cannot, another does, each
//! order once, because its id was made before it was decided.
//!
//! One node decides; more would need a vote for each purchase. So it matters that this is the node
//! that knows what was sold. The database knows which Redis stock was made from its row (the
//! incarnation) and how many units of it are recorded; a replica sells over a connection only when
//! both fit, and a stock that does not fit is made anew from the database, under a lock
//! ([`reconciler`]). What the database has left plus what it has recorded is what Redis was given: so
//! the two are compared exactly at any moment, and what is given later (restock, a cancelled
//! order) reaches Redis the same way.

mod barrier;
mod delete;
mod engine;
mod entry;
mod error;
mod fill;
mod keys;
mod link;
mod load;
mod queue;
mod reconciler;
mod recorder;
mod script;
mod sold;
mod stream_ends;
mod sync;
mod wait_queue;
mod worker;
mod workers;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ledger::{Ledger, Order, Product, ProductChange, Purchase};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use tracing::warn;
use uuid::Uuid;

use self::engine::AtomicEngine;
use self::queue::{Queue, Waiting};
use self::script::Scripts;
use self::sold::Sold;
use self::stream_ends::StreamEnds;
use self::workers::Workers;
use crate::catalog::Catalog;
use crate::change::ChangeError;
use crate::config::LockConfig;
use crate::error::PurchaseError;
use crate::observer::Observer;
use crate::purchase::Receipt;
use crate::resource::stock_resource;

/// Decides in Redis.
#[derive(Debug)]
pub(crate) struct Atomic {
    engine: Arc<AtomicEngine>,
    workers: Workers,
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
            client: link::client(&lock.nodes)?,
            catalog,
            observer,
            scripts: Scripts::new(),
            sold: Sold::default(),
            ready: watch::Sender::default(),
            stream_ends: StreamEnds::default(),
            look: Notify::new(),
            refuses: AtomicBool::new(false),
        };
        Ok(Self { engine: Arc::new(engine), workers: Workers::new() })
    }

    /// Keeps the stores in agreement and records orders, until it is dropped.
    pub(crate) async fn keep(&self) {
        tokio::join!(self.engine.keep(), self.engine.record_sold(), self.engine.fill());
    }

    /// Buys, or says why not. Submit only for products that exist.
    pub(crate) async fn purchase(
        &self,
        product_id: &str,
        purchase: Purchase,
    ) -> Result<Receipt, PurchaseError> {
        let wait = self.engine.catalog.policy(&stock_resource(product_id)).wait_timeout;
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { purchase, deadline: Instant::now() + wait, checked: None, reply };
        if !self.queue(product_id).push(waiting) {
            return Err(PurchaseError::Overloaded { retry_after: wait });
        }
        answer.await.unwrap_or(Err(PurchaseError::Interrupted))
    }

    /// The order that this key of this buyer led to; `None` when Redis cannot tell.
    pub(crate) async fn order_by_key(&self, buyer: &str, key: &str) -> Option<Option<Order>> {
        let mut connection = self.engine.ready.borrow().connection.clone()?;
        let mut ask = redis::cmd("HMGET");
        ask.arg(keys::KEYS).arg("").arg(entry::key_field(buyer, key));
        let (complete, order): (Option<u8>, Option<String>) =
            ask.query_async(&mut connection).await.ok()?;
        match order {
            Some(order) => entry::keyed_order(&order, buyer, key).map(Some),
            None => complete.map(|_| None),
        }
    }

    /// Waits until all that was sold before is in the database, but less than a second; see
    /// [`AtomicEngine::await_recorded`].
    pub(crate) async fn await_recorded(&self, order: Option<Uuid>) -> bool {
        self.engine.await_recorded(order).await
    }

    /// Makes Redis know how many units this buyer has, before the database gives some of them back: if
    /// it learned that later, it would not be known whether they are among them. Returns the stock
    /// that knows it.
    pub(crate) async fn before_giving_back(&self, product_id: &str, buyer: &str) -> Option<i64> {
        self.engine.catalog.max_per_buyer(product_id)?;
        let deadline = Instant::now() + READY_FOR_CANCEL;
        let (mut connection, _, incarnation) = self.engine.ready_for(product_id, deadline).await?;
        let known = self.engine.know_buyer(&mut connection, (product_id, incarnation), buyer).await;
        known
            .map_err(|error| warn!(product_id, buyer, %error, "units cannot be looked up"))
            .ok()?;
        Some(incarnation)
    }

    /// The database got units of this buyer back: he may buy as many again from the stock that knew
    /// of them before, and the reconciler brings them to Redis at once.
    pub(crate) async fn given_back(
        &self,
        product_id: &str,
        (buyer, units): (&str, i64),
        incarnation: Option<i64>,
    ) {
        let connection = self.engine.ready.borrow().connection.clone();
        let limited = self.engine.catalog.max_per_buyer(product_id).is_some();
        if let Some(mut connection) = connection.filter(|_| limited) {
            let (scripts, stock) = (&self.engine.scripts, (product_id, incarnation));
            if let Err(error) = scripts.given_back(&mut connection, stock, buyer, units).await {
                warn!(product_id, buyer, units, %error, "the limit still counts what was given back");
            }
        }
        self.engine.look.notify_one();
    }

    /// Deletes a product when all that was sold of it is recorded.
    pub(crate) async fn delete(
        &self,
        change: &ProductChange,
    ) -> Result<Option<Product>, ChangeError> {
        self.engine.delete(change).await
    }

    fn queue(&self, product_id: &str) -> Arc<Queue> {
        self.workers.queue(product_id, |queue| {
            worker::serve(Arc::clone(&self.engine), product_id.to_owned(), queue)
        })
    }
}

/// How long a cancel waits for the stock that knows the buyer's units.
const READY_FOR_CANCEL: Duration = Duration::from_secs(1);
