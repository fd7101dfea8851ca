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
//! ([`keeper`]). What the database has left plus what it has recorded is what Redis was given: so
//! the two are compared exactly at any moment, and what is given later (restock, a cancelled
//! order) reaches Redis the same way.

mod barrier;
mod delete;
mod entry;
mod fill;
mod keeper;
mod line;
mod lines;
mod link;
mod load;
mod queue;
mod recorder;
mod script;
mod sold;
mod wait_queue;

/// What `wait_queue` is made of; its test puts a model checker's types here.
mod sync {
    pub(super) use std::sync::{Mutex, MutexGuard, PoisonError};

    pub(super) use tokio::sync::Notify;
}

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use tracing::warn;
use uuid::Uuid;

use super::catalog::Catalog;
use super::change::ChangeError;
use super::{PurchaseError, Receipt, stock_resource};
use crate::config::LockConfig;
use crate::ledger::{Ledger, Order, Product, ProductChange, Purchase};
use crate::metrics::Metrics;
use barrier::Barrier;
use lines::Lines;
use queue::{Queue, Waiting};
use script::Scripts;
use sold::Sold;

/// Orders of one product that may wait to be recorded: what the database may be behind.
const MOST_UNRECORDED: usize = 200_000;

/// Decides in Redis.
#[derive(Debug)]
pub(super) struct Atomic {
    core: Arc<Core>,
    lines: Lines,
}

/// What the lines, the keeper and the recorder share.
#[derive(Debug)]
struct Core {
    ledger: Ledger,
    redlock: redlock::Redlock,
    policy: redlock::Policy,
    client: redis::Client,
    catalog: Arc<Catalog>,
    metrics: Arc<Metrics>,
    scripts: Scripts,
    sold: Sold,
    ready: watch::Sender<Ready>,
    barrier: Barrier,
    /// Wakes the keeper before its time.
    look: Notify,
    /// Redis refused the last purchase, and that was told.
    refuses: AtomicBool,
}

/// From what this replica may sell now.
#[derive(Debug, Clone, Default)]
struct Ready {
    connection: Option<MultiplexedConnection>,
    /// Counts the connections.
    generation: u64,
    /// By product.
    incarnations: HashMap<String, i64>,
}

