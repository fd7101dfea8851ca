//! Why a purchase was not made. Only a loss of the quorum has the code `quorum_unavailable`: that is what
//! the alert of its name is for.

use std::time::Duration;

use jiff::Timestamp;
use ledger::LedgerError;
use redlock::{AcquireError, SubmitError};
use tracing::error;

/// Why a purchase was not made. Nothing was taken, except that after `DatabaseUnavailable` and
/// `Interrupted` it is not known: the same idempotency key tells.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PurchaseError {
    /// The sale has not begun.
    #[error("the sale starts at {0}")]
    NotStarted(Timestamp),
    /// The sale is over.
    #[error("the sale ended at {0}")]
    Ended(Timestamp),
    /// There is no such product.
    #[error("there is no product {0:?}")]
    UnknownProduct(String),
    /// Fewer units are left than were asked for.
    #[error("sold out")]
    SoldOut,
    /// The buyer would have more than the product allows.
    #[error("limit per buyer reached")]
    LimitReached,
    /// The idempotency key came before with another product or quantity.
    #[error("the idempotency key was used for another purchase")]
    KeyReused,
    /// The lock was not to be had in time.
    #[error("the lock was held by others for the whole wait")]
    LockTimeout,
    /// Too few Redis nodes answer.
    #[error("too few lock nodes answer")]
    QuorumUnavailable,
    /// Too many are waiting.
    #[error("too many purchases are waiting")]
    Overloaded {
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// The database failed or is away.
    #[error("the database does not answer")]
    DatabaseUnavailable,
    /// Redis, which decides, is away, takes no writes, or is being filled from the database.
    #[error("the stock is not there at the moment")]
    StockUnavailable,
    /// Redis decides in this sale, one product at a time.
    #[error(
        "this sale is decided by Redis (strategy Atomic): buy products one by one with POST /v1/purchases"
    )]
    NotWithAtomic,
    /// The batch ended without an answer.
    #[error("the purchase was interrupted")]
    Interrupted,
    /// The lock was asked for what can never be had, or not at all: a defect, or a wrong setting.
    #[error("an internal error, which has been logged")]
    Internal,
}

impl PurchaseError {
    /// The stable code, in answers and in metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotStarted(_) | Self::Ended(_) => "sale_not_open",
            Self::UnknownProduct(_) => "unknown_product",
            Self::SoldOut => "sold_out",
            Self::LimitReached => "limit_reached",
            Self::KeyReused => "idempotency_key_reused",
            Self::LockTimeout => "lock_timeout",
            Self::QuorumUnavailable => "quorum_unavailable",
            Self::Overloaded { .. } => "overloaded",
            Self::DatabaseUnavailable => "database_unavailable",
            Self::StockUnavailable => "stock_unavailable",
            Self::NotWithAtomic => "not_with_atomic",
            Self::Interrupted => "interrupted",
            Self::Internal => "internal",
        }
    }
}

impl From<SubmitError> for PurchaseError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Overloaded { expected_wait } => {
                Self::Overloaded { retry_after: expected_wait }
            }
            SubmitError::Lock(error) => error.into(),
            // Logged where it happened.
            SubmitError::NoPolicy => Self::Internal,
            SubmitError::Abandoned => Self::Interrupted,
        }
    }
}

impl From<AcquireError> for PurchaseError {
    fn from(error: AcquireError) -> Self {
        match error {
            AcquireError::Overloaded { expected_wait } => {
                Self::Overloaded { retry_after: expected_wait }
            }
            AcquireError::Timeout { .. } => Self::LockTimeout,
            AcquireError::QuorumUnavailable { .. } => Self::QuorumUnavailable,
            AcquireError::Interrupted => Self::Interrupted,
            AcquireError::LeaseTooLong { .. }
            | AcquireError::LeaseTooShort { .. }
            | AcquireError::BadConfig { .. }
            | AcquireError::BadNode { .. }
            | AcquireError::NoNodes => {
                error!(%error, "the lock can never be acquired so");
                Self::Internal
            }
        }
    }
}

impl From<LedgerError> for PurchaseError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::UnknownProduct(id) => Self::UnknownProduct(id),
            error => {
                error!(%error, "ledger failed");
                Self::DatabaseUnavailable
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_a_loss_of_the_quorum_is_told_as_one() {
        let wait = Duration::from_secs(1);
        let quorum = AcquireError::QuorumUnavailable { reachable: 2, nodes: 5, quorum: 3 };
        let told = [
            (quorum, PurchaseError::QuorumUnavailable),
            (AcquireError::Timeout { waited: wait }, PurchaseError::LockTimeout),
            (
                AcquireError::Overloaded { expected_wait: wait },
                PurchaseError::Overloaded { retry_after: wait },
            ),
            (AcquireError::Interrupted, PurchaseError::Interrupted),
            (
                AcquireError::LeaseTooLong { lease_time: wait * 2, longest: wait },
                PurchaseError::Internal,
            ),
            (
                AcquireError::LeaseTooShort { lease_time: Duration::ZERO, shortest: wait },
                PurchaseError::Internal,
            ),
            (AcquireError::BadConfig { field: "f", rule: "r" }, PurchaseError::Internal),
            (AcquireError::BadNode { index: 0, reason: String::new() }, PurchaseError::Internal),
            (AcquireError::NoNodes, PurchaseError::Internal),
        ];
        for (error, expected) in told {
            assert_eq!(PurchaseError::from(SubmitError::Lock(error.clone())), expected, "{error}");
        }
        assert_eq!(PurchaseError::from(SubmitError::NoPolicy), PurchaseError::Internal);
        assert_eq!(PurchaseError::from(SubmitError::Abandoned), PurchaseError::Interrupted);
        assert_eq!(PurchaseError::Internal.code(), "internal");
    }
}
