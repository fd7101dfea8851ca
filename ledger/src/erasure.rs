//! Erases a buyer: the account goes, and a pseudonym takes the buyer's place everywhere else.
//!
//! An erasure begins with a row of `erasures`, from which replicas learn to refuse the buyer's tokens.
//! The row has the name itself until no store has it any more, so any process that finds the row can go on
//! where another one stopped. A salted hash remains: it confirms a name that is known already, and reveals none.
//!
//! Idempotency keys of an erased buyer are removed in a step of their own, when Redis has them no more. Triggers (migration
//! 28) take the limit keys off rows that get another buyer, and leave the sums in `erased_units`: the limit of a person
//! goes on counting what an erased account had, and nothing says which orders these were.

mod statements;
mod types;

use std::collections::HashSet;

pub use self::types::{Begun, ErasedNames, Erasure, PREFIX, Replaced, new_pseudonym};
use crate::calls::{COUNT_TIMEOUT, bounded, bounded_by};
use crate::error::LedgerError;
use crate::ledger::{Ledger, either};

/// Buyers of one transaction.
const BATCH: i64 = 200;
/// The same, of those whose entries in the audit log are looked for, without an index.
const LOGGED_BATCH: i64 = 20;

impl Ledger {
    /// Begins an erasure, for the administrator `actor`: deletes the account and logs the erasure.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn begin_erasure(&self, buyer: &str, actor: &str) -> Result<Begun, LedgerError> {
        let begin = async { either!(self, ledger => ledger.begin_erasure(buyer, actor)) };
        bounded_by(COUNT_TIMEOUT, begin).await
    }

    /// Puts the pseudonym in the buyer's place in every table.
    ///
    /// # Errors
    /// When the database fails; nothing was changed then.
    pub async fn replace_buyer(&self, erasure: &Erasure) -> Result<Replaced, LedgerError> {
        let replace = async { either!(self, ledger => ledger.replace_buyer(erasure)) };
        bounded_by(COUNT_TIMEOUT, replace).await
    }

    /// The idempotency keys of orders that have the pseudonym.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keys_of(&self, pseudonym: &str) -> Result<Vec<String>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.keys_of(pseudonym)) }).await
    }

    /// Removes the idempotency keys of orders that have the pseudonym: nobody can use them any more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn remove_keys(&self, pseudonym: &str) -> Result<(), LedgerError> {
        bounded(async { either!(self, ledger => ledger.remove_keys(pseudonym)) }).await
    }

    /// Removes the name from the erasure: no store has it any more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn finish_erasure(&self, buyer: &str) -> Result<(), LedgerError> {
        bounded(async { either!(self, ledger => ledger.finish_erasure(buyer)) }).await
    }

    /// The erasures that are not finished.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn pending_erasures(&self) -> Result<Vec<Erasure>, LedgerError> {
        let rows = bounded(async { either!(self, ledger => ledger.pending_erasures()) }).await?;
        let erasure = |(buyer, pseudonym, age_ms)| Erasure { buyer, pseudonym, age_ms };
        Ok(rows.into_iter().map(erasure).collect())
    }

    /// The time of the database, in milliseconds since 1970.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn now_ms(&self) -> Result<i64, LedgerError> {
        bounded(async { either!(self, ledger => ledger.now_ms()) }).await
    }

    /// How many erasures there are, and how many of them are not finished.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn erasure_counts(&self) -> Result<(i64, i64), LedgerError> {
        bounded(async { either!(self, ledger => ledger.erasure_counts()) }).await
    }

    /// The names that were erased.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn erased_names(&self) -> Result<ErasedNames, LedgerError> {
        bounded(async { either!(self, ledger => ledger.erased_names()) }).await
    }

    /// Puts a pseudonym in the place of every buyer of the sale's orders and coupons and of those whom the audit log
    /// names, some buyers in each transaction, and clears the waiting lists. Returns their number. Calling it again
    /// goes on where it stopped.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn replace_all_buyers(&self) -> Result<u64, LedgerError> {
        bounded(async { either!(self, ledger => ledger.clear_waitlist()) }).await?;
        let (mut replaced, mut last) = (0, String::new());
        // First, so that an entry of the log and the orders that it is about get the same pseudonym.
        loop {
            let read = async { either!(self, ledger => ledger.logged_after(&last, LOGGED_BATCH)) };
            let buyers = bounded_by(COUNT_TIMEOUT, read).await?;
            let Some(end) = buyers.last() else { break };
            last.clone_from(end);
            replaced += self.replace_some(&buyers, true).await?;
        }
        let mut last = String::new();
        loop {
            let read = async { either!(self, ledger => ledger.buyers_after(&last, BATCH)) };
            let buyers = bounded_by(COUNT_TIMEOUT, read).await?;
            let Some(end) = buyers.last() else { break };
            last.clone_from(end);
            replaced += self.replace_some(&buyers, false).await?;
        }
        let (mut coupon, mut last) = (String::new(), String::new());
        loop {
            let after = (coupon.as_str(), last.as_str());
            let read = async { either!(self, ledger => ledger.holders_after(after, BATCH)) };
            let holders = bounded_by(COUNT_TIMEOUT, read).await?;
            let Some((coupon_of_end, end)) = holders.last() else { break };
            (coupon, last) = (coupon_of_end.clone(), end.clone());
            let buyers: HashSet<String> = holders.into_iter().map(|(_, buyer)| buyer).collect();
            replaced += self.replace_some(&Vec::from_iter(buyers), false).await?;
        }
        // Nobody's limit counts any more.
        bounded(async { either!(self, ledger => ledger.clear_erased_units()) }).await?;
        Ok(replaced)
    }

    /// `are_logged`: the audit log names them.
    async fn replace_some(&self, buyers: &[String], are_logged: bool) -> Result<u64, LedgerError> {
        let replace = async { either!(self, ledger => ledger.replace_buyers(buyers, are_logged)) };
        bounded_by(COUNT_TIMEOUT, replace).await?;
        Ok(buyers.len() as u64)
    }
}
