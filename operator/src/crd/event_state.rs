//! The states of orders whose events a system gets.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an order became.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum EventState {
    /// It waits for its payment.
    Pending,
    /// It is sold, whenever it is paid for.
    Confirmed,
    /// It is paid.
    Paid,
    /// It was cancelled.
    Cancelled,
    /// Its payment failed.
    PaymentFailed,
    /// It was not paid in time.
    Expired,
    /// It was paid after it expired, when its units were gone.
    RefundRequired,
    /// Its money was given back.
    Refunded,
    /// A pseudonym has taken the buyer's place.
    BuyerErased,
}

impl EventState {
    /// As the app has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Paid => "paid",
            Self::Cancelled => "cancelled",
            Self::PaymentFailed => "payment_failed",
            Self::Expired => "expired",
            Self::RefundRequired => "refund_required",
            Self::Refunded => "refunded",
            Self::BuyerErased => "buyer_erased",
        }
    }
}
