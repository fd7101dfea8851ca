//! Serves the queue of one product at this replica: all waiting purchases share one call.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use ledger::{DecidedOrder, Order, Purchase, SoldFor};
use tokio::task::yield_now;
use tokio::time::Instant;
use tracing::{info, warn};
use uuid::Uuid;

use super::engine::AtomicEngine;
use super::entry::Entry;
use super::error::ReconcileError;
use super::queue::{Queue, QueuedPurchase, Reply};
use super::script::{CheckedKeys, NotSold, PurchaseReply, Stock};
use crate::batch_recorder::BatchRecorder;
use crate::batch_report::{BatchKind, StepKind};
use crate::error::PurchaseError;
use crate::purchase::Receipt;

/// Orders of one product that may wait to be recorded in the database.
const MAX_UNRECORDED: usize = 200_000;
/// Purchases that one call decides.
const BATCH: usize = 512;
/// Calls under way at the same time. While Redis writes one to its disk, the next is sent as soon as
/// it has as many purchases. Smaller calls would cost more, and Redis handles all waiting purchases at
/// once anyway.
const MAX_CALLS: usize = 2;
/// How often to check, while there is no stock to sell from, that the product still exists.
const PRODUCT_CHECK: Duration = Duration::from_millis(250);
/// When a buyer may try again while the database is far behind.
const BACKLOG_RETRY: Duration = Duration::from_secs(2);

/// Purchases that may wait for a look-up of their keys and buyers in the database.
const MAX_UNKNOWN: usize = 8_192;
/// When a buyer may try again if the look-ups are full.
const LOOK_UP_RETRY: Duration = Duration::from_secs(1);

/// Runs until it is aborted.
pub(crate) async fn serve(engine: Arc<AtomicEngine>, product_id: String, queue: Arc<Queue>) {
    let (mut calls, mut under_way) = (FuturesUnordered::new(), 0);
    let mut answered: Vec<CallResult> = Vec::new();
    // Purchases with keys or buyers that Redis lost. One look-up runs at a time.
    let (mut unknown, mut look_ups) = (Vec::new(), FuturesUnordered::new());
    loop {
        // The next call is sent before the callers of the last one are answered: otherwise Redis would
        // be idle meanwhile.
        loop {
            under_way -= answered
                .iter_mut()
                .map(|result| std::mem::take(&mut result.purchases))
                .sum::<usize>();
            while calls.len() < MAX_CALLS
                && let Some(batch) = queue.take(under_way.max(1), BATCH)
            {
                under_way += batch.len();
                calls.push(engine.sell(&product_id, batch));
            }
            // Polling also sends a new call.
            let Some(result) = calls.next().now_or_never().flatten() else { break };
            answered.push(result);
        }
        answered.drain(..).for_each(|result| result.send(&mut unknown));
        if look_ups.is_empty() && !unknown.is_empty() {
            let next = unknown.drain(..unknown.len().min(BATCH)).collect();
            look_ups.push(engine.look_up_or_refuse(&product_id, next));
        }
        tokio::select! {
            biased;
            Some(result) = calls.next(), if !calls.is_empty() => answered.push(result),
            Some(known) = look_ups.next(), if !look_ups.is_empty() => queue.put_back(known),
            // Callers that submit at this moment share the call.
            () = queue.ready() => yield_now().await,
        }
    }
}

/// The results of a call.
#[derive(Debug)]
struct CallResult {
    /// How many purchases the call had.
    purchases: usize,
    results: Vec<(Reply, Result<Receipt, PurchaseError>)>,
    /// Purchases that the database must be asked about.
    unknown: Vec<QueuedPurchase>,
}

impl CallResult {
    /// Answers the callers, and appends the purchases that the database must be asked about to
    /// `unknown`.
    fn send(self, unknown: &mut Vec<QueuedPurchase>) {
        for (reply, result) in self.results {
            let _ = reply.send(result);
        }
        for queued in self.unknown {
            if unknown.len() < MAX_UNKNOWN {
                unknown.push(queued);
            } else {
                let refusal = PurchaseError::Overloaded { retry_after: LOOK_UP_RETRY };
                let _ = queued.reply.send(Err(refusal));
            }
        }
    }
}

