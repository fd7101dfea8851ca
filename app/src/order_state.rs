//! The state of an order, as answers show it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `pending`: waits for its payment and holds its units until `expires_at`. `confirmed`: sold, whenever it is
/// paid for. `expired`: not paid in time, and its units are on sale again; a payment takes them again if they
/// are there. `paid`: only a refund changes it. `refund_required`: paid after it expired, when its units were gone, so
/// the money is to be given back. The others are final: `cancelled` and `payment_failed`, with their units on sale
/// again; `refunded`, with the money given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OrderState {
    /// Waits for its payment.
    Pending,
    /// Sold, whenever it is paid for.
    Confirmed,
    /// Final, unless the money is given back.
    Paid,
    /// Final; the units are on sale again.
    Cancelled,
    /// Final; the units are on sale again.
    PaymentFailed,
    /// Not paid in time; the units are on sale again.
    Expired,
    /// Paid too late, and the units were gone: the money is to be given back.
    RefundRequired,
    /// Final; the money was given back.
    Refunded,
}

impl From<ledger::orders::OrderState> for OrderState {
    fn from(state: ledger::orders::OrderState) -> Self {
        use ledger::orders::OrderState as Stored;
        match state {
            Stored::Pending => Self::Pending,
            Stored::Confirmed => Self::Confirmed,
            Stored::Paid => Self::Paid,
            Stored::Cancelled => Self::Cancelled,
            Stored::PaymentFailed => Self::PaymentFailed,
            Stored::Expired => Self::Expired,
            Stored::RefundRequired => Self::RefundRequired,
            Stored::Refunded => Self::Refunded,
        }
    }
}

impl From<OrderState> for ledger::orders::OrderState {
    fn from(state: OrderState) -> Self {
        // Each state of an answer is that of one in the database.
        let same = |stored: &Self| OrderState::from(*stored) == state;
        Self::ALL.into_iter().find(same).unwrap_or(Self::Pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_the_names_of_the_database() {
        for stored in ledger::orders::OrderState::ALL {
            let shown = serde_json::to_value(OrderState::from(stored)).unwrap();
            assert_eq!(shown, stored.name());
            let state: OrderState = serde_json::from_value(shown).unwrap();
            assert_eq!(ledger::orders::OrderState::from(state), stored);
        }
    }
}
