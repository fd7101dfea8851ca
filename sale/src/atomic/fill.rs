//! What a Redis that lost its data does not know yet of buyers and keys, while it sells again.
//!
//! A stock that is made anew knows no buyer's units, and Redis may have lost the idempotency keys. All
//! of them are in the database then, because nobody sold meanwhile. So the sale goes on at once, and
//! who is not known in Redis is looked up by an index of the database when he buys, many at once
//! ([`AtomicEngine::look_up`]). Meanwhile one replica brings over all of them, page by page
//! ([`AtomicEngine::fill`]). How far it came is in Redis, so another goes on there if it dies.
//!
//! What Redis sold since is counted in Redis only, so nothing that is there is overwritten
//! (`fill.lua`, `fill_keys.lua`).

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use ledger::KeyedOrder;
use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};
use uuid::Uuid;

use super::engine::AtomicEngine;
use super::entry::key_field;
use super::error::{CALL_LIMIT, ReconcileError};
use super::keys::{CLAIM, FILLING, KEYS, stock_key};
use super::link;
use super::queue::Waiting;
use super::script::Filled;

/// Rows of a page. Redis is kept for less than a millisecond by one.
const PAGE: i64 = 1_000;
/// How often it is looked whether there is something to fill.
const LOOK: Duration = Duration::from_secs(1);

/// What Redis knows of the idempotency keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeysState {
    /// All.
    Complete,
    /// Those since this epoch began, and of the others those up to a buyer and key.
    Since { epoch: Uuid, filled: String },
    /// Nothing is known: no purchase is decided.
    Lost,
}

/// A stock in which not all buyers are known.
#[derive(Debug, PartialEq, Eq)]
struct Partial {
    product_id: String,
    incarnation: i64,
    /// All buyers up to this one are known.
    filled: String,
}

/// Incarnation, limited, filled.
type Stock = (Option<i64>, Option<u8>, Option<String>);

pub(crate) async fn keys_state(
    connection: &mut MultiplexedConnection,
) -> redis::RedisResult<KeysState> {
    let mut ask = redis::cmd("HMGET");
    ask.arg(KEYS).arg("").arg("epoch").arg("filled");
    let (complete, epoch, filled): (Option<String>, Option<String>, Option<String>) =
        ask.query_async(connection).await?;
    if complete.is_some() {
        return Ok(KeysState::Complete);
    }
    let epoch = epoch.and_then(|epoch| epoch.parse().ok());
    let since = |epoch| KeysState::Since { epoch, filled: filled.unwrap_or_default() };
    Ok(epoch.map_or(KeysState::Lost, since))
}

impl AtomicEngine {
    /// Fills in what is missing, until it is dropped.
    pub(crate) async fn fill(&self) {
        let (id, mut connection, mut reported) = (Uuid::now_v7().to_string(), None, false);
        loop {
            let begun = Instant::now();
            match self.fill_once(&id, &mut connection).await {
                // Half of the time is left to those who buy.
                Ok(true) => sleep(begun.elapsed()).await,
                Ok(false) => {
                    reported = false;
                    sleep(LOOK).await;
                }
                Err(error) => {
                    if !reported {
                        warn!(%error, "what Redis lost cannot be filled in");
                    }
                    (connection, reported) = (None, true);
                    sleep(LOOK).await;
                }
            }
        }
    }

    /// The first page, before a stock that was made anew is sold from: a small sale needs the database
    /// for no purchase then.
    pub(crate) async fn fill_first(
        &self,
        connection: &mut MultiplexedConnection,
        (product_id, incarnation): (&str, i64),
    ) -> Result<(), ReconcileError> {
        if let KeysState::Since { epoch, filled } = keys_state(connection).await?
            && filled.is_empty()
        {
            self.fill_keys(connection, epoch, &filled).await?;
        }
        if self.catalog.max_per_buyer(product_id).is_some() {
            let (product_id, filled) = (product_id.to_owned(), String::new());
            self.fill_units(connection, &[Partial { product_id, incarnation, filled }]).await?;
        }
        Ok(())
    }

