//! Records orders that Redis decided, some hundreds in one transaction. Each replica records its own
//! sales from memory ([`super::unrecorded`]). An entry leaves its stream when its orders are
//! committed.
//!
//! An entry that stays in a stream was abandoned: by a replica that died, by one that lost its
//! connection before the reply, or because the database was too slow. Every replica scans for such
//! entries, and one of them records the missing orders.

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
use super::entry::{Entry, RecordedEntries};
use super::error::{CALL_LIMIT, ReconcileError};
use super::keys::{CLAIM_MILLIS, recording_key, stream_key};
use super::link;

/// Entries of one read.
pub(crate) const PAGE: usize = 128;
/// A transaction takes entries until it has at least this many orders.
const TRANSACTION_ORDERS: usize = 2_048;
/// How long orders gather before they are recorded. A transaction has a fixed cost, and each removal
/// from a stream costs Redis a write to its disk, which purchases wait for.
const GATHER: Duration = Duration::from_millis(50);
/// How often each stream is scanned. An entry seen by two consecutive scans counts as abandoned, so
/// only this replica's clock matters.
const SCAN_EVERY: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(250);

/// The state of [`AtomicEngine::run_recorder`].
struct Recorder {
    /// A connection of its own: purchases do not wait for its reads.
    connection: Option<MultiplexedConnection>,
    scan_due: Instant,
    /// The last entry of each product's stream in the last scan.
    last_entries: HashMap<String, String>,
}

