//! The holders of coupons. Once a coupon is exhausted, its holders never change.
//!
//! The holders of a small coupon are read once, page by page, and kept in memory. Those of larger
//! coupons are looked up by the database's index, many in one query. So memory is bounded, whatever
//! the number of issued coupons.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use ledger::coupons::Coupon;
use ledger::{Ledger, LedgerError};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::batch_loader::{BatchLoader, RowQuery};
use crate::error::PurchaseError;

/// The holders of larger coupons are not kept in memory. An entry takes some 100 bytes, and one caller
/// waits while all are read.
const MAX_KEPT_PER_COUPON: i64 = 20_000;
/// Holders that are kept of all coupons together.
const MAX_KEPT: i64 = 200_000;
/// Rows of one read.
const PAGE: i64 = 1_000;

/// Holders by coupon, see the module.
#[derive(Debug)]
pub(crate) struct Holders {
    ledger: Ledger,
    by_coupon: RwLock<HashMap<String, Arc<CouponHolders>>>,
    issues: BatchLoader<IssuesByBuyer>,
}

/// The holders of one coupon.
#[derive(Debug)]
struct CouponHolders {
    /// How many there are.
    quantity: i64,
    all: OnceLock<HashMap<String, Uuid>>,
    /// The progress of reading. The task that locks it continues the read.
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    /// All buyers up to this one have been read.
    up_to: String,
    issues: HashMap<String, Uuid>,
}

#[derive(Debug)]
struct IssuesByBuyer(Ledger);

impl RowQuery for IssuesByBuyer {
    /// Coupon and buyer.
    type Key = (String, String);
    type Value = Uuid;

    async fn load(&self, keys: &[Self::Key]) -> Result<HashMap<Self::Key, Uuid>, LedgerError> {
        let issues = self.0.issues_of(keys).await?;
        Ok(issues.into_iter().map(|(coupon, buyer, id)| ((coupon, buyer), id)).collect())
    }
}

impl Holders {
    pub(crate) fn new(ledger: Ledger) -> Self {
        let issues = BatchLoader::new(IssuesByBuyer(ledger.clone()));
        Self { ledger, by_coupon: RwLock::default(), issues }
    }

    /// The buyer's issue of a coupon, in the database.
    pub(crate) async fn look_up(
        &self,
        coupon_id: &str,
        buyer: &str,
    ) -> Result<Option<Uuid>, PurchaseError> {
        self.issues.get((coupon_id.to_owned(), buyer.to_owned())).await
    }

    /// The buyer's issue of an exhausted coupon.
    pub(crate) async fn holder_of_exhausted(
        &self,
        coupon: &Coupon,
        buyer: &str,
    ) -> Result<Option<Uuid>, PurchaseError> {
        if let Some(holders) = self.kept_holders(coupon) {
            if let Some(all) = holders.all.get() {
                return Ok(all.get(buyer).copied());
            }
            if let Ok(mut progress) = holders.progress.try_lock() {
                // Another caller may just have finished the read.
                if holders.all.get().is_none() {
                    self.read_on(&coupon.id, &mut progress).await?;
                }
                let all = holders.all.get_or_init(|| std::mem::take(&mut progress.issues));
                return Ok(all.get(buyer).copied());
            }
        }
        // While another caller reads, this one asks the database.
        self.look_up(&coupon.id, buyer).await
    }

    /// Drops what is in memory; it is read again.
    pub(crate) fn forget(&self) {
        self.by_coupon.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The entry of a coupon, if its holders fit in memory.
    fn kept_holders(&self, coupon: &Coupon) -> Option<Arc<CouponHolders>> {
        if coupon.quantity > MAX_KEPT_PER_COUPON {
            return None;
        }
        let known = self.by_coupon.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(holders) = known.get(&coupon.id) {
            return Some(Arc::clone(holders));
        }
        drop(known);
        let mut known = self.by_coupon.write().unwrap_or_else(PoisonError::into_inner);
        let others = known.iter().filter(|(id, _)| **id != coupon.id);
        if others.map(|(_, of)| of.quantity).sum::<i64>() + coupon.quantity > MAX_KEPT {
            return None;
        }
        let holders = known.entry(coupon.id.clone()).or_insert_with(|| {
            let (all, progress) = (OnceLock::new(), Mutex::default());
            Arc::new(CouponHolders { quantity: coupon.quantity, all, progress })
        });
        Some(Arc::clone(holders))
    }

    /// Reads the remaining holders. After an error the next caller continues from there.
    async fn read_on(&self, coupon_id: &str, progress: &mut Progress) -> Result<(), LedgerError> {
        loop {
            let page = self.ledger.issues_after(coupon_id, &progress.up_to, PAGE).await?;
            let is_full = i64::try_from(page.len()).is_ok_and(|rows| rows >= PAGE);
            if let Some((last, _)) = page.last() {
                progress.up_to.clone_from(last);
            }
            progress.issues.extend(page);
            if !is_full {
                return Ok(());
            }
        }
    }
}
