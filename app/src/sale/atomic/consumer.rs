//! Records what Redis decided: every replica takes its share of the streams and writes it to the
//! database, some hundred orders in one transaction. An entry leaves its stream when its orders are
//! committed. A consumer that dies in between leaves its entries to the others, who record what is
//! not there yet.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use futures::future::try_join_all;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamAutoClaimReply, StreamId, StreamReadReply};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, warn};
use uuid::Uuid;

use super::entry::Entry;
use super::keeper::KeepError;
use super::script::{GROUP, stream_key};
use super::{CALL_LIMIT, Core, link};
use crate::ledger::{DecidedOrder, LedgerError, Recorded};

/// Entries that are read at once.
pub(super) const READ: usize = 128;
/// Orders that are worth a transaction of their own.
const TRANSACTION: usize = 2_048;
/// How long orders are left to gather: what is read and taken off costs Redis a write to its disk,
/// which purchases wait for.
const GATHER: Duration = Duration::from_millis(20);
/// How long a read waits for entries before it looks for new products and dead consumers.
const BLOCK: Duration = Duration::from_millis(500);
/// An entry that was read so long ago and is still there belongs to a consumer that died, or to a
/// database that failed.
const ABANDONED_AFTER: Duration = Duration::from_secs(2);
const CLAIM_EVERY: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(250);

/// Entries of one product and incarnation whose orders the database has, or cannot take.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) product_id: String,
    pub(super) incarnation: i64,
    pub(super) entries: Vec<Entry>,
    /// Orders that it cannot take.
    pub(super) refused: Vec<Uuid>,
}

/// A consumer and what it reads from.
struct Consumer {
    name: String,
    connection: MultiplexedConnection,
    /// Products whose group is known to be there.
    grouped: HashSet<String>,
    claim_due: Instant,
}