    /// One page of each kind. False: nothing is missing, or another replica is at it.
    async fn fill_once(
        &self,
        id: &str,
        connection: &mut Option<MultiplexedConnection>,
    ) -> Result<bool, ReconcileError> {
        if self.ready.borrow().connection.is_none() {
            return Ok(false);
        }
        let connection = match connection {
            Some(connection) => connection,
            // Its own: purchases do not wait for a page.
            None => connection.insert(link::connect(&self.client, CALL_LIMIT).await?),
        };
        let (keys, partial) = (keys_state(connection).await?, self.partial(connection).await?);
        let keys_missing = matches!(keys, KeysState::Since { .. });
        if !keys_missing && partial.is_empty() || !claim(connection, id).await? {
            return Ok(false);
        }
        if let KeysState::Since { epoch, filled } = keys {
            self.fill_keys(connection, epoch, &filled).await?;
        }
        if !partial.is_empty() {
            self.fill_units(connection, &partial).await?;
        }
        Ok(true)
    }

    /// The stocks that this replica sells from and that do not know all buyers.
    async fn partial(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<Vec<Partial>, ReconcileError> {
        let incarnations = self.ready.borrow().incarnations.clone();
        let limited = |product: &&String| self.catalog.max_per_buyer(product).is_some();
        let limited: Vec<&String> = incarnations.keys().filter(limited).collect();
        if limited.is_empty() {
            return Ok(Vec::new());
        }
        let mut ask = redis::pipe();
        for product_id in &limited {
            ask.cmd("HMGET").arg(stock_key(product_id)).arg(&["incarnation", "limited", "filled"]);
        }
        let stocks: Vec<Stock> = ask.query_async(connection).await?;
        let partial = |(product_id, stock): (&String, Stock)| match stock {
            (Some(incarnation), Some(2), filled) => {
                let (product_id, filled) = (product_id.clone(), filled.unwrap_or_default());
                Some(Partial { product_id, incarnation, filled })
            }
            _ => None,
        };
        Ok(limited.into_iter().zip(stocks).filter_map(partial).collect())
    }

    async fn fill_keys(
        &self,
        connection: &mut MultiplexedConnection,
        epoch: Uuid,
        filled: &str,
    ) -> Result<(), ReconcileError> {
        let page = self.ledger.keyed_after(cursor(filled), PAGE).await?;
        let next = page.next.map(|(buyer, key)| key_field(&buyer, &key));
        let next = next.as_deref().map_or(Filled::Completely, Filled::UpTo);
        if self.scripts.fill_keys(connection, epoch, next, &page.orders).await?
            && next == Filled::Completely
        {
            info!("Redis knows all idempotency keys again");
        }
        Ok(())
    }

    /// From the stock that is least far on: what it needs the others need, too.
    async fn fill_units(
        &self,
        connection: &mut MultiplexedConnection,
        partial: &[Partial],
    ) -> Result<(), ReconcileError> {
        let from = partial.iter().map(|stock| stock.filled.as_str()).min().unwrap_or_default();
        let page = self.ledger.units_after(from, PAGE).await?;
        let mut by_product = BTreeMap::<String, Vec<(String, i64)>>::new();
        for (buyer, product_id, units) in page.units {
            by_product.entry(product_id).or_default().push((buyer, units));
        }
        for Partial { product_id, incarnation, filled } in partial {
            let next = match &page.next {
                Some(next) if next > filled => Filled::UpTo(next),
                Some(_) => continue,
                None => Filled::Completely,
            };
            let units = by_product.get(product_id).map(Vec::as_slice).unwrap_or_default();
            let stock = (product_id.as_str(), *incarnation);
            if self.scripts.fill(connection, stock, next, units).await?
                && next == Filled::Completely
            {
                info!(product_id, "Redis knows the units of all buyers again");
            }
        }
        Ok(())
    }

    /// Brings what the database has of these purchases' keys and buyers to Redis. The purchases whose
    /// key has no order are marked as such.
    pub(crate) async fn look_up(
        &self,
        product_id: &str,
        waiting: &mut [Waiting],
    ) -> Result<(), ReconcileError> {
        let ready = self.ready.borrow().clone();
        let Some(mut connection) = ready.connection else { return Ok(()) };
        // Before the database is read: what is sold after this is in Redis, under this epoch.
        if let KeysState::Since { epoch, .. } = keys_state(&mut connection).await? {
            self.look_up_keys(&mut connection, epoch, waiting).await?;
        }
        let limited = self.catalog.max_per_buyer(product_id).is_some();
        if let Some(incarnation) = ready.incarnations.get(product_id).filter(|_| limited) {
            let buyers: HashSet<&String> =
                waiting.iter().map(|waiting| &waiting.purchase.buyer).collect();
            let buyers: Vec<String> = buyers.into_iter().cloned().collect();
            self.look_up_units(&mut connection, (product_id, *incarnation), &buyers).await?;
        }
        Ok(())
    }

    async fn look_up_keys(
        &self,
        connection: &mut MultiplexedConnection,
        epoch: Uuid,
        waiting: &mut [Waiting],
    ) -> Result<(), ReconcileError> {
        let asked = |waiting: &Waiting| {
            Some((waiting.purchase.buyer.clone(), waiting.purchase.idempotency_key.clone()?))
        };
        let asked: Vec<(String, String)> = waiting.iter().filter_map(asked).collect();
        if !asked.is_empty() {
            let orders = self.ledger.orders_by_keys(&asked).await?;
            let orders: Vec<KeyedOrder> = orders.into_iter().filter_map(KeyedOrder::of).collect();
            self.scripts.fill_keys(connection, epoch, Filled::AsBefore, &orders).await?;
        }
        // Those that have one are found in Redis first.
        for waiting in waiting {
            waiting.checked = Some(epoch);
        }
        Ok(())
    }

    /// Brings the units of one buyer to this stock, unless it knows all buyers.
    pub(crate) async fn know_buyer(
        &self,
        connection: &mut MultiplexedConnection,
        stock: (&str, i64),
        buyer: &str,
    ) -> Result<(), ReconcileError> {
        let mut ask = redis::cmd("HGET");
        ask.arg(stock_key(stock.0)).arg("limited");
        if ask.query_async::<Option<u8>>(connection).await? == Some(2) {
            self.look_up_units(connection, stock, &[buyer.to_owned()]).await?;
        }
        Ok(())
    }

    async fn look_up_units(
        &self,
        connection: &mut MultiplexedConnection,
        stock: (&str, i64),
        buyers: &[String],
    ) -> Result<(), ReconcileError> {
        let units = self.ledger.bought_by(stock.0, buyers).await?;
        self.scripts.fill(connection, stock, Filled::AsBefore, &units).await?;
        Ok(())
    }
}

/// Buyer and key of a field of [`KEYS`]; a key has no spaces.
fn cursor(field: &str) -> (&str, &str) {
    let (key, buyer) = field.split_once(' ').unwrap_or_default();
    (buyer, key)
}

/// Whether this replica may go on filling: no other has for a while.
async fn claim(connection: &mut MultiplexedConnection, id: &str) -> Result<bool, ReconcileError> {
    let mut set = redis::cmd("SET");
    set.arg(FILLING).arg(id).arg(&["NX", "PX"]).arg(CLAIM);
    if set.query_async::<Option<String>>(connection).await?.is_some() {
        return Ok(true);
    }
    let mut ask = redis::pipe();
    ask.cmd("GET").arg(FILLING);
    let (holder,): (Option<String>,) = ask.query_async(connection).await?;
    if holder.as_deref() != Some(id) {
        return Ok(false);
    }
    // Two at it, because one was slow, do the same work, and nothing wrong.
    redis::cmd("PEXPIRE").arg(FILLING).arg(CLAIM).query_async::<i64>(connection).await?;
    Ok(true)
}
