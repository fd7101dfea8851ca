//! Coupons in PostgreSQL.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;
use uuid::Uuid;

use super::issue::{CouponStatements, create, issue};
use super::sql;
use super::types::{Coupon, Issuance, Issue};
use crate::error::LedgerError;
use crate::postgres::PostgresLedger;
use crate::types::Applicant;

impl PostgresLedger {
    pub(crate) async fn create_coupon(
        &self,
        coupon: &Coupon,
        actor: Option<&str>,
    ) -> Result<bool, LedgerError> {
        let mut transaction = self.begin().await?;
        let created = create(&mut *transaction, coupon, actor).await;
        transaction.end(created).await
    }

    pub(crate) async fn coupon(&self, id: &str) -> Result<Option<Coupon>, LedgerError> {
        Ok(sqlx::query_as(sql::COUPON).bind(id).fetch_optional(&self.pool).await?)
    }

    pub(crate) async fn issues_of(
        &self,
        asked: &[(String, String)],
    ) -> Result<Vec<(String, String, Uuid)>, LedgerError> {
        let (coupons, buyers): (Vec<&str>, Vec<&str>) =
            asked.iter().map(|(coupon, buyer)| (coupon.as_str(), buyer.as_str())).unzip();
        let query = sqlx::query_as(sql::ISSUES_OF).bind(coupons).bind(buyers);
        Ok(query.fetch_all(&self.pool).await?)
    }

    pub(crate) async fn issues_after(
        &self,
        id: &str,
        buyer: &str,
        limit: i64,
    ) -> Result<Vec<(String, Uuid)>, LedgerError> {
        let query = sqlx::query_as(sql::ISSUES_AFTER).bind(id).bind(buyer).bind(limit);
        Ok(query.fetch_all(&self.pool).await?)
    }

    pub(crate) async fn issue(
        &self,
        id: &str,
        token: i64,
        applicants: &[&Applicant],
    ) -> Result<Issuance, LedgerError> {
        let mut transaction = self.begin().await?;
        let issuance = issue(&mut *transaction, id, token, applicants).await;
        transaction.end(issuance).await
    }
}

/// The issues of a coupon ($1) to these buyers ($2). `OFFSET 0`: one look into the index for each, though the plan may be
/// of a time when the coupon had none.
const EXISTING: &str = "SELECT found.* FROM unnest($2::TEXT[]) AS asked (buyer) CROSS JOIN LATERAL \
     (SELECT buyer, id FROM coupon_issues WHERE coupon_id = $1 AND buyer = asked.buyer OFFSET 0) found";

/// Those of the limit keys ($2) that have a coupon ($1), looked up as in [`EXISTING`].
const PERSONS: &str = "SELECT limit_key FROM unnest($2::TEXT[]) AS asked (key) CROSS JOIN LATERAL \
     (SELECT limit_key FROM coupon_issues WHERE coupon_id = $1 AND limit_key = asked.key \
      UNION ALL SELECT limit_key FROM erased_units \
      WHERE limit_key = asked.key AND item = 'coupon:' || $1 OFFSET 0) found";

impl CouponStatements for PgConnection {
    async fn create(&mut self, coupon: &Coupon) -> Result<bool, LedgerError> {
        let done = sqlx::query(sql::CREATE)
            .bind(&coupon.id)
            .bind(coupon.quantity)
            .bind(coupon.starts_at_ms)
            .bind(coupon.ends_at_ms)
            .execute(self)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn fence(&mut self, id: &str, token: i64) -> Result<i64, LedgerError> {
        let remaining = sqlx::query_scalar(sql::FENCE).bind(id).bind(token);
        if let Some(remaining) = remaining.fetch_optional(&mut *self).await? {
            return Ok(remaining);
        }
        let seen = sqlx::query_scalar(sql::FENCE_SEEN).bind(id).fetch_optional(self).await?;
        Err(LedgerError::refused(id, token, seen))
    }

    async fn existing(
        &mut self,
        id: &str,
        buyers: &[&str],
    ) -> Result<HashMap<String, Uuid>, LedgerError> {
        let existing = sqlx::query_as(EXISTING).bind(id).bind(buyers);
        let existing: Vec<(String, Uuid)> = existing.fetch_all(self).await?;
        Ok(existing.into_iter().collect())
    }

    async fn persons(&mut self, id: &str, keys: &[&str]) -> Result<HashSet<String>, LedgerError> {
        let persons = sqlx::query_scalar(PERSONS).bind(id).bind(keys);
        let persons: Vec<String> = persons.fetch_all(self).await?;
        Ok(persons.into_iter().collect())
    }

    async fn take(&mut self, id: &str, count: i64, token: i64) -> Result<u64, LedgerError> {
        let take = sqlx::query(sql::TAKE).bind(id).bind(count).bind(token);
        Ok(take.execute(self).await?.rows_affected())
    }

    async fn write(
        &mut self,
        id: &str,
        issues: &[(Issue, Option<String>)],
        token: i64,
    ) -> Result<(), LedgerError> {
        sqlx::query(
            "INSERT INTO coupon_issues (id, coupon_id, buyer, fence, limit_key) \
             SELECT id, $1, buyer, $2, key FROM unnest($3::UUID[], $4::TEXT[], $5::TEXT[]) \
             AS issued (id, buyer, key)",
        )
        .bind(id)
        .bind(token)
        .bind(issues.iter().map(|(issue, _)| issue.id).collect::<Vec<_>>())
        .bind(issues.iter().map(|(issue, _)| issue.buyer.as_str()).collect::<Vec<_>>())
        .bind(issues.iter().map(|(_, key)| key.as_deref()).collect::<Vec<_>>())
        .execute(self)
        .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{on_postgres, plan_without_rows, pool_of};

    #[tokio::test]
    async fn earlier_issues_are_found_without_reading_the_others() {
        let (_server, ledger) = on_postgres(2).await;
        for (statement, look_up) in [
            (EXISTING, "Index Cond: ((coupon_id = $1) AND (buyer = asked.buyer))"),
            (PERSONS, "Index Cond: ((coupon_id = $1) AND (limit_key = asked.key))"),
        ] {
            let tables = "coupon_issues, erased_units";
            let plan = plan_without_rows(pool_of(&ledger), tables, statement).await;
            assert!(plan.contains(look_up) && !plan.contains("Seq Scan"), "{plan}");
        }
    }
}
