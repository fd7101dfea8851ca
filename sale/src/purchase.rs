//! The result of a purchase.

use ledger::{Order, Outcome};

use crate::error::PurchaseError;

/// A purchase that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The committed order.
    pub order: Order,
    /// True: the same purchase was made before, and no units were taken this time.
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
