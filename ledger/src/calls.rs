//! How long a call to the database may take.

use std::time::Duration;

use sqlx::Connection;
use sqlx::migrate::Migrator;
use tokio::time::timeout;

use crate::error::LedgerError;

/// How long a caller waits for a free connection of the pool.
pub(crate) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a returned connection may take to answer a ping; a slower one is closed.
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// Time limit of every call except a sale, which its lease bounds, the migration, and the count of all orders.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit of the count of all orders: tens of millions of rows.
pub(crate) const COUNT_TIMEOUT: Duration = Duration::from_mins(1);

/// Migrations that also run on a database which a later version of the app has migrated further; see
/// `ledger/migrations/README.md`.
pub(crate) fn beside_later_ones(mut migrations: Migrator) -> Migrator {
    migrations.set_ignore_missing(true);
    migrations
}

pub(crate) async fn bounded<T>(
    call: impl Future<Output = Result<T, LedgerError>>,
) -> Result<T, LedgerError> {
    bounded_by(CALL_TIMEOUT, call).await
}

pub(crate) async fn bounded_by<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, LedgerError>>,
) -> Result<T, LedgerError> {
    timeout(limit, call).await.unwrap_or(Err(LedgerError::TimedOut(limit)))
}

/// A connection whose server vanished silently would occupy the pool until the kernel's own timeout.
pub(crate) async fn answers<C: Connection>(connection: &mut C) -> Result<bool, sqlx::Error> {
    timeout(PING_TIMEOUT, connection.ping())
        .await
        .map_err(|_elapsed| sqlx::Error::PoolTimedOut)??;
    Ok(true)
}
