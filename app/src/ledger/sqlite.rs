//! The ledger in SQLite, for development and small sales: one writer at a time.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::Duration;

use sqlx::SqliteConnection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use uuid::fmt::Hyphenated;

use super::decide::Ruling;
use super::sql;
use super::{
    ACQUIRE_TIMEOUT, Account, Decision, LedgerError, Order, Outcome, Product, ProductDeclaration,
    Purchase, answers,
};

/// How long a writer waits for the one before it, perhaps in another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// See [`super::Ledger`].
#[derive(Debug, Clone)]
pub struct SqliteLedger {
    pool: SqlitePool,
}

type OrderRow = (Hyphenated, String, String, i64, Option<String>);

fn order((id, product_id, buyer, quantity, idempotency_key): OrderRow) -> Order {
    Order { id: id.into_uuid(), product_id, buyer, quantity, idempotency_key }
}

impl SqliteLedger {
    pub(super) fn connect_lazy(url: &str, max_connections: u32) -> Result<Self, LedgerError> {
        let options = SqliteConnectOptions::from_str(url)?
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_release(|connection, _| Box::pin(answers(connection)))
            .connect_lazy_with(options);
        Ok(Self { pool })
    }

    pub(super) async fn migrate(&self) -> Result<(), LedgerError> {
        sqlx::migrate!("migrations/sqlite").run(&self.pool).await?;
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
        let mut connection = self.pool.acquire().await?;
        find_order(&mut connection, buyer, key).await
    }

    pub(super) async fn sell(
        &self,
        product_id: &str,
        token: i64,
        purchases: &[&Purchase],
    ) -> Result<Decision, LedgerError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let available = fence(&mut transaction, product_id, token).await?;
        let max_per_buyer: Option<i64> = sqlx::query_scalar(sql::MAX_PER_BUYER)
            .bind(product_id)
            .fetch_one(&mut *transaction)
            .await?;
        let mut ruling = Ruling {
            product_id,
            available,
            max_per_buyer,
            existing: HashMap::new(),
            bought: HashMap::new(),
        };
        for purchase in purchases {
            if let Some(key) = &purchase.idempotency_key
                && let Some(order) = find_order(&mut transaction, &purchase.buyer, key).await?
            {
                ruling.existing.insert((purchase.buyer.clone(), key.clone()), order);
            }
            if max_per_buyer.is_some() && !ruling.bought.contains_key(&purchase.buyer) {
                let bought = bought(&mut transaction, product_id, &purchase.buyer).await?;
                ruling.bought.insert(purchase.buyer.clone(), bought);
            }
        }
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
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
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

/// Installs the token; returns the units left.
async fn fence(
    connection: &mut SqliteConnection,
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
    connection: &mut SqliteConnection,
    product_id: &str,
    buyer: &str,
) -> Result<i64, LedgerError> {
    let query =
        "SELECT coalesce(sum(quantity), 0) FROM orders WHERE product_id = $1 AND buyer = $2";
    Ok(sqlx::query_scalar(query).bind(product_id).bind(buyer).fetch_one(connection).await?)
}

async fn find_order(
    connection: &mut SqliteConnection,
    buyer: &str,
    key: &str,
) -> Result<Option<Order>, LedgerError> {
    let row: Option<OrderRow> =
        sqlx::query_as(sql::ORDER_BY_KEY).bind(buyer).bind(key).fetch_optional(connection).await?;
    Ok(row.map(order))
}

/// Writes what was decided.
async fn record(
    connection: &mut SqliteConnection,
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
    // The database is ours since `BEGIN IMMEDIATE`, so this cannot happen; if it does, nothing may
    // be sold.
    if done.rows_affected() != 1 {
        return Err(LedgerError::Database(sqlx::Error::RowNotFound));
    }
    for outcome in outcomes {
        let Outcome::Sold(order) = outcome else {
            continue;
        };
        sqlx::query(
            "INSERT INTO orders (id, product_id, buyer, quantity, idempotency_key, fence) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(order.id.hyphenated())
        .bind(product_id)
        .bind(&order.buyer)
        .bind(order.quantity)
        .bind(&order.idempotency_key)
        .bind(token)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
