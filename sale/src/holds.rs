//! Ends the holds of orders that were not paid in time: their units are for sale again, in the ledger and,
//! with the release of the products' locks, on the nodes.
//!
//! The ledger has the end of each hold and finds those that are due by an index, so nothing here counts
//! down. A lease lets one replica at a time ask for them. When that replica dies, another one has the lease
//! as soon as it ends. Safety does not depend on it: the ledger changes an order under a condition.

use std::collections::{BTreeMap, HashSet};
use std::future::pending;
use std::time::Duration;

use futures::future::{BoxFuture, join};
use futures::stream::{FuturesUnordered, StreamExt};
use ledger::orders::{DueHold, NewOrder, OrderState, Settled, Task};
use ledger::{LedgerError, Product};
use redlock::{Lease, Policy, QueueDiscipline};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, warn};
use uuid::Uuid;

use crate::error::PurchaseError;
use crate::sale::{Engine, Sale};

/// The lock of the replica that ends holds. Users of Redis may use names with this prefix already.
const RESOURCE: &str = "stores:holds";
/// How long the lock outlives its replica, if the sale's times allow it.
const LEASE: Duration = Duration::from_secs(3);
/// How long an attempt to get the lock waits.
const WAIT: Duration = Duration::from_millis(100);
/// How long a replica that did not get the lock pauses.
const PAUSE: Duration = Duration::from_secs(1);
/// How often the ledger is asked for holds that are due.
pub(crate) const POLL: Duration = Duration::from_millis(200);
/// How long after a failure.
pub(crate) const RETRY: Duration = Duration::from_secs(1);
/// Holds of one read.
const PAGE: i64 = 4_000;
/// Orders of one task. Buyers of the same products wait for it, so they are served in between.
const BATCH: usize = 1_000;
/// The same after failures: a lease may be too short for more.
const SMALLEST_BATCH: usize = 10;
/// Batches that are settled at the same time.
pub(crate) const AT_ONCE: usize = 8;
/// The time between two batches for each order of the first: some 11,000 holds end in a second, and most of
/// the time is left to buyers.
const PACE: Duration = Duration::from_micros(88);

/// Orders of the same products.
type Batch = (Vec<String>, Vec<Uuid>);

/// A batch that is settled, with its orders and what came of it.
type Ending<'a> = BoxFuture<'a, (Vec<Uuid>, Result<(), PurchaseError>)>;

/// How far the due holds have been ended.
struct Progress<'a> {
    /// The last hold of the last page, unless it was the last page.
    after: Option<(i64, Uuid)>,
    /// When the next batch may begin.
    next: Instant,
    /// How many orders a batch has at most.
    batch: usize,
    /// Batches under way. Pages are read meanwhile: a product whose lock cannot be had holds up no others.
    ending: FuturesUnordered<Ending<'a>>,
    /// Their orders.
    under_way: HashSet<Uuid>,
}

impl Progress<'_> {
    /// Waits for the end of a batch; for ever if there is none.
    async fn batch_ended(&mut self) -> Result<(), PurchaseError> {
        let Some((ids, ended)) = self.ending.next().await else { return pending().await };
        for id in &ids {
            self.under_way.remove(id);
        }
        ended
    }

    /// Waits this long, and for the batches that end meanwhile.
    async fn pause(&mut self, pause: Duration) -> Result<(), PurchaseError> {
        let (until, mut result) = (Instant::now() + pause, Ok(()));
        loop {
            tokio::select! {
                () = sleep_until(until) => return result,
                ended = self.batch_ended() => result = result.and(ended),
            }
        }
    }
}

impl Sale {
    /// Ends holds whenever they are due and no other replica does, until the future is dropped.
    pub(crate) async fn end_holds(&self) {
        loop {
            if let Some(lease) = self.hold_lease().await {
                debug!("this replica ends the holds");
                lease.keep_extended();
                let work = join(self.end_due_holds(), self.keep_handing_out());
                if Box::pin(lease.while_held(work)).await.is_none() {
                    warn!("the lease of the replica that ends holds was lost");
                }
            }
            sleep(PAUSE).await;
        }
    }

    async fn hold_lease(&self) -> Option<Lease> {
        let policy = Policy {
            wait_timeout: WAIT,
            lease_time: self.catalog.leases().nearest(LEASE),
            discipline: QueueDiscipline::Unordered,
        };
        self.redlock.try_acquire_all(&[RESOURCE], policy).await.ok()
    }

    async fn end_due_holds(&self) {
        let mut progress = Progress {
            after: None,
            next: Instant::now(),
            batch: BATCH,
            ending: FuturesUnordered::new(),
            under_way: HashSet::new(),
        };
        let mut reported = false;
        loop {
            let mut ended = self.end_page(&mut progress).await;
            if ended.is_ok() && progress.after.is_none() {
                ended = progress.pause(POLL).await;
            }
            match ended {
                Ok(()) => {
                    // By an eighth: each failure costs buyers of the same batch their answer.
                    progress.batch = (progress.batch + progress.batch / 8 + 1).min(BATCH);
                    reported &= !progress.ending.is_empty();
                }
                Err(error) => {
                    progress.batch = (progress.batch / 4).max(SMALLEST_BATCH);
                    if !reported {
                        warn!(%error, "holds that are over cannot be ended; trying again");
                    }
                    reported = true;
                    // What fails meanwhile is read again after it.
                    drop(progress.pause(RETRY).await);
                }
            }
        }
    }

