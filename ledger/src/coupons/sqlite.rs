//! Coupons in SQLite.

use std::collections::HashMap;

use sqlx::SqliteConnection;
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use super::allocation::{CouponAllocation, distinct};
use super::sql;
use super::types::{Coupon, Issuance};
use crate::error::LedgerError;
use crate::sqlite::SqliteLedger;

impl SqliteLedger {
    pub(crate) async fn create_coupon(&self, coupon: &Coupon) -> Result<bool, LedgerError> {
        let done = sqlx::query(sql::CREATE)
            .bind(&coupon.id)
            .bind(coupon.quantity)
            .bind(coupon.starts_at_ms)
            .bind(coupon.ends_at_ms)
            .execute(&self.writer)
            .await?;
        Ok(done.rows_affected() == 1)
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
        buyers: &[&str],
    ) -> Result<Issuance, LedgerError> {
        let mut transaction = self.begin().await?;
        let issuance = issue(&mut transaction, id, token, buyers).await;
        transaction.end(issuance).await
    }
}

async fn issue(
    connection: &mut SqliteConnection,
    id: &str,
    token: i64,
    buyers: &[&str],
) -> Result<Issuance, LedgerError> {
    let remaining = fence(connection, id, token).await?;
    let mut existing = HashMap::new();
    for buyer in distinct(buyers) {
        if let Some(issue) = issue_of(connection, id, buyer).await? {
            existing.insert(buyer.to_owned(), issue);
        }
    }
    let mut allocation = CouponAllocation::new(id, remaining, existing);
    let outcomes = allocation.issue_all(buyers);
    write(connection, &allocation, token).await?;
    Ok(Issuance { outcomes, remaining: allocation.remaining })
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

/// Installs the token; returns the coupons left.
async fn fence(
    connection: &mut SqliteConnection,
    id: &str,
    token: i64,
) -> Result<i64, LedgerError> {
    let remaining = sqlx::query_scalar(sql::FENCE).bind(id).bind(token);
    if let Some(remaining) = remaining.fetch_optional(&mut *connection).await? {
        return Ok(remaining);
    }
    let seen = sqlx::query_scalar(sql::FENCE_SEEN).bind(id).fetch_optional(connection).await?;
    Err(LedgerError::refused(id, token, seen))
}

async fn write(
    connection: &mut SqliteConnection,
    allocation: &CouponAllocation<'_>,
    token: i64,
) -> Result<(), LedgerError> {
    if allocation.new.is_empty() {
        return Ok(());
    }
    let take =
        sqlx::query(sql::TAKE).bind(allocation.coupon_id).bind(allocation.count()).bind(token);
    // The database is ours since `BEGIN IMMEDIATE`, so this cannot happen; if it does, nothing may
    // be issued.
    if take.execute(&mut *connection).await?.rows_affected() != 1 {
        return Err(LedgerError::Database(sqlx::Error::RowNotFound));
    }
    for issue in &allocation.new {
        sqlx::query(
            "INSERT INTO coupon_issues (id, coupon_id, buyer, fence) VALUES ($1, $2, $3, $4)",
        )
        .bind(issue.id.hyphenated())
        .bind(allocation.coupon_id)
        .bind(&issue.buyer)
        .bind(token)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
