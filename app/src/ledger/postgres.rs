//! The ledger in PostgreSQL.

use std::collections::HashMap;
use std::str::FromStr;

use sqlx::PgConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

use super::decide::Ruling;
use super::sql;
use super::{
    ACQUIRE_TIMEOUT, Account, Decision, LedgerError, Order, Outcome, Product, ProductDeclaration,
    Purchase, answers,
};

/// See [`super::Ledger`].
#[derive(Debug, Clone)]
pub struct PostgresLedger {
    pool: PgPool,
}

impl PostgresLedger {
    pub(super) fn connect_lazy(url: &str, max_connections: u32) -> Result<Self, LedgerError> {
        let options = PgConnectOptions::from_str(url)?.application_name("flashsale");
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            // A sale begins with a burst: connecting then would cost its first buyers the time.
            .min_connections(max_connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_release(|connection, _| Box::pin(answers(connection)))
            .connect_lazy_with(options);
        Ok(Self { pool })
    }

    pub(super) async fn migrate(&self) -> Result<(), LedgerError> {
        // Takes an advisory lock, so replicas that start together wait for each other.
        sqlx::migrate!("migrations/postgres").run(&self.pool).await?;
        Ok(())
    }

    pub(super) async fn create_account(&self, account: &Account) -> Result<bool, LedgerError> {
        let done = sqlx::query(sql::CREATE_ACCOUNT)
            .bind(&account.id)
            .bind(&account.password_hash)
            .bind(&account.role)
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    pub(super) async fn account(&self, id: &str) -> Result<Option<Account>, LedgerError> {
        Ok(sqlx::query_as(sql::ACCOUNT).bind(id).fetch_optional(&self.pool).await?)
    }

    pub(super) async fn products(&self) -> Result<Vec<Product>, LedgerError> {
        Ok(sqlx::query_as(sql::PRODUCTS).fetch_all(&self.pool).await?)
    }

    pub(super) async fn order_by_key(
        &self,
        buyer: &str,
        key: &str,
    ) -> Result<Option<Order>, LedgerError> {
        Ok(sqlx::query_as(sql::ORDER_BY_KEY)
            .bind(buyer)
            .bind(key)
            .fetch_optional(&self.pool)
            .await?)
    }

    pub(super) async fn sell(
        &self,
        product_id: &str,
        token: i64,
        purchases: &[&Purchase],
    ) -> Result<Decision, LedgerError> {
        let mut transaction = self.pool.begin().await?;
        let available = fence(&mut transaction, product_id, token).await?;
        let max_per_buyer = sqlx::query_scalar(sql::MAX_PER_BUYER)
            .bind(product_id)
            .fetch_one(&mut *transaction)
            .await?;
        let bought = match max_per_buyer {
            Some(_) => bought(&mut transaction, product_id, purchases).await?,
            None => HashMap::new(),
        };
        let existing = existing(&mut transaction, purchases).await?;
        let mut ruling = Ruling { product_id, available, max_per_buyer, existing, bought };
        let outcomes = ruling.decide(purchases);
        record(&mut transaction, product_id, token, available - ruling.available, &outcomes)
            .await?;
        transaction.commit().await?;
        Ok(Decision { outcomes, available: ruling.available })
    }

    pub(super) async fn declare(
        &self,
        product: &ProductDeclaration,
        token: i64,
    ) -> Result<i64, LedgerError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query(sql::DECLARE_PRODUCT)
            .bind(&product.id)
            .bind(&product.name)
            .bind(product.max_per_buyer)
            .bind(product.wait_timeout_ms)
            .bind(product.lease_time_ms)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(sql::CREATE_STOCK).bind(&product.id).execute(&mut *transaction).await?;
        fence(&mut transaction, &product.id, token).await?;
        let declared: i64 = sqlx::query_scalar(sql::DECLARED)
            .bind(&product.id)
            .fetch_one(&mut *transaction)
            .await?;
        product.check_not_lowered(declared)?;
        let available = sqlx::query_scalar(sql::RAISE)
            .bind(&product.id)
            .bind(product.stock)
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(available)
    }
}

/// Installs the token and locks the row; returns the units left.
async fn fence(
    connection: &mut PgConnection,
    product_id: &str,
    token: i64,
) -> Result<i64, LedgerError> {
    let available = sqlx::query_scalar(sql::FENCE)
        .bind(product_id)
        .bind(token)
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(available) = available {
        return Ok(available);
    }
    let seen =
        sqlx::query_scalar(sql::FENCE_SEEN).bind(product_id).fetch_optional(connection).await?;
    Err(LedgerError::refused(product_id, token, seen))
}

async fn bought(
    connection: &mut PgConnection,
    product_id: &str,
    purchases: &[&Purchase],
) -> Result<HashMap<String, i64>, LedgerError> {
    let buyers: Vec<&str> = purchases.iter().map(|purchase| purchase.buyer.as_str()).collect();
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT buyer, sum(quantity)::BIGINT FROM orders \
         WHERE product_id = $1 AND buyer = ANY($2) GROUP BY buyer",
    )
    .bind(product_id)
    .bind(&buyers)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().collect())
}

