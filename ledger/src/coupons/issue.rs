//! What happens under a coupon's lock, in the order of its steps: the same in both databases.

use std::collections::{HashMap, HashSet};

use serde_json::json;
use uuid::Uuid;

use super::allocation::{CouponAllocation, buyers, limit_keys};
use super::types::{Coupon, Issuance, Issue};
use crate::audit_entry::{AuditEntry, AuditStatements};
use crate::error::LedgerError;
use crate::types::Applicant;

/// The statements of one database, on a connection inside a transaction.
pub(crate) trait CouponStatements: AuditStatements {
    /// Makes a coupon; `false` when the id is taken.
    async fn create(&mut self, coupon: &Coupon) -> Result<bool, LedgerError>;

    /// Installs the token, before anything is read; returns the coupons left.
    async fn fence(&mut self, id: &str, token: i64) -> Result<i64, LedgerError>;

    /// The coupons of this kind that these buyers have.
    async fn existing(
        &mut self,
        id: &str,
        buyers: &[&str],
    ) -> Result<HashMap<String, Uuid>, LedgerError>;

    /// Those of these limit keys whose persons have a coupon of this kind, or had one when their account was erased.
    async fn persons(&mut self, id: &str, keys: &[&str]) -> Result<HashSet<String>, LedgerError>;

    /// Takes coupons whose token is installed; returns how many rows changed.
    async fn take(&mut self, id: &str, count: i64, token: i64) -> Result<u64, LedgerError>;

    /// Writes down who has a coupon now, with the limit keys.
    async fn write(
        &mut self,
        id: &str,
        issues: &[(Issue, Option<String>)],
        token: i64,
    ) -> Result<(), LedgerError>;
}

/// Makes a coupon, and logs who did it.
pub(crate) async fn create<S: CouponStatements>(
    statements: &mut S,
    coupon: &Coupon,
    actor: Option<&str>,
) -> Result<bool, LedgerError> {
    let created = statements.create(coupon).await?;
    if let Some(actor) = actor.filter(|_| created) {
        let detail = json!({"quantity": coupon.quantity});
        let entry = AuditEntry::new(actor, "create_coupon", &coupon.id, Some(detail));
        statements.record(&entry).await?;
    }
    Ok(created)
}

/// Issues to these applicants, in their order.
pub(crate) async fn issue<S: CouponStatements>(
    statements: &mut S,
    id: &str,
    token: i64,
    applicants: &[&Applicant],
) -> Result<Issuance, LedgerError> {
    let remaining = statements.fence(id, token).await?;
    let existing = statements.existing(id, &buyers(applicants)).await?;
    let mut allocation = CouponAllocation::new(id, remaining, existing);
    let keys = limit_keys(applicants);
    if !keys.is_empty() {
        allocation.persons = statements.persons(id, &keys).await?;
    }
    let outcomes = allocation.issue_all(applicants);
    if !allocation.new.is_empty() {
        // The transaction has held the row since `fence`, so another count is a defect: nothing may be
        // issued then.
        if statements.take(id, allocation.count(), token).await? != 1 {
            return Err(LedgerError::Database(sqlx::Error::RowNotFound));
        }
        statements.write(id, &allocation.new, token).await?;
    }
    Ok(Issuance { outcomes, remaining: allocation.remaining })
}
