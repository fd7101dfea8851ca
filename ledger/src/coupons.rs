//! Coupons: a limited number of each kind, one per buyer, and one per person where the sale limits by a claim.

mod allocation;
mod issue;
mod postgres;
mod sql;
mod sqlite;
mod types;

use uuid::Uuid;

pub use self::types::{Coupon, Issuance, Issue, Issued};
use crate::calls::bounded;
use crate::error::LedgerError;
use crate::ledger::{Ledger, either};
use crate::types::Applicant;

impl Ledger {
    /// Makes a coupon; `false` when the id is taken. `actor`: the administrator, for the audit log.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create_coupon(
        &self,
        coupon: &Coupon,
        actor: Option<&str>,
    ) -> Result<bool, LedgerError> {
        bounded(async { either!(self, ledger => ledger.create_coupon(coupon, actor)) }).await
    }

    /// The coupon with this id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn coupon(&self, id: &str) -> Result<Option<Coupon>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.coupon(id)) }).await
    }

    /// The coupons that exist of these pairs of coupon and buyer.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn issues_of(
        &self,
        asked: &[(String, String)],
    ) -> Result<Vec<(String, String, Uuid)>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.issues_of(asked)) }).await
    }

    /// The issued coupons of this kind, sorted by buyer, from the buyer after `buyer`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn issues_after(
        &self,
        id: &str,
        buyer: &str,
        limit: i64,
    ) -> Result<Vec<(String, Uuid)>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.issues_after(id, buyer, limit)) }).await
    }

    /// Issues to these applicants, in their order, in one transaction.
    ///
    /// # Errors
    /// As [`Ledger::sell`], with [`LedgerError::UnknownProduct`] for an unknown coupon.
    pub async fn issue(
        &self,
        id: &str,
        token: i64,
        applicants: &[&Applicant],
    ) -> Result<Issuance, LedgerError> {
        either!(self, ledger => ledger.issue(id, token, applicants))
    }
}
