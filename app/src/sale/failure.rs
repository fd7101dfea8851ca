//! What a buyer is told when the lock or the ledger fails. Only a loss of the quorum is told as one: that
//! is what the alert of its name is for.

use redlock::{AcquireError, SubmitError};
use tracing::error;

use super::PurchaseError;
use crate::ledger::LedgerError;

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
