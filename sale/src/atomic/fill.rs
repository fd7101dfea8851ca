//! Fills in buyers and keys after Redis lost its data, while the sale goes on.
//!
//! A rebuilt stock has no units by buyer, and Redis may have lost the idempotency keys. The database
//! then has all of them, because nothing was sold meanwhile. So the sale goes on at once. Purchases by
//! unknown buyers or with unknown keys are looked up by an index of the database, many in one query
//! ([`AtomicEngine::look_up`]). Meanwhile one replica copies everything, page by page
//! ([`AtomicEngine::run_filler`]). Its progress is in Redis, so another replica continues if it dies.
//!
//! What is said of buyers here holds for limit keys too: units are counted by both, in the same hash.
//!
//! Values in Redis are never overwritten, because they count later sales (`fill.lua`,
//! `fill_keys.lua`).

use std::collections::{BTreeMap, HashSet};
use std::iter;
use std::time::Duration;

use ledger::KeyedOrder;
use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};
use uuid::Uuid;

use super::engine::AtomicEngine;
use super::entry::key_field;
use super::error::{CALL_LIMIT, ReconcileError};
use super::keys::{CLAIM_MILLIS, FILLING, KEYS, stock_key};
use super::link;
use super::queue::QueuedPurchase;
use super::script::FillProgress;

/// Rows of a page. Writing one blocks Redis for less than a millisecond.
const PAGE: i64 = 1_000;
/// How often to check whether data are missing.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The idempotency keys that Redis has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeysState {
    /// All keys.
    Complete,
    /// All keys since this epoch began, and the earlier ones up to the buyer and key `filled`.
    Partial { epoch: Uuid, filled: String },
    /// None: no purchase with a key can be decided.
    Lost,
}

/// A stock that lacks units of some buyers.
#[derive(Debug, PartialEq, Eq)]
struct PartialStock {
    product_id: String,
    incarnation: i64,
    /// The units of all buyers up to this one are there.
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
    let since = |epoch| KeysState::Partial { epoch, filled: filled.unwrap_or_default() };
    Ok(epoch.map_or(KeysState::Lost, since))
}

impl AtomicEngine {
    /// Fills in missing data, until the future is dropped.
    pub(crate) async fn run_filler(&self) {
        let (id, mut connection, mut reported) = (Uuid::now_v7().to_string(), None, false);
        loop {
            let begun = Instant::now();
            match self.fill_once(&id, &mut connection).await {
                // Leaves half of the time to purchases.
                Ok(true) => sleep(begun.elapsed()).await,
                Ok(false) => {
                    reported = false;
                    sleep(CHECK_EVERY).await;
                }
                Err(error) => {
                    if !reported {
                        warn!(%error, "what Redis lost cannot be filled in");
                    }
                    (connection, reported) = (None, true);
                    sleep(CHECK_EVERY).await;
                }
            }
        }
    }

    /// Fills the first page of a rebuilt stock before it is sold from. So a small sale needs the
    /// database for no purchase.
    pub(crate) async fn fill_first_page(
        &self,
        connection: &mut MultiplexedConnection,
        (product_id, incarnation): (&str, i64),
    ) -> Result<(), ReconcileError> {
        if let KeysState::Partial { epoch, filled } = keys_state(connection).await?
            && filled.is_empty()
        {
            self.fill_keys(connection, epoch, &filled).await?;
        }
        if self.catalog.max_per_buyer(product_id).is_some() {
            let (product_id, filled) = (product_id.to_owned(), String::new());
            self.fill_units(connection, &[PartialStock { product_id, incarnation, filled }])
                .await?;
        }
        Ok(())
    }

