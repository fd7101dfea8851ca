//! An order as it is written down, and its states.

use uuid::Uuid;

use crate::money::{self, Price};

/// Units of one product in an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderLine {
    /// What is bought.
    pub product_id: String,
    /// How many units.
    pub quantity: i64,
}

/// Where an order stands. Units are taken with the order, and given back when it is cancelled or
/// not paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderState {
    /// Waits for its payment.
    Pending,
    /// Sold, whenever it is paid for.
    Confirmed,
    /// Final, unless the money is given back.
    Paid,
    /// Final; the units are back.
    Cancelled,
    /// Final; the units are back.
    PaymentFailed,
    /// Its hold has ended, and the units are back. A payment takes them again if they are there.
    Expired,
    /// A payment came after the end of the hold, and the units were no longer there: the money is to be given back.
    RefundRequired,
    /// Final; the money was given back.
    Refunded,
}

impl OrderState {
    /// All states.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Confirmed,
        Self::Paid,
        Self::Cancelled,
        Self::PaymentFailed,
        Self::Expired,
        Self::RefundRequired,
        Self::Refunded,
    ];
    /// Those in which an order holds its units; `kept!` in `sql.rs` says the same. A refunded order whose buyer
    /// keeps the units counts as paid there.
    pub const HOLDING: [Self; 3] = [Self::Pending, Self::Confirmed, Self::Paid];

    /// As the API has it; `shown_state!` in `sql.rs` says where the database has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Paid => "paid",
            Self::Cancelled => "cancelled",
            Self::PaymentFailed => "payment_failed",
            Self::Expired => "expired",
            Self::RefundRequired => "refund_required",
            Self::Refunded => "refunded",
        }
    }

    /// The state of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether it may still change; `sql::OPEN` says the same.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Confirmed)
    }
}

/// An order as it is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedOrder {
    /// In order of time.
    pub id: Uuid,
    /// Who bought.
    pub buyer: String,
    /// Where it stands.
    pub state: OrderState,
    /// By product.
    pub lines: Vec<OrderLine>,
    /// The price of a unit of each line, as it was when the order was placed.
    pub prices: Vec<Option<Price>>,
    /// The key it came with.
    pub idempotency_key: Option<String>,
    /// What the payment service calls the payment.
    pub payment_reference: Option<String>,
    /// When its hold ends or ended, in milliseconds since 1970; `None`: it has no end.
    pub expires_at_ms: Option<i64>,
    /// The refund, if there was one.
    pub refund: Option<Refunded>,
    /// The person for whose limit it counts: see [`crate::LimitBy::key`]. `None`: it counts for the buyer alone.
    pub limit_key: Option<String>,
}

/// A refund that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refunded {
    /// When it was recorded, in milliseconds since 1970.
    pub at_ms: i64,
    /// What the payment service calls it.
    pub reference: Option<String>,
    /// Whether the units are back in stock. `false`: the buyer has them.
    pub units_back: bool,
}

impl PlacedOrder {
    /// Whether a refund can give units back: the order was paid and the buyer has them, also if the money alone was
    /// given back before.
    #[must_use]
    pub fn has_units_to_refund(&self) -> bool {
        match self.state {
            OrderState::Paid => true,
            OrderState::Refunded => self.refund.as_ref().is_some_and(|refund| !refund.units_back),
            _ => false,
        }
    }

    /// What it costs; `None`: it has no price, or prices in several currencies.
    #[must_use]
    pub fn amount(&self) -> Option<Price> {
        amount(&self.lines, &self.prices)
    }

    /// Amount and currency of each line, as a row has them; 0 for none.
    pub(crate) fn price_columns(&self) -> impl Iterator<Item = (i64, Option<&'static str>)> {
        self.prices.iter().map(|price| {
            (price.map_or(0, |price| price.amount), price.map(|price| price.currency.code()))
        })
    }
}

/// What these lines cost at these prices; `None`: no line has a price, or they have several currencies.
pub(crate) fn amount(lines: &[OrderLine], prices: &[Option<Price>]) -> Option<Price> {
    let each = lines.iter().zip(prices);
    money::sum(each.filter_map(|(line, price)| Some((*price)?.of_units(line.quantity))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orders::sql;

    #[test]
    fn names_are_read_back() {
        for state in OrderState::ALL {
            assert_eq!(OrderState::of(state.name()), Some(state));
            assert_eq!(sql::OPEN.contains(&format!("'{}'", state.name())), state.is_open());
        }
    }
}