impl Core {
    pub(super) async fn consume(&self) {
        let name = format!("{:016x}", rand::random::<u64>());
        let mut reported = false;
        loop {
            // A connection of its own: its reads block.
            match link::connect(&self.client, BLOCK + CALL_LIMIT).await {
                Ok(connection) => {
                    reported = false;
                    let (name, grouped) = (name.clone(), HashSet::new());
                    let claim_due = Instant::now();
                    let mut consumer = Consumer { name, connection, grouped, claim_due };
                    while let Err(error) = self.consume_once(&mut consumer).await {
                        warn!(%error, "orders wait to be recorded");
                        consumer.grouped.clear();
                        sleep(RETRY).await;
                        if matches!(&error, KeepError::Redis(error) if is_over(error)) {
                            break;
                        }
                    }
                }
                Err(error) => {
                    if !reported {
                        warn!(%error, "cannot read the streams of orders");
                    }
                    reported = true;
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// Reads and records until something fails. What is recorded by then and not taken off is claimed
    /// later, and found to be recorded.
    async fn consume_once(&self, consumer: &mut Consumer) -> Result<(), KeepError> {
        let mut done = Vec::new();
        loop {
            let products = self.catalog.ids();
            if products.is_empty() {
                sleep(RETRY).await;
                continue;
            }
            for product_id in &products {
                consumer.join(product_id).await?;
            }
            if consumer.claim_due <= Instant::now() {
                consumer.claim_due = Instant::now() + CLAIM_EVERY;
                for product_id in &products {
                    let abandoned = consumer.claim(product_id).await?;
                    self.record_entries(product_id, abandoned, &mut done).await?;
                }
            }
            // In one message, so that Redis writes to its disk once.
            let connection = consumer.connection.clone();
            let take_off = self.take_off(&connection, &done);
            let (done_with, read) = tokio::join!(biased; take_off, consumer.read(&products));
            done_with?;
            done.clear();
            let (read, gathered) = (read?, Instant::now() + GATHER);
            let all = read.iter().all(|(_, entries)| entries.len() < READ);
            for (product_id, entries) in read {
                self.record_entries(&product_id, entries, &mut done).await?;
            }
            if all {
                sleep_until(gathered).await;
            }
        }
    }

    /// Records these entries of a product's stream. False: a later replica has to, for some of them.
    pub(super) async fn record_entries(
        &self,
        product_id: &str,
        entries: Vec<StreamId>,
        done: &mut Vec<Done>,
    ) -> Result<bool, KeepError> {
        let mut all = true;
        let mut by_incarnation: BTreeMap<i64, Vec<Entry>> = BTreeMap::new();
        for entry in entries {
            match Entry::read(entry) {
                Ok(entry) => {
                    if entry.orders.is_empty() {
                        error!(
                            product_id,
                            entry.id, "an entry of the stream has no orders: dropped"
                        );
                    }
                    by_incarnation.entry(entry.incarnation).or_default().push(entry);
                }
                Err(entry) => {
                    error!(product_id, entry, "an entry of the stream is a later version's: left");
                    all = false;
                }
            }
        }
        for (incarnation, mut rest) in by_incarnation {
            while !rest.is_empty() {
                let others = rest.split_off(worth_a_transaction(&rest));
                let entries = std::mem::replace(&mut rest, others);
                let orders = entries.iter().flat_map(|entry| &entry.orders).collect();
                let Recorded { new, refused } =
                    self.record(product_id, incarnation, orders).await?;
                self.metrics.stores().recorded(new, refused.len());
                for order in &refused {
                    error!(product_id, %order, "the database cannot take an order that was sold");
                }
                let product_id = product_id.to_owned();
                done.push(Done { product_id, incarnation, entries, refused });
            }
        }
        Ok(all)
    }

    /// Takes these entries off their streams.
    pub(super) async fn take_off(
        &self,
        connection: &MultiplexedConnection,
        done: &[Done],
    ) -> RedisResult<()> {
        try_join_all(done.iter().map(|done| self.scripts.recorded(connection.clone(), done)))
            .await?;
        Ok(())
    }

    /// All together; one by one when the database refuses that, to find the one it refuses.
    async fn record(
        &self,
        product_id: &str,
        incarnation: i64,
        orders: Vec<&DecidedOrder>,
    ) -> Result<Recorded, LedgerError> {
        match self.ledger.record(product_id, incarnation, orders.clone()).await {
            Err(error) if error.is_refused_by_a_rule() => {}
            recorded => return recorded,
        }
        let mut all = Recorded::default();
        for order in orders {
            match self.ledger.record(product_id, incarnation, vec![order]).await {
                Ok(Recorded { new, refused }) => {
                    all.new += new;
                    all.refused.extend(refused);
                }
                Err(error) if error.is_refused_by_a_rule() => {
                    error!(product_id, order = %order.id, %error, "not recorded");
                    all.refused.push(order.id);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }
}

impl Consumer {
    /// Makes the stream and its group if they are not there.
    async fn join(&mut self, product_id: &str) -> RedisResult<()> {
        if self.grouped.contains(product_id) {
            return Ok(());
        }
        let made = redis::cmd("XGROUP")
            .arg("CREATE")
            .arg(stream_key(product_id))
            .arg(GROUP)
            .arg("0")
            .arg("MKSTREAM")
            .query_async::<()>(&mut self.connection)
            .await;
        match made {
            Err(error) if error.code() != Some("BUSYGROUP") => return Err(error),
            _ => {}
        }
        self.grouped.insert(product_id.to_owned());
        Ok(())
    }

    /// Entries that another consumer, or this one, has read and not recorded.
    async fn claim(&mut self, product_id: &str) -> RedisResult<Vec<StreamId>> {
        let claimed: StreamAutoClaimReply = redis::cmd("XAUTOCLAIM")
            .arg(stream_key(product_id))
            .arg(GROUP)
            .arg(&self.name)
            .arg(u64::try_from(ABANDONED_AFTER.as_millis()).unwrap_or(u64::MAX))
            .arg("0")
            .arg("COUNT")
            .arg(READ)
            .query_async(&mut self.connection)
            .await?;
        if claimed.claimed.len() == READ {
            // There may be more.
            self.claim_due = Instant::now();
        }
        Ok(claimed.claimed)
    }

    /// New entries, by product.
    async fn read(&mut self, products: &[String]) -> RedisResult<Vec<(String, Vec<StreamId>)>> {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg(&self.name).arg("COUNT").arg(READ);
        read.arg("BLOCK").arg(u64::try_from(BLOCK.as_millis()).unwrap_or(u64::MAX)).arg("STREAMS");
        for product_id in products {
            read.arg(stream_key(product_id));
        }
        for _ in products {
            read.arg(">");
        }
        let reply: Option<StreamReadReply> = read.query_async(&mut self.connection).await?;
        let keys = reply.map(|reply| reply.keys).unwrap_or_default();
        let product = |key: &str| key.strip_prefix("orders:").unwrap_or(key).to_owned();
        Ok(keys.into_iter().map(|stream| (product(&stream.key), stream.ids)).collect())
    }
}

/// How many of these entries go into one transaction: at least one.
fn worth_a_transaction(entries: &[Entry]) -> usize {
    let mut orders = 0;
    let enough = entries.iter().position(|entry| {
        orders += entry.orders.len();
        orders >= TRANSACTION
    });
    enough.map_or(entries.len(), |last| last + 1)
}

/// Whether the connection is of no use any more.
fn is_over(error: &redis::RedisError) -> bool {
    error.is_io_error() || error.is_connection_dropped() || error.is_timeout()
}
