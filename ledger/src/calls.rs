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
/// Time limit of every call except a sale, which its lease bounds, and the migration.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Migrations that also run on a database which a later version of the app has migrated further; see
/// `ledger/migrations/README.md`.
pub(crate) fn beside_later_ones(mut migrations: Migrator) -> Migrator {
    migrations.set_ignore_missing(true);
    migrations
}

pub(crate) async fn bounded<T>(
    call: impl Future<Output = Result<T, LedgerError>>,
) -> Result<T, LedgerError> {
    timeout(CALL_TIMEOUT, call).await.unwrap_or(Err(LedgerError::TimedOut(CALL_TIMEOUT)))
}

/// A connection whose server vanished silently would occupy the pool until the kernel's own timeout.
pub(crate) async fn answers<C: Connection>(connection: &mut C) -> Result<bool, sqlx::Error> {
    timeout(PING_TIMEOUT, connection.ping())
        .await
        .map_err(|_elapsed| sqlx::Error::PoolTimedOut)??;
    Ok(true)
}
