//! Records what Redis decided, some hundred orders in one transaction: every replica what it sold
//! itself, from memory ([`super::sold`]). An entry leaves its stream when its orders are committed.
//!
//! What stays in a stream was left behind: by a replica that died, that lost its connection before it
//! heard what it had sold, or that the database kept waiting for too long. Every replica looks for
//! that, and one of them records what is not there yet.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures::future::try_join_all;
use ledger::{DecidedOrder, LedgerError, Recorded};
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamId, StreamRangeReply};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, warn};

use super::engine::AtomicEngine;
use super::entry::{Done, Entry};
use super::error::{CALL_LIMIT, ReconcileError};
use super::keys::{CLAIM, recording_key, stream_key};
use super::link;

/// Entries that are read at once.
pub(crate) const READ: usize = 128;
/// Orders that are worth a transaction of their own.
const TRANSACTION: usize = 2_048;
/// How long orders are left to gather: a transaction has its price, and what is taken off a stream
/// costs Redis a write to its disk, which purchases wait for.
const GATHER: Duration = Duration::from_millis(50);
/// How often each stream is looked at. What was there at one look and still is at the next was left
/// behind: so no clock but this replica's own matters.
const LOOK: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(250);

/// What one loop of [`AtomicEngine::record_sold`] knows.
struct Recorder {
    /// Its own: purchases do not wait for what it reads.
    connection: Option<MultiplexedConnection>,
    look_due: Instant,
    /// The last entry of each product's stream at the last look.
    seen: HashMap<String, String>,
}

impl AtomicEngine {
    pub(crate) async fn record_sold(&self) {
        let (look_due, seen) = (Instant::now(), HashMap::new());
        let mut recorder = Recorder { connection: None, look_due, seen };
        let mut reported = false;
        loop {
            let gathered = Instant::now() + GATHER;
            match self.record_once(&mut recorder).await {
                Ok(()) => reported = false,
                Err(error) => {
                    if !reported {
                        warn!(%error, "orders wait to be recorded");
                    }
                    reported = true;
                    if matches!(&error, ReconcileError::Redis(error) if is_over(error)) {
                        recorder.connection = None;
                    }
                    sleep(RETRY).await;
                }
            }
            tokio::select! {
                () = self.sold.more() => sleep_until(gathered).await,
                () = sleep_until(recorder.look_due) => {}
            }
        }
    }

    /// Records what there is in memory, and what was left behind if it is time to look for it. After
    /// an error what was in memory is forgotten: it is in the stream.
    async fn record_once(&self, recorder: &mut Recorder) -> Result<(), ReconcileError> {
        let mut done = Vec::new();
        let mut result = Ok(());
        for (product_id, entries) in self.sold.take() {
            result = self.record_entries(&product_id, entries, &mut done).await;
            if result.is_err() {
                break;
            }
        }
        // In the database, whatever becomes of the rest and of Redis.
        if !done.is_empty() {
            let connection = self.recorder_connection(recorder).await?;
            self.take_off(&connection, &done).await?;
        }
        result?;
        if recorder.look_due <= Instant::now() {
            let looked = self.look_for_left(recorder).await;
            // From its end, or what it saw at the end would count as left behind too soon.
            recorder.look_due = Instant::now() + LOOK;
            looked?;
        }
        Ok(())
    }

    async fn recorder_connection(
        &self,
        recorder: &mut Recorder,
    ) -> RedisResult<MultiplexedConnection> {
        if let Some(connection) = &recorder.connection {
            return Ok(connection.clone());
        }
        let connection = link::connect(&self.client, CALL_LIMIT).await?;
        Ok(recorder.connection.insert(connection).clone())
    }

