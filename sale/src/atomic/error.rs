//! Why Redis and the database were not brought together.

use std::time::Duration;

use ledger::LedgerError;

/// How long one call may take that is no purchase.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(5);

/// Why a look came to no end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Lock(#[from] redlock::AcquireError),
    #[error("the lease ended before the stock was made")]
    TooSlow,
    #[error("other holders came in between")]
    Overtaken,
    #[error("a later version's replica has to record what it sold")]
    LaterEntry,
    #[error("no answer within {CALL_LIMIT:?}")]
    TimedOut,
}
