//! Coupons in PostgreSQL.

use sqlx::PgConnection;
use uuid::Uuid;

use super::allocation::{CouponAllocation, distinct};
use super::sql;
use super::types::{Coupon, Issuance};
use crate::error::LedgerError;
use crate::postgres::PostgresLedger;

impl PostgresLedger {
    pub(crate) async fn create_coupon(&self, coupon: &Coupon) -> Result<bool, LedgerError> {
        let done = sqlx::query(sql::CREATE)
            .bind(&coupon.id)
            .bind(coupon.quantity)
            .bind(coupon.starts_at_ms)
            .bind(coupon.ends_at_ms)
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() == 1)
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
        buyers: &[&str],
    ) -> Result<Issuance, LedgerError> {
        let mut transaction = self.begin().await?;
        let issuance = issue(&mut transaction, id, token, buyers).await;
        transaction.end(issuance).await
    }
}

async fn issue(
    connection: &mut PgConnection,
    id: &str,
    token: i64,
    buyers: &[&str],
) -> Result<Issuance, LedgerError> {
    let remaining = fence(connection, id, token).await?;
    let existing: Vec<(String, Uuid)> = sqlx::query_as(
        "SELECT buyer, id FROM coupon_issues WHERE coupon_id = $1 AND buyer = ANY($2)",
    )
    .bind(id)
    .bind(distinct(buyers))
    .fetch_all(&mut *connection)
    .await?;
    let mut allocation = CouponAllocation::new(id, remaining, existing.into_iter().collect());
    let outcomes = allocation.issue_all(buyers);
    write(connection, &allocation, token).await?;
    Ok(Issuance { outcomes, remaining: allocation.remaining })
}

/// Installs the token and locks the row; returns the coupons left.
async fn fence(connection: &mut PgConnection, id: &str, token: i64) -> Result<i64, LedgerError> {
    let remaining = sqlx::query_scalar(sql::FENCE).bind(id).bind(token);
    if let Some(remaining) = remaining.fetch_optional(&mut *connection).await? {
        return Ok(remaining);
    }
    let seen = sqlx::query_scalar(sql::FENCE_SEEN).bind(id).fetch_optional(connection).await?;
    Err(LedgerError::refused(id, token, seen))
}

async fn write(
    connection: &mut PgConnection,
    allocation: &CouponAllocation<'_>,
    token: i64,
) -> Result<(), LedgerError> {
    if allocation.new.is_empty() {
        return Ok(());
    }
    let take =
        sqlx::query(sql::TAKE).bind(allocation.coupon_id).bind(allocation.count()).bind(token);
    // The row is ours since `fence`, so this cannot happen; if it does, nothing may be issued.
    if take.execute(&mut *connection).await?.rows_affected() != 1 {
        return Err(LedgerError::Database(sqlx::Error::RowNotFound));
    }
    sqlx::query(
        "INSERT INTO coupon_issues (id, coupon_id, buyer, fence) \
         SELECT id, $1, buyer, $2 FROM unnest($3::UUID[], $4::TEXT[]) AS issued (id, buyer)",
    )
    .bind(allocation.coupon_id)
    .bind(token)
    .bind(allocation.new.iter().map(|issue| issue.id).collect::<Vec<_>>())
    .bind(allocation.new.iter().map(|issue| issue.buyer.as_str()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
