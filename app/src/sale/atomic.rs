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

mod delete;
mod entry;
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

use super::catalog::Catalog;
use super::change::ChangeError;
use super::{PurchaseError, Receipt, stock_resource};
use crate::config::LockConfig;
use crate::ledger::{Ledger, Order, Product, ProductChange, Purchase};
use crate::metrics::Metrics;
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
            look: Notify::new(),
            refuses: AtomicBool::new(false),
        };
        Ok(Self { core: Arc::new(core), lines: Lines::new() })
    }

    /// Keeps the stores in agreement and records orders, until it is dropped.
    pub(super) async fn keep(&self) {
        tokio::join!(self.core.keep(), self.core.record_sold());
    }

    /// Buys, or says why not. Submit only for products that exist.
    pub(super) async fn purchase(
        &self,
        product_id: &str,
        purchase: Purchase,
    ) -> Result<Receipt, PurchaseError> {
        let wait = self.core.catalog.policy(&stock_resource(product_id)).wait_timeout;
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { purchase, deadline: Instant::now() + wait, reply };
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

    /// The database got units of this buyer back: he may buy as many again, and the keeper brings
    /// them to Redis at once.
    pub(super) async fn given_back(&self, product_id: &str, buyer: &str, units: i64) {
        let connection = self.core.ready.borrow().connection.clone();
        let limited = self.core.catalog.max_per_buyer(product_id).is_some();
        if let Some(mut connection) = connection.filter(|_| limited) {
            let mut lower = redis::cmd("HINCRBY");
            lower.arg(script::bought_key(product_id)).arg(buyer).arg(-units);
            if let Err(error) = lower.query_async::<i64>(&mut connection).await {
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

/// How long one call may take that is no purchase.
const CALL_LIMIT: Duration = Duration::from_secs(5);
