//! Serves the queue of one product at this replica: all purchases that wait share one call.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use ledger::{DecidedOrder, Order, Purchase};
use tokio::task::yield_now;
use tokio::time::Instant;
use tracing::{info, warn};
use uuid::Uuid;

use super::engine::AtomicEngine;
use super::entry::Entry;
use super::error::ReconcileError;
use super::queue::{Queue, Reply, Waiting};
use super::script::{Answer, Checked, NotMade, Stock};
use crate::error::PurchaseError;
use crate::purchase::Receipt;

/// Orders of one product that may wait to be recorded: what the database may be behind.
const MOST_UNRECORDED: usize = 200_000;
/// Purchases that one call decides.
const BATCH: usize = 512;
/// Calls under way: while Redis writes one to its disk, the next is sent as soon as it is as large as
/// that one. Smaller ones would cost more, and Redis takes up what waits for it all at once.
const CALLS: usize = 2;
/// While there is no stock to sell from, how soon it is looked whether there is a product.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// When it is worth trying again while the database is far behind.
const BACKLOG_RETRY: Duration = Duration::from_secs(2);

/// Purchases that may wait until the database was asked for their keys and buyers.
const MOST_UNKNOWN: usize = 8_192;
/// When it is worth trying again if more wait, or the database does not answer.
const LOOK_UP_RETRY: Duration = Duration::from_secs(1);

/// Ends when it is aborted.
pub(crate) async fn serve(engine: Arc<AtomicEngine>, product_id: String, queue: Arc<Queue>) {
    let (mut calls, mut under_way) = (FuturesUnordered::new(), 0);
    let mut answered: Vec<Answered> = Vec::new();
    // Purchases of keys or buyers that Redis lost, and the look-up of some of them: one at a time.
    let (mut unknown, mut look_ups) = (Vec::new(), FuturesUnordered::new());
    loop {
        // The next call goes before the callers of the last are answered: each of them takes time,
        // in which Redis would have nothing to do.
        loop {
            under_way -= answered.iter_mut().map(|it| std::mem::take(&mut it.asked)).sum::<usize>();
            while calls.len() < CALLS
                && let Some(batch) = queue.take(under_way.max(1), BATCH)
            {
                under_way += batch.len();
                calls.push(engine.sell(&product_id, batch));
            }
            // This also sends it.
            let Some(answers) = calls.next().now_or_never().flatten() else { break };
            answered.push(answers);
        }
        answered.drain(..).for_each(|answers| answers.send(&mut unknown));
        if look_ups.is_empty() && !unknown.is_empty() {
            let next = unknown.drain(..unknown.len().min(BATCH)).collect();
            look_ups.push(engine.look_up_or_refuse(&product_id, next));
        }
        tokio::select! {
            biased;
            Some(answers) = calls.next(), if !calls.is_empty() => answered.push(answers),
            Some(known) = look_ups.next(), if !look_ups.is_empty() => queue.put_back(known),
            // Whoever submits at this moment shares the call.
            () = queue.enough() => yield_now().await,
        }
    }
}

/// What a call came to, for the callers who wait for it.
#[derive(Debug)]
struct Answered {
    /// Purchases that were under way.
    asked: usize,
    results: Vec<(Reply, Result<Receipt, PurchaseError>)>,
    /// Those of which the database has to be asked.
    unknown: Vec<Waiting>,
}

impl Answered {
    /// Answers the callers, and leaves those of which the database has to be asked.
    fn send(self, unknown: &mut Vec<Waiting>) {
        for (reply, result) in self.results {
            let _ = reply.send(result);
        }
        for waiting in self.unknown {
            if unknown.len() < MOST_UNKNOWN {
                unknown.push(waiting);
            } else {
                let refusal = PurchaseError::Overloaded { retry_after: LOOK_UP_RETRY };
                let _ = waiting.reply.send(Err(refusal));
            }
        }
    }
}