impl AtomicEngine {
    /// Decides these purchases.
    async fn sell(&self, product_id: &str, mut batch: Vec<QueuedPurchase>) -> CallResult {
        let purchases = batch.len();
        let mut unknown = Vec::new();
        let results = loop {
            // Skips purchases whose caller is gone.
            batch.retain(|queued| !queued.reply.is_closed());
            let Some(deadline) = batch.iter().map(|queued| queued.deadline).min() else {
                break Vec::new();
            };
            let until = deadline.min(Instant::now() + PRODUCT_CHECK);
            let Some((mut connection, generation, incarnation)) =
                self.ready_for(product_id, until).await
            else {
                if self.catalog.remaining(product_id).is_none() {
                    let refusal = PurchaseError::UnknownProduct(product_id.to_owned());
                    break refused(batch, &refusal);
                }
                refuse_expired(&mut batch);
                continue;
            };
            self.observer.batch(batch.len());
            let stock = Stock {
                product_id,
                incarnation,
                max_per_buyer: self.catalog.max_per_buyer(product_id),
                unit_price: self.catalog.unit_price(product_id),
                max_unrecorded: MAX_UNRECORDED,
            };
            let checked = checked_first(&mut batch);
            let ids: Vec<Uuid> = batch.iter().map(|_| Uuid::now_v7()).collect();
            let purchases = ids.iter().copied().zip(batch.iter().map(|queued| &queued.purchase));
            let mut recorder = BatchRecorder::new(batch.iter().map(|queued| &queued.origin));
            let started = recorder.started();
            let reply = self.scripts.purchase(&mut connection, stock, checked, purchases).await;
            recorder.ended(StepKind::Redis, started);
            let origins = batch.iter().map(|queued| &queued.origin);
            recorder.report(&*self.observer, BatchKind::Purchases, origins, failure(&reply));
            match reply {
                Ok(PurchaseReply::Decided { available, entry, not_sold }) => {
                    if self.refusal_logged.load(Relaxed) && self.refusal_logged.swap(false, Relaxed)
                    {
                        info!(product_id, "the Redis node that decides sells again");
                    }
                    self.catalog.on_notice(product_id, available);
                    let mut entry = Entry { id: entry, incarnation, orders: Vec::new() };
                    let mut not_sold = not_sold.into_iter().peekable();
                    let mut results = Vec::with_capacity(batch.len());
                    for (number, (queued, id)) in batch.into_iter().zip(ids).enumerate() {
                        let reason = not_sold.next_if(|(other, _)| *other == number);
                        let reason = reason.map(|(_, reason)| reason);
                        if reason == Some(NotSold::Unknown) {
                            unknown.push(queued);
                            continue;
                        }
                        if reason.is_none() {
                            let sold_for = SoldFor::of(stock.unit_price);
                            entry.orders.push(decided(id, &queued.purchase, sold_for));
                        }
                        let result = receipt(id, product_id, queued.purchase, reason);
                        results.push((queued.reply, result));
                    }
                    if !entry.orders.is_empty() {
                        self.unrecorded.remember(product_id, entry);
                    }
                    break results;
                }
                Ok(PurchaseReply::StockInvalid) => {
                    self.suspend(product_id, incarnation);
                    refuse_expired(&mut batch);
                }
                Ok(PurchaseReply::Backlog) => {
                    warn!(product_id, "the database is too far behind to sell more");
                    let refusal = PurchaseError::Overloaded { retry_after: BACKLOG_RETRY };
                    break refused(batch, &refusal);
                }
                // An error reply: Redis has changed nothing (purchase.lua).
                Err(error) if error.code().is_some() => {
                    if !self.refusal_logged.swap(true, Relaxed) {
                        warn!(product_id, %error, "the Redis node that decides refuses to sell");
                    }
                    break refused(batch, &PurchaseError::StockUnavailable);
                }
                Err(error) => {
                    // The call may have succeeded. A repetition with the same key tells.
                    self.drop_connection(generation, &error);
                    break refused(batch, &PurchaseError::Interrupted);
                }
            }
        };
        CallResult { purchases, results, unknown }
    }