async fn existing(
    connection: &mut PgConnection,
    purchases: &[&Purchase],
) -> Result<HashMap<(String, String), Order>, LedgerError> {
    let (buyers, keys): (Vec<&str>, Vec<&str>) = purchases
        .iter()
        .filter_map(|purchase| {
            Some((purchase.buyer.as_str(), purchase.idempotency_key.as_deref()?))
        })
        .unzip();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let orders: Vec<Order> = sqlx::query_as(
        "SELECT o.id, o.product_id, o.buyer, o.quantity, o.idempotency_key \
         FROM unnest($1::TEXT[], $2::TEXT[]) AS asked (buyer, key) \
         JOIN orders o ON o.buyer = asked.buyer AND o.idempotency_key = asked.key",
    )
    .bind(&buyers)
    .bind(&keys)
    .fetch_all(connection)
    .await?;
    let by_key =
        |order: Order| Some(((order.buyer.clone(), order.idempotency_key.clone()?), order));
    Ok(orders.into_iter().filter_map(by_key).collect())
}

/// Writes what was decided.
async fn record(
    connection: &mut PgConnection,
    product_id: &str,
    token: i64,
    units: i64,
    outcomes: &[Outcome],
) -> Result<(), LedgerError> {
    if units == 0 {
        return Ok(());
    }
    let done = sqlx::query(sql::TAKE)
        .bind(product_id)
        .bind(units)
        .bind(token)
        .execute(&mut *connection)
        .await?;
    // The row is ours since `fence`, so this cannot happen; if it does, nothing may be sold.
    if done.rows_affected() != 1 {
        return Err(LedgerError::Database(sqlx::Error::RowNotFound));
    }
    // In order of the keys: transactions that use the same ones wait for each other, not in a circle.
    let sold: Vec<&Order> = outcomes
        .iter()
        .filter_map(|outcome| if let Outcome::Sold(order) = outcome { Some(order) } else { None })
        .collect();
    sqlx::query(
        "INSERT INTO orders (id, product_id, buyer, quantity, idempotency_key, fence) \
         SELECT id, $1, buyer, quantity, key, $2 \
         FROM unnest($3::UUID[], $4::TEXT[], $5::BIGINT[], $6::TEXT[]) \
         AS sold (id, buyer, quantity, key) \
         ORDER BY buyer, key",
    )
    .bind(product_id)
    .bind(token)
    .bind(sold.iter().map(|order| order.id).collect::<Vec<_>>())
    .bind(sold.iter().map(|order| order.buyer.as_str()).collect::<Vec<_>>())
    .bind(sold.iter().map(|order| order.quantity).collect::<Vec<_>>())
    .bind(sold.iter().map(|order| order.idempotency_key.as_deref()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