impl Atomic {
    pub(super) fn new(
        ledger: Ledger,
        redlock: redlock::Redlock,
        lock: &LockConfig,
        catalog: Arc<Catalog>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, redis::RedisError> {
        let core = Core {
            ledger,
            redlock,
            policy: redlock::Policy { order: redlock::Order::Unordered, ..lock.policy },
            client: link::client(&lock.nodes)?,
            catalog,
            metrics,
            scripts: Scripts::new(),
            sold: Sold::default(),
            ready: watch::Sender::default(),
            barrier: Barrier::default(),
            look: Notify::new(),
            refuses: AtomicBool::new(false),
        };
        Ok(Self { core: Arc::new(core), lines: Lines::new() })
    }

    /// Keeps the stores in agreement and records orders, until it is dropped.
    pub(super) async fn keep(&self) {
        tokio::join!(self.core.keep(), self.core.record_sold(), self.core.fill());
    }

    /// Buys, or says why not. Submit only for products that exist.
    pub(super) async fn purchase(
        &self,
        product_id: &str,
        purchase: Purchase,
    ) -> Result<Receipt, PurchaseError> {
        let wait = self.core.catalog.policy(&stock_resource(product_id)).wait_timeout;
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { purchase, deadline: Instant::now() + wait, checked: None, reply };
        if !self.queue(product_id).push(waiting) {
            return Err(PurchaseError::Overloaded { retry_after: wait });
        }
        answer.await.unwrap_or(Err(PurchaseError::Interrupted))
    }

    /// The order that this key of this buyer led to; `None` when Redis cannot tell.
    pub(super) async fn order_by_key(&self, buyer: &str, key: &str) -> Option<Option<Order>> {
        let mut connection = self.core.ready.borrow().connection.clone()?;
        let mut ask = redis::cmd("HMGET");
        ask.arg(script::KEYS).arg("").arg(entry::key_field(buyer, key));
        let (complete, order): (Option<u8>, Option<String>) =
            ask.query_async(&mut connection).await.ok()?;
        match order {
            Some(order) => entry::keyed_order(&order, buyer, key).map(Some),
            None => complete.map(|_| None),
        }
    }

    /// Waits until all that was sold before is in the database, but less than a second; see
    /// [`Core::await_recorded`].
    pub(super) async fn await_recorded(&self, order: Option<Uuid>) -> bool {
        self.core.await_recorded(order).await
    }

    /// Makes Redis know how many units this buyer has, before the database gives some of them back: if
    /// it learned that later, it would not be known whether they are among them. Returns the stock
    /// that knows it.
    pub(super) async fn before_giving_back(&self, product_id: &str, buyer: &str) -> Option<i64> {
        self.core.catalog.max_per_buyer(product_id)?;
        let deadline = Instant::now() + READY_FOR_CANCEL;
        let (mut connection, _, incarnation) = self.core.ready_for(product_id, deadline).await?;
        let known = self.core.know_buyer(&mut connection, (product_id, incarnation), buyer).await;
        known
            .map_err(|error| warn!(product_id, buyer, %error, "units cannot be looked up"))
            .ok()?;
        Some(incarnation)
    }

    /// The database got units of this buyer back: he may buy as many again from the stock that knew
    /// of them before, and the keeper brings them to Redis at once.
    pub(super) async fn given_back(
        &self,
        product_id: &str,
        (buyer, units): (&str, i64),
        incarnation: Option<i64>,
    ) {
        let connection = self.core.ready.borrow().connection.clone();
        let limited = self.core.catalog.max_per_buyer(product_id).is_some();
        if let Some(mut connection) = connection.filter(|_| limited) {
            let (scripts, stock) = (&self.core.scripts, (product_id, incarnation));
            if let Err(error) = scripts.given_back(&mut connection, stock, buyer, units).await {
                warn!(product_id, buyer, units, %error, "the limit still counts what was given back");
            }
        }
        self.core.look.notify_one();
    }

    /// Deletes a product when all that was sold of it is recorded.
    pub(super) async fn delete(
        &self,
        change: &ProductChange,
    ) -> Result<Option<Product>, ChangeError> {
        self.core.delete(change).await
    }

    fn queue(&self, product_id: &str) -> Arc<Queue> {
        self.lines.queue(product_id, |queue| {
            line::serve(Arc::clone(&self.core), product_id.to_owned(), queue)
        })
    }
}

impl Core {
    /// The connection and incarnation to sell a product with; `None`: not before the deadline.
    async fn ready_for(
        &self,
        product_id: &str,
        deadline: Instant,
    ) -> Option<(MultiplexedConnection, u64, i64)> {
        let mut ready = self.ready.subscribe();
        let there = |ready: &Ready| {
            ready.connection.is_some() && ready.incarnations.contains_key(product_id)
        };
        let ready = tokio::time::timeout_at(deadline, ready.wait_for(there)).await.ok()?.ok()?;
        let incarnation = *ready.incarnations.get(product_id)?;
        Some((ready.connection.clone()?, ready.generation, incarnation))
    }

    /// Nothing is sold over this connection any more.
    fn lost(&self, generation: u64, error: &redis::RedisError) {
        let lost = self.ready.send_if_modified(|ready| {
            let is_it = ready.generation == generation && ready.connection.is_some();
            if is_it {
                ready.connection = None;
                ready.incarnations.clear();
            }
            is_it
        });
        if lost {
            warn!(%error, "the Redis node that decides is lost");
            self.look.notify_one();
        }
    }

    /// Nothing is sold from this stock until the keeper has looked at it.
    fn unfit(&self, product_id: &str, incarnation: i64) {
        self.ready.send_if_modified(|ready| {
            let is_it = ready.incarnations.get(product_id) == Some(&incarnation);
            if is_it {
                ready.incarnations.remove(product_id);
            }
            is_it
        });
        self.look.notify_one();
    }
}

/// How long a cancel waits for the stock that knows the buyer's units.
const READY_FOR_CANCEL: Duration = Duration::from_secs(1);
/// How long one call may take that is no purchase.
const CALL_LIMIT: Duration = Duration::from_secs(5);
