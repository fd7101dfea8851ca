//! Who has a coupon, once all are issued: that does not change any more.
//!
//! The holders of a coupon of which there are few are read once, page by page, and kept in memory;
//! those of others are looked up by the database's index, many at once. So memory is bounded however
//! many coupons were issued.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use ledger::coupons::Coupon;
use ledger::{Ledger, LedgerError};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::batch_loader::{BatchLoader, Load};
use crate::error::PurchaseError;

/// The holders of more coupons are not kept in memory: some 100 bytes each. They are read by one
/// caller, who waits for that.
const COUPON_AT_MOST: i64 = 20_000;
/// Nor are more holders than these of all coupons together.
const ALL_AT_MOST: i64 = 200_000;
/// Rows that are read at once.
const PAGE: i64 = 1_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Holders {
    ledger: Ledger,
    by_coupon: RwLock<HashMap<String, Arc<OfCoupon>>>,
    issues: BatchLoader<Issues>,
}

/// Those of one coupon.
#[derive(Debug)]
struct OfCoupon {
    /// How many there are.
    quantity: i64,
    all: OnceLock<HashMap<String, Uuid>>,
    /// As far as they were read; whoever has it goes on.
    reading: Mutex<Read>,
}

#[derive(Debug, Default)]
struct Read {
    /// All up to this buyer.
    up_to: String,
    issues: HashMap<String, Uuid>,
}

#[derive(Debug)]
struct Issues(Ledger);

impl Load for Issues {
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
        let issues = BatchLoader::new(Issues(ledger.clone()));
        Self { ledger, by_coupon: RwLock::default(), issues }
    }

    /// What a buyer has, by the database.
    pub(crate) async fn look_up(
        &self,
        coupon_id: &str,
        buyer: &str,
    ) -> Result<Option<Uuid>, PurchaseError> {
        self.issues.get((coupon_id.to_owned(), buyer.to_owned())).await
    }

    /// What a buyer has of a coupon that is all issued.
    pub(crate) async fn of_exhausted(
        &self,
        coupon: &Coupon,
        buyer: &str,
    ) -> Result<Option<Uuid>, PurchaseError> {
        if let Some(holders) = self.of_coupon(coupon) {
            if let Some(all) = holders.all.get() {
                return Ok(all.get(buyer).copied());
            }
            if let Ok(mut read) = holders.reading.try_lock() {
                // Unless another caller has just read the last of them.
                if holders.all.get().is_none() {
                    self.read_on(&coupon.id, &mut read).await?;
                }
                let all = holders.all.get_or_init(|| std::mem::take(&mut read.issues));
                return Ok(all.get(buyer).copied());
            }
        }
        // Also while another caller reads them.
        self.look_up(&coupon.id, buyer).await
    }

    /// Those of a coupon, if there is room for them in memory.
    fn of_coupon(&self, coupon: &Coupon) -> Option<Arc<OfCoupon>> {
        if coupon.quantity > COUPON_AT_MOST {
            return None;
        }
        let known = self.by_coupon.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(holders) = known.get(&coupon.id) {
            return Some(Arc::clone(holders));
        }
        drop(known);
        let mut known = self.by_coupon.write().unwrap_or_else(PoisonError::into_inner);
        let others = known.iter().filter(|(id, _)| **id != coupon.id);
        if others.map(|(_, of)| of.quantity).sum::<i64>() + coupon.quantity > ALL_AT_MOST {
            return None;
        }
        let holders = known.entry(coupon.id.clone()).or_insert_with(|| {
            let (all, reading) = (OnceLock::new(), Mutex::default());
            Arc::new(OfCoupon { quantity: coupon.quantity, all, reading })
        });
        Some(Arc::clone(holders))
    }

    /// Reads the rest of them. After an error the next caller goes on from there.
    async fn read_on(&self, coupon_id: &str, read: &mut Read) -> Result<(), LedgerError> {
        loop {
            let page = self.ledger.issues_after(coupon_id, &read.up_to, PAGE).await?;
            let is_full = i64::try_from(page.len()).is_ok_and(|rows| rows >= PAGE);
            if let Some((last, _)) = page.last() {
                read.up_to.clone_from(last);
            }
            read.issues.extend(page);
            if !is_full {
                return Ok(());
            }
        }
    }
}