    /// Begins to end some of the due holds. The next page begins behind this one.
    async fn end_page<'a>(&'a self, progress: &mut Progress<'a>) -> Result<(), PurchaseError> {
        let mut due = self.ledger.due_holds(progress.after.take(), PAGE).await?;
        let is_full = i64::try_from(due.len()).is_ok_and(|due| due >= PAGE);
        progress.after = due.last().filter(|_| is_full).map(|last| (last.expires_at_ms, last.id));
        if let Engine::Atomic(_) = &self.engine {
            return self.end_one_by_one(due).await;
        }
        due.retain(|hold| !progress.under_way.contains(&hold.id));
        let mut result = Ok(());
        for (products, ids) in batches(due, progress.batch) {
            loop {
                let next = progress.next;
                let has_room = progress.ending.len() < AT_ONCE;
                tokio::select! {
                    () = sleep_until(next), if has_room => break,
                    ended = progress.batch_ended() => result = result.and(ended),
                }
            }
            progress.next = Instant::now() + PACE * u32::try_from(ids.len()).unwrap_or(u32::MAX);
            progress.under_way.extend(ids.iter().copied());
            progress.ending.push(Box::pin(async move {
                let ended = self.expire(&ids, &products).await.map(drop);
                (ids, ended)
            }));
        }
        result
    }

    /// `Atomic` counts the units of each buyer. Orders there have holds only from before the strategy was
    /// changed, so they are few.
    async fn end_one_by_one(&self, due: Vec<DueHold>) -> Result<(), PurchaseError> {
        for DueHold { id, products, .. } in due {
            let Some(order) = self.ledger.placed(id).await? else { continue };
            let counted = self.prepare_give_back(&order).await;
            if self.expire(&[id], &products).await? > 0 {
                self.give_back(&order, &counted).await;
            }
        }
        Ok(())
    }

    async fn expire(&self, ids: &[Uuid], products: &[String]) -> Result<i64, PurchaseError> {
        let task = Task::Expire { ids: ids.to_vec() };
        let products = products.iter().cloned().collect();
        let settled = self.order_queues.settle(self.discipline(), task, products).await?;
        let Settled::Expired(orders) = settled else { return Ok(0) };
        self.observer.expired(u64::try_from(orders).unwrap_or(0));
        Ok(orders)
    }

    /// How long an order holds its units: the shortest time of its products. `None`: it is not for a time.
    pub(crate) fn hold_ms(&self, order: &NewOrder) -> Option<i64> {
        if order.state != OrderState::Pending {
            return None;
        }
        let hold = order.lines.iter().map(|line| self.hold_of(&line.product_id)).min()?;
        i64::try_from(hold.as_millis()).ok()
    }

    /// How long an unpaid order holds units of a product.
    pub(crate) fn hold_of(&self, product_id: &str) -> Duration {
        self.catalog.hold(product_id).unwrap_or(self.hold)
    }

    /// How long a buyer has to pay for units of a product. `None`: it has no price, or Redis decides the sale, so that
    /// no order has a hold.
    #[must_use]
    pub fn time_to_pay(&self, product: &Product) -> Option<Duration> {
        let is_paid_later = self.is_decided_by_the_database() && product.unit_price().is_some();
        is_paid_later.then(|| self.hold_of(&product.id))
    }

    /// The open holds, for metrics.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn hold_counts(&self) -> Result<ledger::orders::HoldCounts, LedgerError> {
        self.ledger.hold_counts().await
    }
}

fn batches(due: Vec<DueHold>, most: usize) -> Vec<Batch> {
    let mut groups = BTreeMap::<Vec<String>, Vec<Uuid>>::new();
    for DueHold { id, products, .. } in due {
        groups.entry(products).or_default().push(id);
    }
    let mut batches = Vec::new();
    for (products, ids) in groups {
        batches.extend(ids.chunks(most).map(|ids| (products.clone(), ids.to_vec())));
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_of_the_same_products_are_ended_together() {
        let hold = |id: u128, products: &[&str]| DueHold {
            expires_at_ms: 0,
            id: Uuid::from_u128(id),
            products: products.iter().map(|&product| product.to_owned()).collect(),
        };
        let due = vec![hold(1, &["a"]), hold(2, &["a", "b"]), hold(3, &["a"])];
        let [a, b] = ["a", "b"].map(str::to_owned);
        let [one, two, three] = [1, 2, 3].map(Uuid::from_u128);
        assert_eq!(
            batches(due, BATCH),
            [(vec![a.clone()], vec![one, three]), (vec![a, b], vec![two])]
        );
        let many = (0..2001).map(|id| hold(id, &["a"])).collect();
        let sizes: Vec<usize> = batches(many, BATCH).iter().map(|(_, ids)| ids.len()).collect();
        assert_eq!(sizes, [1_000, 1_000, 1]);
    }
}