    /// Fills one page of keys and one of units. False: nothing is missing, or another replica fills.
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
            // A connection of its own: purchases do not wait for a page.
            None => connection.insert(link::connect(&self.endpoint, CALL_LIMIT).await?),
        };
        let (keys, partial) = (keys_state(connection).await?, self.partial(connection).await?);
        let keys_missing = matches!(keys, KeysState::Partial { .. });
        if !keys_missing && partial.is_empty() || !claim(connection, id).await? {
            return Ok(false);
        }
        if let KeysState::Partial { epoch, filled } = keys {
            self.fill_keys(connection, epoch, &filled).await?;
        }
        if !partial.is_empty() {
            self.fill_units(connection, &partial).await?;
        }
        Ok(true)
    }

    /// The stocks that this replica sells from and that lack some buyers.
    async fn partial(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<Vec<PartialStock>, ReconcileError> {
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
                Some(PartialStock { product_id, incarnation, filled })
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
        let next = next.as_deref().map_or(FillProgress::Complete, FillProgress::UpTo);
        if self.scripts.fill_keys(connection, epoch, next, &page.orders).await?
            && next == FillProgress::Complete
        {
            info!("Redis knows all idempotency keys again");
        }
        Ok(())
    }

    /// Begins at the stock with the least progress; the other stocks need the same page.
    async fn fill_units(
        &self,
        connection: &mut MultiplexedConnection,
        partial: &[PartialStock],
    ) -> Result<(), ReconcileError> {
        let from = partial.iter().map(|stock| stock.filled.as_str()).min().unwrap_or_default();
        let page = self.ledger.units_after(from, PAGE).await?;
        let mut by_product = BTreeMap::<String, Vec<(String, i64)>>::new();
        for (buyer, product_id, units) in page.units {
            by_product.entry(product_id).or_default().push((buyer, units));
        }
        for PartialStock { product_id, incarnation, filled } in partial {
            let next = match &page.next {
                Some(next) if next > filled => FillProgress::UpTo(next),
                Some(_) => continue,
                None => FillProgress::Complete,
            };
            let units = by_product.get(product_id).map(Vec::as_slice).unwrap_or_default();
            let stock = (product_id.as_str(), *incarnation);
            if self.scripts.fill(connection, stock, next, units).await?
                && next == FillProgress::Complete
            {
                info!(product_id, "Redis knows the units of all buyers again");
            }
        }
        Ok(())
    }

    /// Copies the keys and units of these purchases from the database to Redis, and marks the
    /// purchases whose key has no order.
    pub(crate) async fn look_up(
        &self,
        product_id: &str,
        purchases: &mut [QueuedPurchase],
    ) -> Result<(), ReconcileError> {
        let ready = self.ready.borrow().clone();
        let Some(mut connection) = ready.connection else { return Ok(()) };
        // Read before the database: a later sale is in Redis, under this epoch.
        if let KeysState::Partial { epoch, .. } = keys_state(&mut connection).await? {
            self.look_up_keys(&mut connection, epoch, purchases).await?;
        }
        let limited = self.catalog.max_per_buyer(product_id).is_some();
        if let Some(incarnation) = ready.incarnations.get(product_id).filter(|_| limited) {
            let purchases = purchases.iter().map(|queued| &queued.purchase);
            let names = purchases.flat_map(|it| iter::once(&it.buyer).chain(&it.limit_key));
            let names: HashSet<&String> = names.collect();
            let names: Vec<String> = names.into_iter().cloned().collect();
            self.look_up_units(&mut connection, (product_id, *incarnation), &names).await?;
        }
        Ok(())
    }

    async fn look_up_keys(
        &self,
        connection: &mut MultiplexedConnection,
        epoch: Uuid,
        purchases: &mut [QueuedPurchase],
    ) -> Result<(), ReconcileError> {
        let asked = |queued: &QueuedPurchase| {
            Some((queued.purchase.buyer.clone(), queued.purchase.idempotency_key.clone()?))
        };
        let asked: Vec<(String, String)> = purchases.iter().filter_map(asked).collect();
        if !asked.is_empty() {
            let orders = self.ledger.orders_by_keys(&asked).await?;
            let orders: Vec<KeyedOrder> = orders.into_iter().filter_map(KeyedOrder::of).collect();
            self.scripts.fill_keys(connection, epoch, FillProgress::Unchanged, &orders).await?;
        }
        // Keys with an order are found in Redis first.
        for queued in purchases {
            queued.checked = Some(epoch);
        }
        Ok(())
    }

    /// Copies the units of these names, a buyer's or limit keys, to this stock, unless the stock has all.
    pub(crate) async fn fill_names(
        &self,
        connection: &mut MultiplexedConnection,
        stock: (&str, i64),
        names: &[String],
    ) -> Result<(), ReconcileError> {
        let mut ask = redis::cmd("HGET");
        ask.arg(stock_key(stock.0)).arg("limited");
        if ask.query_async::<Option<u8>>(connection).await? == Some(2) {
            self.look_up_units(connection, stock, names).await?;
        }
        Ok(())
    }

    async fn look_up_units(
        &self,
        connection: &mut MultiplexedConnection,
        stock: (&str, i64),
        names: &[String],
    ) -> Result<(), ReconcileError> {
        let units = self.ledger.bought_by(stock.0, names).await?;
        self.scripts.fill(connection, stock, FillProgress::Unchanged, &units).await?;
        Ok(())
    }
}

/// Buyer and key of a field of [`KEYS`]; a key has no spaces.
fn cursor(field: &str) -> (&str, &str) {
    let (key, buyer) = field.split_once(' ').unwrap_or_default();
    (buyer, key)
}

/// Whether this replica may fill: no other one has done so for a while.
async fn claim(connection: &mut MultiplexedConnection, id: &str) -> Result<bool, ReconcileError> {
    let mut set = redis::cmd("SET");
    set.arg(FILLING).arg(id).arg(&["NX", "PX"]).arg(CLAIM_MILLIS);
    if set.query_async::<Option<String>>(connection).await?.is_some() {
        return Ok(true);
    }
    let mut ask = redis::pipe();
    ask.cmd("GET").arg(FILLING);
    let (holder,): (Option<String>,) = ask.query_async(connection).await?;
    if holder.as_deref() != Some(id) {
        return Ok(false);
    }
    // If two replicas fill because one was slow, they do the same work twice, which is harmless.
    redis::cmd("PEXPIRE").arg(FILLING).arg(CLAIM_MILLIS).query_async::<i64>(connection).await?;
    Ok(true)
}
