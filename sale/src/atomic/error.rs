//! Errors of the work between Redis and the database.

use std::time::Duration;

use ledger::LedgerError;

/// The time limit of a call that is no purchase.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(5);

/// Why the stores were not brought into agreement.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Lock(#[from] redlock::AcquireError),
    #[error("the lease ended before the stock was rebuilt")]
    TooSlow,
    #[error("another holder took the lock in between")]
    Overtaken,
    #[error("only a replica of a later version can record some of the orders")]
    LaterEntry,
    #[error("no answer within {CALL_LIMIT:?}")]
    TimedOut,
}
