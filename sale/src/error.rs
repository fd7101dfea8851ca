//! Errors of a purchase. Only the loss of the quorum has the code `quorum_unavailable`, because the
//! alert of that name counts this code.

use std::time::Duration;

use jiff::Timestamp;
use ledger::LedgerError;
use redlock::{AcquireError, SubmitError};
use tracing::error;

/// Why a purchase was not made. No units were taken, except that after `DatabaseUnavailable` and
/// `Interrupted` the purchase may have been made: a repetition with the same idempotency key returns
/// it.
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
    /// Fewer units are left than requested.
    #[error("sold out")]
    SoldOut,
    /// The buyer would have more than the product allows.
    #[error("limit per buyer reached")]
    LimitReached,
    /// The sale limits buyers by this claim, and the access token lacks it.
    #[error(
        "this is limited by the claim {0:?} of the access token, which yours does not have as a text or a whole number"
    )]
    LimitClaimMissing(String),
    /// The idempotency key belongs to another product or quantity.
    #[error("the idempotency key was used for another purchase")]
    KeyReused,
    /// The lock was not free in time.
    #[error("the lock was held by others for the whole wait")]
    LockTimeout,
    /// Too few Redis nodes answer.
    #[error("too few lock nodes answer")]
    QuorumUnavailable,
    /// The queue is full, or the expected wait is longer than the wait timeout.
    #[error("too many purchases are waiting")]
    Overloaded {
        /// When another attempt may succeed.
        retry_after: Duration,
    },
    /// The database failed or is unavailable.
    #[error("the database does not answer")]
    DatabaseUnavailable,
    /// The Redis node that decides is unavailable, refuses writes, or its stock is being rebuilt from
    /// the database.
    #[error("the stock is unavailable at the moment")]
    StockUnavailable,
    /// Redis decides in this sale, one product at a time.
    #[error(
        "this sale is decided by Redis (strategy Atomic): buy products one by one with POST /v1/purchases"
    )]
    NotWithAtomic,
    /// The batch ended without an answer.
    #[error("the purchase was interrupted")]
    Interrupted,
    /// A defect, or a setting with which the lock can never be acquired.
    #[error("an internal error, which has been logged")]
    Internal,
}

impl PurchaseError {
    /// All codes.
    pub const CODES: [&'static str; 14] = [
        "sale_not_open",
        "unknown_product",
        "sold_out",
        "limit_reached",
        "limit_claim_missing",
        "idempotency_key_reused",
        "lock_timeout",
        "quorum_unavailable",
        "overloaded",
        "database_unavailable",
        "stock_unavailable",
        "not_with_atomic",
        "interrupted",
        "internal",
    ];

    /// The stable code, in answers and in metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotStarted(_) | Self::Ended(_) => "sale_not_open",
            Self::UnknownProduct(_) => "unknown_product",
            Self::SoldOut => "sold_out",
            Self::LimitReached => "limit_reached",
            Self::LimitClaimMissing(_) => "limit_claim_missing",
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
            // The combiner logged it.
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
                error!(%error, "the lock can never be acquired with these settings");
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
                error!(%error, "the ledger failed");
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
    fn every_code_is_listed() {
        let now = Timestamp::UNIX_EPOCH;
        let errors = [
            PurchaseError::NotStarted(now),
            PurchaseError::Ended(now),
            PurchaseError::UnknownProduct(String::new()),
            PurchaseError::SoldOut,
            PurchaseError::LimitReached,
            PurchaseError::LimitClaimMissing(String::new()),
            PurchaseError::KeyReused,
            PurchaseError::LockTimeout,
            PurchaseError::QuorumUnavailable,
            PurchaseError::Overloaded { retry_after: Duration::ZERO },
            PurchaseError::DatabaseUnavailable,
            PurchaseError::StockUnavailable,
            PurchaseError::NotWithAtomic,
            PurchaseError::Interrupted,
            PurchaseError::Internal,
        ];
        let mut codes: Vec<_> = errors.iter().map(PurchaseError::code).collect();
        codes.dedup();
        assert_eq!(codes, PurchaseError::CODES);
    }

    #[test]
    fn only_a_loss_of_the_quorum_is_reported_as_one() {
        let wait = Duration::from_secs(1);
        let quorum = AcquireError::QuorumUnavailable { reachable: 2, nodes: 5, quorum: 3 };
        let cases = [
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
        for (error, expected) in cases {
            assert_eq!(PurchaseError::from(SubmitError::Lock(error.clone())), expected, "{error}");
        }
        assert_eq!(PurchaseError::from(SubmitError::NoPolicy), PurchaseError::Internal);
        assert_eq!(PurchaseError::from(SubmitError::Abandoned), PurchaseError::Interrupted);
        assert_eq!(PurchaseError::Internal.code(), "internal");
    }
}
