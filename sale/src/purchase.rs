//! A purchase that was made.

use ledger::{Order, Outcome};

use crate::error::PurchaseError;

/// A purchase that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Committed.
    pub order: Order,
    /// The same purchase had been made before; nothing was taken this time.
    pub replayed: bool,
}

pub(crate) fn receipt(outcome: Outcome) -> Result<Receipt, PurchaseError> {
    match outcome {
        Outcome::Sold(order) => Ok(Receipt { order, replayed: false }),
        Outcome::Replayed(order) => Ok(Receipt { order, replayed: true }),
        Outcome::KeyReused => Err(PurchaseError::KeyReused),
        Outcome::SoldOut => Err(PurchaseError::SoldOut),
        Outcome::LimitReached => Err(PurchaseError::LimitReached),
    }
}
