//! What buyers do.

use serde::Deserialize;

/// The call by which buyers buy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `POST /v1/purchases`
    #[default]
    Purchase,
    /// `PATCH /v1/stocks/locks/distributed`
    Distributed,
    /// `PATCH /v1/stocks/locks/fair`
    Fair,
    /// `POST /v1/orders`; the order waits for its payment
    Order,
    /// `POST /v1/coupons/{id}/issue`
    Coupon,
}

/// What happens to an order after it was placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FollowUp {
    /// It is paid.
    Pay,
    /// Its payment fails.
    Fail,
    /// The buyer cancels it.
    Cancel,
    /// Nobody pays, and the buyer looks until it has expired.
    Expire,
}

impl FollowUp {
    /// The state of the order afterwards; also the code of the attempt.
    #[must_use]
    pub fn state(self) -> &'static str {
        match self {
            Self::Pay => "paid",
            Self::Fail => "payment_failed",
            Self::Cancel => "cancelled",
            Self::Expire => "expired",
        }
    }

    /// Whether administrators call it.
    #[must_use]
    pub fn needs_admin(self) -> bool {
        matches!(self, Self::Pay | Self::Fail)
    }
}