impl AtomicEngine {
    pub(crate) async fn run_recorder(&self) {
        let (scan_due, last_entries) = (Instant::now(), HashMap::new());
        let mut recorder = Recorder { connection: None, scan_due, last_entries };
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
                    if matches!(&error, ReconcileError::Redis(error) if is_disconnect(error)) {
                        recorder.connection = None;
                    }
                    sleep(RETRY).await;
                }
            }
            tokio::select! {
                () = self.unrecorded.added() => sleep_until(gathered).await,
                () = sleep_until(recorder.scan_due) => {}
            }
        }
    }

    /// Records the orders in memory, and abandoned entries when a scan is due. Orders that could not
    /// be recorded are dropped from memory: the stream has them.
    async fn record_once(&self, recorder: &mut Recorder) -> Result<(), ReconcileError> {
        let mut done = Vec::new();
        let mut result = Ok(());
        for (product_id, entries) in self.unrecorded.take() {
            let ended = self.record_entries(&product_id, entries, &mut done).await;
            // The other products do not wait for this one; the first error is kept.
            result = result.and(ended.map_err(ReconcileError::from));
        }
        // These orders are in the database, even if the rest or Redis failed.
        if !done.is_empty() {
            let connection = self.recorder_connection(recorder).await?;
            self.remove_recorded(&connection, &done).await?;
        }
        if recorder.scan_due <= Instant::now() {
            let scanned = self.record_abandoned(recorder).await;
            // Counted from the end of the scan: otherwise entries seen at its end would count as
            // abandoned too soon.
            recorder.scan_due = Instant::now() + SCAN_EVERY;
            result = scanned.and(result);
        }
        result
    }

    async fn recorder_connection(
        &self,
        recorder: &mut Recorder,
    ) -> RedisResult<MultiplexedConnection> {
        if let Some(connection) = &recorder.connection {
            return Ok(connection.clone());
        }
        let connection = link::connect(&self.endpoint, CALL_LIMIT).await?;
        Ok(recorder.connection.insert(connection).clone())
    }

    /// Records the entries that the last scan saw and that are still there. If the database does not
    /// take those of a product, the other products are recorded all the same.
    async fn record_abandoned(&self, recorder: &mut Recorder) -> Result<(), ReconcileError> {
        let mut connection = self.recorder_connection(recorder).await?;
        let mut result = Ok(());
        for product_id in self.catalog.ids() {
            if let Some(last_entry) = recorder.last_entries.get(&product_id) {
                match self.record_abandoned_until(&mut connection, &product_id, last_entry).await {
                    Err(ReconcileError::Ledger(error)) => result = result.and(Err(error.into())),
                    ended => ended?,
                }
            }
            let last: StreamRangeReply = redis::cmd("XREVRANGE")
                .arg(stream_key(&product_id))
                .arg(&["+", "-", "COUNT", "1"])
                .query_async(&mut connection)
                .await?;
            match last.ids.into_iter().next() {
                Some(last) => recorder.last_entries.insert(product_id, last.id),
                None => recorder.last_entries.remove(&product_id),
            };
        }
        result
    }

    /// Records this stream up to an entry, unless another replica has claimed it.
    async fn record_abandoned_until(
        &self,
        connection: &mut MultiplexedConnection,
        product_id: &str,
        last_entry: &str,
    ) -> Result<(), ReconcileError> {
        let (mut after, mut begun) = ("-".to_owned(), false);
        let mut recorded = Ok(());
        while recorded.is_ok() {
            let mut page: StreamRangeReply = redis::cmd("XRANGE")
                .arg(stream_key(product_id))
                .arg(&[&after, last_entry, "COUNT"])
                .arg(PAGE)
                .query_async(connection)
                .await?;
            let Some(last) = page.ids.last() else { break };
            after = format!("({}", last.id);
            let own = self.unrecorded.entry_ids(product_id);
            page.ids.retain(|entry| !own.contains(&entry.id));
            if page.ids.is_empty() {
                continue;
            }
            if !begun {
                let mut claim = redis::cmd("SET");
                claim.arg(recording_key(product_id)).arg(&["1", "NX", "PX"]).arg(CLAIM_MILLIS);
                if claim.query_async::<Option<String>>(connection).await?.is_none() {
                    return Ok(());
                }
                begun = true;
            }
            let mut done = Vec::new();
            recorded =
                self.record_stream_entries(product_id, page.ids, &mut done).await.map(|_| ());
            self.remove_recorded(connection, &done).await?;
        }
        if begun {
            redis::cmd("DEL").arg(recording_key(product_id)).query_async::<()>(connection).await?;
        }
        recorded
    }

    /// Records these entries of a product's stream. False: some of them need a later version.
    pub(crate) async fn record_stream_entries(
        &self,
        product_id: &str,
        entries: Vec<StreamId>,
        done: &mut Vec<RecordedEntries>,
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
                    error!(
                        product_id,
                        entry, "an entry of the stream needs a later version: left there"
                    );
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
        done: &mut Vec<RecordedEntries>,
    ) -> Result<(), LedgerError> {
        let mut by_incarnation: BTreeMap<i64, Vec<Entry>> = BTreeMap::new();
        for entry in entries {
            by_incarnation.entry(entry.incarnation).or_default().push(entry);
        }
        for (incarnation, mut rest) in by_incarnation {
            while !rest.is_empty() {
                let others = rest.split_off(transaction_length(&rest));
                let entries = std::mem::replace(&mut rest, others);
                let orders = entries.iter().flat_map(|entry| &entry.orders).collect();
                let Recorded { new, refused } =
                    self.record(product_id, incarnation, orders).await?;
                self.observer.recorded(new, refused.len());
                for order in &refused {
                    error!(product_id, %order, "the database cannot take an order that was sold");
                }
                let product_id = product_id.to_owned();
                done.push(RecordedEntries { product_id, incarnation, entries, refused });
            }
        }
        Ok(())
    }

    /// Removes these entries from their streams.
    pub(crate) async fn remove_recorded(
        &self,
        connection: &MultiplexedConnection,
        done: &[RecordedEntries],
    ) -> RedisResult<()> {
        try_join_all(
            done.iter().map(|done| self.scripts.remove_recorded(connection.clone(), done)),
        )
        .await?;
        Ok(())
    }

    /// Records all orders together. If the database refuses that, records them one by one, to find the
    /// refused ones.
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
                    error!(product_id, order = %order.id, %error, "the database refuses a sold order");
                    all.refused.push(order.id);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }
}

/// How many of these entries make up one transaction: at least one.
fn transaction_length(entries: &[Entry]) -> usize {
    let mut orders = 0;
    let enough = entries.iter().position(|entry| {
        orders += entry.orders.len();
        orders >= TRANSACTION_ORDERS
    });
    enough.map_or(entries.len(), |last| last + 1)
}

/// Whether the connection can no longer be used.
fn is_disconnect(error: &redis::RedisError) -> bool {
    error.is_io_error() || error.is_connection_dropped() || error.is_timeout()
}
