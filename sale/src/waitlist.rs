//! The waiting list of a product that is sold out while unpaid orders hold some of it.
//!
//! The ledger serves who waits in the transaction that gives units back, so nobody else can buy them. Units that
//! come in another way, such as by a restock, are handed out by the replica that ends holds.

use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use ledger::orders::Task;
use ledger::waitlist::{Joined, NewWaiter, WaitPlace};
use ledger::{Applicant, LedgerError};
use tokio::time::sleep;
use tracing::warn;

use crate::error::PurchaseError;
use crate::holds::{AT_ONCE, POLL, RETRY};
use crate::sale::Sale;

/// A buyer who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitReceipt {
    /// Where.
    pub place: WaitPlace,
    /// True: the buyer waited before, and nothing changed.
    pub replayed: bool,
}

/// Why a buyer does not wait. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WaitlistError {
    /// As for a purchase.
    #[error(transparent)]
    Purchase(#[from] PurchaseError),
    /// There are enough units.
    #[error("there are units left: buy them")]
    UnitsLeft,
    /// As many wait as may.
    #[error("as many buyers wait for this product as may")]
    Full,
    /// The buyer does not wait, or was served.
    #[error("you do not wait for this product; if you did, your order has the units")]
    NotWaiting,
}

impl WaitlistError {
    /// Codes beside those of [`PurchaseError`].
    pub const CODES: [&'static str; 3] = ["units_left", "waitlist_full", "not_waiting"];

    /// The stable code, in answers.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Purchase(error) => error.code(),
            Self::UnitsLeft => "units_left",
            Self::Full => "waitlist_full",
            Self::NotWaiting => "not_waiting",
        }
    }
}

impl From<LedgerError> for WaitlistError {
    fn from(error: LedgerError) -> Self {
        Self::Purchase(error.into())
    }
}

impl Sale {
    /// Puts a buyer on the waiting list of a product. Repeating it changes nothing.
    ///
    /// # Errors
    /// See [`WaitlistError`].
    pub async fn join_waitlist(
        &self,
        product_id: &str,
        applicant: Applicant,
        quantity: i64,
    ) -> Result<WaitReceipt, WaitlistError> {
        self.known(product_id)?;
        if !self.is_decided_by_the_database() {
            return Err(PurchaseError::NotWithAtomic.into());
        }
        self.window.check(Timestamp::now())?;
        let Applicant { buyer, limit_key } = applicant;
        self.check_limit_key(product_id, limit_key.as_deref())?;
        let hold = self.hold_of(product_id);
        let waiter = NewWaiter {
            product_id: product_id.to_owned(),
            buyer,
            quantity,
            hold_ms: i64::try_from(hold.as_millis()).unwrap_or(i64::MAX),
            limit_key,
        };
        match self.ledger.join_waitlist(&waiter).await? {
            Joined::Waits(place) => Ok(WaitReceipt { place, replayed: false }),
            Joined::WaitedBefore(place) => Ok(WaitReceipt { place, replayed: true }),
            Joined::Served => Err(WaitlistError::NotWaiting),
            Joined::UnitsLeft => Err(WaitlistError::UnitsLeft),
            Joined::NothingHeld => Err(PurchaseError::SoldOut.into()),
            Joined::LimitReached => Err(PurchaseError::LimitReached.into()),
            Joined::Full => Err(WaitlistError::Full),
            Joined::UnknownProduct => {
                Err(PurchaseError::UnknownProduct(product_id.to_owned()).into())
            }
        }
    }

    /// Where a buyer waits for a product.
    ///
    /// # Errors
    /// [`WaitlistError::NotWaiting`], or when the database fails.
    pub async fn waitlist_place(
        &self,
        product_id: &str,
        buyer: &str,
    ) -> Result<WaitPlace, WaitlistError> {
        let place = self.ledger.waitlist_place(product_id, buyer).await?;
        place.ok_or(WaitlistError::NotWaiting)
    }

    fn known(&self, product_id: &str) -> Result<(), PurchaseError> {
        let unknown = || PurchaseError::UnknownProduct(product_id.to_owned());
        self.catalog.loaded()?.remaining(product_id).map(drop).ok_or_else(unknown)
    }

    /// Takes a buyer off the waiting list of a product, which may have been deleted; one who does not wait is off it
    /// already.
    ///
    /// # Errors
    /// When there is no such product and the buyer did not wait for it, or the database fails.
    pub async fn leave_waitlist(&self, product_id: &str, buyer: &str) -> Result<(), WaitlistError> {
        // No product has such an id, and PostgreSQL takes no such text.
        let may_wait = !product_id.contains('\0');
        if may_wait && self.ledger.leave_waitlist(product_id, buyer).await? {
            return Ok(());
        }
        self.known(product_id)?;
        Ok(())
    }

    /// Hands out units again and again; logs the first of several failures.
    pub(crate) async fn keep_handing_out(&self) {
        let mut reported = false;
        loop {
            let handed_out = self.hand_out().await;
            if let (Err(error), false) = (&handed_out, reported) {
                warn!(%error, "the waiting lists cannot be read; trying again");
            }
            reported = handed_out.is_err();
            sleep(if reported { RETRY } else { POLL }).await;
        }
    }

    /// Products of which units are on sale although somebody waits for as many. They are handed out soon.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn due_waitlists(&self) -> Result<Vec<String>, LedgerError> {
        if !self.is_decided_by_the_database() {
            return Ok(Vec::new());
        }
        self.ledger.due_waitlists().await
    }

    /// Hands out units that are on sale although somebody waits for as many.
    async fn hand_out(&self) -> Result<(), PurchaseError> {
        let due = stream::iter(self.due_waitlists().await?);
        let hand_out = async |product: String| {
            let products = [product.clone()].into();
            let settled = self.order_queues.settle(self.discipline(), Task::HandOut, products);
            if let Err(error) = settled.await {
                warn!(product, %error, "units cannot be handed out to those who wait");
            }
        };
        due.for_each_concurrent(AT_ONCE, hand_out).await;
        Ok(())
    }
}