impl AtomicEngine {
    /// Decides these purchases.
    async fn sell(&self, product_id: &str, mut batch: Vec<Waiting>) -> Answered {
        let asked = batch.len();
        let mut unknown = Vec::new();
        let results = loop {
            // A caller that is gone buys nothing.
            batch.retain(|waiting| !waiting.reply.is_closed());
            let Some(deadline) = batch.iter().map(|waiting| waiting.deadline).min() else {
                break Vec::new();
            };
            let until = deadline.min(Instant::now() + LOOK_AGAIN);
            let Some((mut connection, generation, incarnation)) =
                self.ready_for(product_id, until).await
            else {
                if self.catalog.remaining(product_id).is_none() {
                    let refusal = PurchaseError::UnknownProduct(product_id.to_owned());
                    break refused(batch, &refusal);
                }
                refuse_late(&mut batch);
                continue;
            };
            self.observer.batch(batch.len());
            let stock = Stock {
                product_id,
                incarnation,
                max_per_buyer: self.catalog.max_per_buyer(product_id),
                most_waiting: MOST_UNRECORDED,
            };
            let checked = checked_first(&mut batch);
            let ids: Vec<Uuid> = batch.iter().map(|_| Uuid::now_v7()).collect();
            let purchases = ids.iter().copied().zip(batch.iter().map(|waiting| &waiting.purchase));
            match self.scripts.purchase(&mut connection, stock, checked, purchases).await {
                Ok(Answer::Decided { available, entry, not_made }) => {
                    if self.refuses.load(Relaxed) && self.refuses.swap(false, Relaxed) {
                        info!(product_id, "the Redis node that decides sells again");
                    }
                    self.catalog.on_notice(product_id, available);
                    let mut entry = Entry { id: entry, incarnation, orders: Vec::new() };
                    let mut not_made = not_made.into_iter().peekable();
                    let mut results = Vec::with_capacity(batch.len());
                    for (number, (waiting, id)) in batch.into_iter().zip(ids).enumerate() {
                        let why = not_made.next_if(|(other, _)| *other == number);
                        let why = why.map(|(_, why)| why);
                        if why == Some(NotMade::Unknown) {
                            unknown.push(waiting);
                            continue;
                        }
                        if why.is_none() {
                            entry.orders.push(decided(id, &waiting.purchase));
                        }
                        let result = receipt(id, product_id, waiting.purchase, why);
                        results.push((waiting.reply, result));
                    }
                    if !entry.orders.is_empty() {
                        self.sold.remember(product_id, entry);
                    }
                    break results;
                }
                Ok(Answer::Unready) => {
                    self.unfit(product_id, incarnation);
                    refuse_late(&mut batch);
                }
                Ok(Answer::Backlog) => {
                    warn!(product_id, "the database is too far behind to sell more");
                    let refusal = PurchaseError::Overloaded { retry_after: BACKLOG_RETRY };
                    break refused(batch, &refusal);
                }
                // An answer: Redis has done nothing (purchase.lua).
                Err(error) if error.code().is_some() => {
                    if !self.refuses.swap(true, Relaxed) {
                        warn!(product_id, %error, "the Redis node that decides refuses to sell");
                    }
                    break refused(batch, &PurchaseError::StockUnavailable);
                }
                Err(error) => {
                    // It may have been done. The key tells, when Redis is back.
                    self.lost(generation, &error);
                    break refused(batch, &PurchaseError::Interrupted);
                }
            }
        };
        Answered { asked, results, unknown }
    }

    /// These purchases, when Redis knows what the database does of them.
    async fn look_up_or_refuse(&self, product_id: &str, mut batch: Vec<Waiting>) -> Vec<Waiting> {
        batch.retain(|waiting| !waiting.reply.is_closed());
        refuse_late(&mut batch);
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

/// Puts those first whose key the database has no order for.
fn checked_first(batch: &mut [Waiting]) -> Checked {
    let Some(epoch) = batch.iter().find_map(|waiting| waiting.checked) else {
        return Checked::default();
    };
    batch.sort_by_key(|waiting| waiting.checked != Some(epoch));
    let count = batch.iter().filter(|waiting| waiting.checked == Some(epoch)).count();
    Checked { epoch: Some(epoch), count }
}

fn decided(id: Uuid, purchase: &Purchase) -> DecidedOrder {
    let Purchase { buyer, quantity, idempotency_key } = purchase.clone();
    DecidedOrder { id, buyer, quantity, idempotency_key }
}

fn receipt(
    id: Uuid,
    product_id: &str,
    purchase: Purchase,
    not_made: Option<NotMade>,
) -> Result<Receipt, PurchaseError> {
    let (id, replayed) = match not_made {
        None => (id, false),
        Some(NotMade::Before(id)) => (id, true),
        Some(NotMade::SoldOut) => return Err(PurchaseError::SoldOut),
        Some(NotMade::LimitReached) => return Err(PurchaseError::LimitReached),
        Some(NotMade::KeyReused) => return Err(PurchaseError::KeyReused),
        Some(NotMade::Unknown) => return Err(PurchaseError::StockUnavailable),
    };
    let Purchase { buyer, quantity, idempotency_key } = purchase;
    let product_id = product_id.to_owned();
    let order = Order { id, product_id, buyer, quantity, idempotency_key, lines: 1 };
    Ok(Receipt { order, replayed })
}

/// Tells those whose time is up that there was no stock to buy from.
fn refuse_late(batch: &mut Vec<Waiting>) {
    let now = Instant::now();
    for late in batch.extract_if(.., |waiting| waiting.deadline <= now) {
        let _ = late.reply.send(Err(PurchaseError::StockUnavailable));
    }
}

fn refuse(batch: Vec<Waiting>, refusal: &PurchaseError) {
    for (reply, result) in refused(batch, refusal) {
        let _ = reply.send(result);
    }
}

fn refused(
    batch: Vec<Waiting>,
    refusal: &PurchaseError,
) -> Vec<(Reply, Result<Receipt, PurchaseError>)> {
    batch.into_iter().map(|waiting| (waiting.reply, Err(refusal.clone()))).collect()
}