    /// Returns these purchases once Redis has the database's data about them.
    async fn look_up_or_refuse(
        &self,
        product_id: &str,
        mut batch: Vec<QueuedPurchase>,
    ) -> Vec<QueuedPurchase> {
        batch.retain(|queued| !queued.reply.is_closed());
        refuse_expired(&mut batch);
        match self.look_up(product_id, &mut batch).await {
            Ok(()) => return batch,
            Err(ReconcileError::Redis(error)) => {
                warn!(product_id, %error, "keys and buyers cannot be looked up");
                refuse(batch, &PurchaseError::StockUnavailable);
            }
            Err(error) => {
                warn!(product_id, %error, "keys and buyers cannot be looked up");
                refuse(batch, &PurchaseError::DatabaseUnavailable);
            }
        }
        Vec::new()
    }
}

/// Why a call decided nothing.
fn failure(reply: &redis::RedisResult<PurchaseReply>) -> Option<&'static str> {
    match reply {
        Ok(PurchaseReply::Decided { .. }) => None,
        Ok(PurchaseReply::StockInvalid) => Some("stock_invalid"),
        Ok(PurchaseReply::Backlog) => Some("backlog"),
        Err(error) if error.code().is_some() => Some(PurchaseError::StockUnavailable.code()),
        Err(_) => Some(PurchaseError::Interrupted.code()),
    }
}

/// Moves the purchases to the front whose key has no order in the database.
fn checked_first(batch: &mut [QueuedPurchase]) -> CheckedKeys {
    let Some(epoch) = batch.iter().find_map(|queued| queued.checked) else {
        return CheckedKeys::default();
    };
    batch.sort_by_key(|queued| queued.checked != Some(epoch));
    let count = batch.iter().filter(|queued| queued.checked == Some(epoch)).count();
    CheckedKeys { epoch: Some(epoch), count }
}

fn decided(id: Uuid, purchase: &Purchase, sold_for: SoldFor) -> DecidedOrder {
    let Purchase { buyer, quantity, idempotency_key, limit_key } = purchase.clone();
    DecidedOrder { id, buyer, quantity, idempotency_key, sold_for, limit_key }
}

fn receipt(
    id: Uuid,
    product_id: &str,
    purchase: Purchase,
    not_sold: Option<NotSold>,
) -> Result<Receipt, PurchaseError> {
    let (id, replayed) = match not_sold {
        None => (id, false),
        Some(NotSold::AlreadyMade(id)) => (id, true),
        Some(NotSold::SoldOut) => return Err(PurchaseError::SoldOut),
        Some(NotSold::LimitReached) => return Err(PurchaseError::LimitReached),
        Some(NotSold::KeyReused) => return Err(PurchaseError::KeyReused),
        Some(NotSold::Unknown) => return Err(PurchaseError::StockUnavailable),
    };
    let Purchase { buyer, quantity, idempotency_key, limit_key } = purchase;
    let product_id = product_id.to_owned();
    let (lines, unit_price) = (1, None);
    let order =
        Order { id, product_id, buyer, quantity, idempotency_key, lines, unit_price, limit_key };
    Ok(Receipt { order, replayed })
}

/// Refuses purchases whose wait is over, because there was no stock to buy from.
fn refuse_expired(batch: &mut Vec<QueuedPurchase>) {
    let now = Instant::now();
    for late in batch.extract_if(.., |queued| queued.deadline <= now) {
        let _ = late.reply.send(Err(PurchaseError::StockUnavailable));
    }
}

fn refuse(batch: Vec<QueuedPurchase>, refusal: &PurchaseError) {
    for (reply, result) in refused(batch, refusal) {
        let _ = reply.send(result);
    }
}

fn refused(
    batch: Vec<QueuedPurchase>,
    refusal: &PurchaseError,
) -> Vec<(Reply, Result<Receipt, PurchaseError>)> {
    batch.into_iter().map(|queued| (queued.reply, Err(refusal.clone()))).collect()
}
