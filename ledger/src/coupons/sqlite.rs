//! Coupons in SQLite.

use std::collections::{HashMap, HashSet};

use sqlx::SqliteConnection;
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use super::issue::{CouponStatements, create, issue};
use super::sql;
use super::types::{Coupon, Issuance, Issue};
use crate::error::LedgerError;
use crate::sqlite::SqliteLedger;
use crate::types::Applicant;

impl SqliteLedger {
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
        Ok(sqlx::query_as(sql::COUPON).bind(id).fetch_optional(&self.readers).await?)
    }

    pub(crate) async fn issues_of(
        &self,
        asked: &[(String, String)],
    ) -> Result<Vec<(String, String, Uuid)>, LedgerError> {
        let mut connection = self.readers.acquire().await?;
        let mut issues = Vec::new();
        for (coupon, buyer) in asked {
            if let Some(issue) = issue_of(&mut connection, coupon, buyer).await? {
                issues.push((coupon.clone(), buyer.clone(), issue));
            }
        }
        Ok(issues)
    }

    pub(crate) async fn issues_after(
        &self,
        id: &str,
        buyer: &str,
        limit: i64,
    ) -> Result<Vec<(String, Uuid)>, LedgerError> {
        let query = sqlx::query_as(sql::ISSUES_AFTER).bind(id).bind(buyer).bind(limit);
        let rows: Vec<(String, Hyphenated)> = query.fetch_all(&self.readers).await?;
        Ok(rows.into_iter().map(|(buyer, id)| (buyer, id.into_uuid())).collect())
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

impl CouponStatements for SqliteConnection {
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
        let mut existing = HashMap::new();
        for buyer in buyers {
            if let Some(issue) = issue_of(self, id, buyer).await? {
                existing.insert((*buyer).to_owned(), issue);
            }
        }
        Ok(existing)
    }

    async fn persons(&mut self, id: &str, keys: &[&str]) -> Result<HashSet<String>, LedgerError> {
        let mut persons = HashSet::new();
        for key in keys {
            let has: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM coupon_issues WHERE coupon_id = $1 AND limit_key = $2) \
                 OR EXISTS (SELECT 1 FROM erased_units WHERE limit_key = $2 AND item = 'coupon:' || $1)",
            )
            .bind(id)
            .bind(key)
            .fetch_one(&mut *self)
            .await?;
            if has {
                persons.insert((*key).to_owned());
            }
        }
        Ok(persons)
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
        for (issue, limit_key) in issues {
            sqlx::query(
                "INSERT INTO coupon_issues (id, coupon_id, buyer, fence, limit_key) \
                 VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(issue.id.hyphenated())
            .bind(id)
            .bind(&issue.buyer)
            .bind(token)
            .bind(limit_key)
            .execute(&mut *self)
            .await?;
        }
        Ok(())
    }
}

async fn issue_of(
    connection: &mut SqliteConnection,
    id: &str,
    buyer: &str,
) -> Result<Option<Uuid>, LedgerError> {
    let found: Option<Hyphenated> =
        sqlx::query_scalar(sql::ISSUE_OF).bind(id).bind(buyer).fetch_optional(connection).await?;
    Ok(found.map(Hyphenated::into_uuid))
}