    /// Records what is in the streams since the last look.
    async fn look_for_left(&self, recorder: &mut Recorder) -> Result<(), ReconcileError> {
        let mut connection = self.recorder_connection(recorder).await?;
        for product_id in self.catalog.ids() {
            if let Some(seen) = recorder.seen.get(&product_id) {
                self.record_until(&mut connection, &product_id, seen).await?;
            }
            let last: StreamRangeReply = redis::cmd("XREVRANGE")
                .arg(stream_key(&product_id))
                .arg(&["+", "-", "COUNT", "1"])
                .query_async(&mut connection)
                .await?;
            match last.ids.into_iter().next() {
                Some(last) => recorder.seen.insert(product_id, last.id),
                None => recorder.seen.remove(&product_id),
            };
        }
        Ok(())
    }

    /// Records what is in this stream up to this entry, unless another replica does that.
    async fn record_until(
        &self,
        connection: &mut MultiplexedConnection,
        product_id: &str,
        seen: &str,
    ) -> Result<(), ReconcileError> {
        let (mut after, mut begun) = ("-".to_owned(), false);
        let mut recorded = Ok(());
        while recorded.is_ok() {
            let mut left: StreamRangeReply = redis::cmd("XRANGE")
                .arg(stream_key(product_id))
                .arg(&[&after, seen, "COUNT"])
                .arg(READ)
                .query_async(connection)
                .await?;
            let Some(last) = left.ids.last() else { break };
            after = format!("({}", last.id);
            let own = self.sold.ids(product_id);
            left.ids.retain(|entry| !own.contains(&entry.id));
            if left.ids.is_empty() {
                continue;
            }
            if !begun {
                let mut say_so = redis::cmd("SET");
                say_so.arg(recording_key(product_id)).arg(&["1", "NX", "PX"]).arg(CLAIM);
                if say_so.query_async::<Option<String>>(connection).await?.is_none() {
                    return Ok(());
                }
                begun = true;
            }
            let mut done = Vec::new();
            recorded = self.record_left(product_id, left.ids, &mut done).await.map(|_| ());
            self.take_off(connection, &done).await?;
        }
        if begun {
            redis::cmd("DEL").arg(recording_key(product_id)).query_async::<()>(connection).await?;
        }
        recorded
    }

    /// Records these entries of a product's stream. False: a later replica has to, for some of them.
    pub(crate) async fn record_left(
        &self,
        product_id: &str,
        entries: Vec<StreamId>,
        done: &mut Vec<Done>,
    ) -> Result<bool, ReconcileError> {
        let mut all = true;
        let mut read = Vec::new();
        for entry in entries {
            match Entry::read(entry) {
                Ok(entry) => {
                    if entry.orders.is_empty() {
                        error!(
                            product_id,
                            entry.id, "an entry of the stream has no orders: dropped"
                        );
                    }
                    read.push(entry);
                }
                Err(entry) => {
                    error!(product_id, entry, "an entry of the stream is a later version's: left");
                    all = false;
                }
            }
        }
        self.record_entries(product_id, read, done).await?;
        Ok(all)
    }

    async fn record_entries(
        &self,
        product_id: &str,
        entries: Vec<Entry>,
        done: &mut Vec<Done>,
    ) -> Result<(), LedgerError> {
        let mut by_incarnation: BTreeMap<i64, Vec<Entry>> = BTreeMap::new();
        for entry in entries {
            by_incarnation.entry(entry.incarnation).or_default().push(entry);
        }
        for (incarnation, mut rest) in by_incarnation {
            while !rest.is_empty() {
                let others = rest.split_off(worth_a_transaction(&rest));
                let entries = std::mem::replace(&mut rest, others);
                let orders = entries.iter().flat_map(|entry| &entry.orders).collect();
                let Recorded { new, refused } =
                    self.record(product_id, incarnation, orders).await?;
                self.observer.recorded(new, refused.len());
                for order in &refused {
                    error!(product_id, %order, "the database cannot take an order that was sold");
                }
                let product_id = product_id.to_owned();
                done.push(Done { product_id, incarnation, entries, refused });
            }
        }
        Ok(())
    }

    /// Takes these entries off their streams.
    pub(crate) async fn take_off(
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
