//! Those who wait at this replica for one product: all of them share one call.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::Instant;
use tracing::warn;
use uuid::Uuid;

use super::script::{Answer, NotMade, Stock};
use super::{Core, MOST_UNRECORDED};
use crate::ledger::{Order, Purchase};
use crate::sale::{PurchaseError, Receipt};

/// Purchases that one call decides.
const BATCH: usize = 512;
/// Calls under way: while Redis writes one to its disk, the next is collected and sent.
const IN_FLIGHT: usize = 3;
/// While there is no stock to sell from, how soon it is looked whether there is a product.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// When it is worth trying again while the database is far behind.
const BACKLOG_RETRY: Duration = Duration::from_secs(2);

/// A purchase and the caller that waits for it.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) purchase: Purchase,
    /// When it is given up, unless it is on its way to Redis.
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Result<Receipt, PurchaseError>>,
}

/// Ends when its [`super::Atomic`] does.
pub(super) async fn serve(
    core: Arc<Core>,
    product_id: String,
    mut arrivals: mpsc::Receiver<Waiting>,
) {
    let product_id: Arc<str> = product_id.into();
    let slots = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut batch = Vec::new();
    while arrivals.recv_many(&mut batch, BATCH).await > 0 {
        // Never closed.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        // Whoever submits at this moment shares the call.
        yield_now().await;
        while batch.len() < BATCH
            && let Ok(waiting) = arrivals.try_recv()
        {
            batch.push(waiting);
        }
        let (core, product_id) = (Arc::clone(&core), Arc::clone(&product_id));
        let batch = std::mem::take(&mut batch);
        tokio::spawn(async move {
            core.sell(&product_id, batch).await;
            drop(slot);
        });
    }
}

impl Core {
    /// Decides these purchases and answers their callers.
    async fn sell(&self, product_id: &str, mut batch: Vec<Waiting>) {
        loop {
            // A caller that is gone buys nothing.
            batch.retain(|waiting| !waiting.reply.is_closed());
            let Some(deadline) = batch.iter().map(|waiting| waiting.deadline).min() else { return };
            let until = deadline.min(Instant::now() + LOOK_AGAIN);
            let Some((mut connection, generation, incarnation)) =
                self.ready_for(product_id, until).await
            else {
                if self.catalog.remaining(product_id).is_none() {
                    let refusal = PurchaseError::UnknownProduct(product_id.to_owned());
                    return refuse_all(batch, &refusal);
                }
                refuse_late(&mut batch);
                continue;
            };
            self.metrics.batch(batch.len());
            let stock = Stock {
                product_id,
                incarnation,
                max_per_buyer: self.catalog.max_per_buyer(product_id),
                most_waiting: MOST_UNRECORDED,
            };
            let ids: Vec<Uuid> = batch.iter().map(|_| Uuid::now_v7()).collect();
            let purchases = ids.iter().copied().zip(batch.iter().map(|waiting| &waiting.purchase));
            match self.scripts.purchase(&mut connection, stock, purchases).await {
                Ok(Answer::Decided { available, not_made }) => {
                    self.catalog.heard(product_id, available);
                    let mut not_made = not_made.into_iter().peekable();
                    for (number, (waiting, id)) in batch.into_iter().zip(ids).enumerate() {
                        let why = not_made.next_if(|(other, _)| *other == number);
                        let why = why.map(|(_, why)| why);
                        let result = receipt(id, product_id, waiting.purchase, why);
                        let _ = waiting.reply.send(result);
                    }
                    return;
                }
                Ok(Answer::Unready) => {
                    self.unfit(product_id, incarnation);
                    refuse_late(&mut batch);
                }
                Ok(Answer::Backlog) => {
                    warn!(product_id, "the database is too far behind to sell more");
                    let refusal = PurchaseError::Overloaded { retry_after: BACKLOG_RETRY };
                    return refuse_all(batch, &refusal);
                }
                Err(error) => {
                    // It may have been done. The key tells, when Redis is back.
                    self.lost(generation, &error);
                    return refuse_all(batch, &PurchaseError::Interrupted);
                }
            }
        }
    }
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

fn refuse_all(batch: Vec<Waiting>, refusal: &PurchaseError) {
    for waiting in batch {
        let _ = waiting.reply.send(Err(refusal.clone()));
    }
}
