//! Why a buyer was not erased.

use ledger::LedgerError;

/// Why a buyer was not erased. Repeating the erasure goes on where it stopped.
#[derive(Debug, thiserror::Error)]
pub enum ErasureError {
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// `Atomic`: Redis failed.
    #[error("Redis: {0}")]
    Redis(String),
}
