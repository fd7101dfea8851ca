//! An order of several products, its states, and what is asked for and comes of it.

use std::collections::BTreeMap;

use uuid::Uuid;

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
    /// Final.
    Paid,
    /// Final; the units are back.
    Cancelled,
    /// Final; the units are back.
    PaymentFailed,
    /// Its hold has ended, and the units are back. A payment takes them again if they are there.
    Expired,
    /// Final; a payment came after the end of the hold, and the units were no longer there.
    RefundRequired,
}

impl OrderState {
    /// All states.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Confirmed,
        Self::Paid,
        Self::Cancelled,
        Self::PaymentFailed,
        Self::Expired,
        Self::RefundRequired,
    ];
    /// Those in which an order holds its units; `kept!` in `sql.rs` says the same.
    pub const HOLDING: [Self; 3] = [Self::Pending, Self::Confirmed, Self::Paid];

    /// As the API has it; in the database, `ended_as` if that is set, otherwise `state`.
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

/// Units of the orders of a product in one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderedUnits {
    /// The product.
    pub product_id: String,
    /// The state, one in which an order holds its units.
    pub state: OrderState,
    /// Their number.
    pub units: i64,
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
    /// The key it came with.
    pub idempotency_key: Option<String>,
    /// What the payment service calls the payment.
    pub payment_reference: Option<String>,
    /// When its hold ends or ended, in milliseconds since 1970; `None`: it has no end.
    pub expires_at_ms: Option<i64>,
}

/// An order that asks for a decision: all of it or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOrder {
    /// Who buys.
    pub buyer: String,
    /// By product, each once.
    pub lines: Vec<OrderLine>,
    /// The same key of the same buyer is the same order.
    pub idempotency_key: Option<String>,
    /// What it begins as.
    pub state: OrderState,
    /// How long it holds its units if it is not paid; `None`: without an end.
    pub hold_ms: Option<i64>,
}

/// What becomes of an order after it was placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The buyer does not want it any more.
    Cancel,
    /// It was paid.
    Pay {
        /// See [`PlacedOrder::payment_reference`].
        reference: Option<String>,
    },
    /// It was not paid.
    FailPayment {
        /// See [`PlacedOrder::payment_reference`].
        reference: Option<String>,
    },
}

/// Whether a change applies to an order in its present state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may be made.
    Open,
    /// A payment after the end of the hold: the units must be taken again.
    Late,
    /// It was made before.
    Made,
    /// Something else was made before.
    Refused,
}

impl Change {
    /// The state it leads to.
    #[must_use]
    pub fn target(&self) -> OrderState {
        match self {
            Self::Cancel => OrderState::Cancelled,
            Self::Pay { .. } => OrderState::Paid,
            Self::FailPayment { .. } => OrderState::PaymentFailed,
        }
    }

    pub(crate) fn reference(&self) -> Option<&str> {
        match self {
            Self::Cancel => None,
            Self::Pay { reference } | Self::FailPayment { reference } => reference.as_deref(),
        }
    }

    /// Whether the change applies to this order. A report that names another payment is another report.
    #[must_use]
    pub fn standing(&self, order: &PlacedOrder) -> Standing {
        let same_payment =
            self.reference().is_none_or(|one| order.payment_reference.as_deref() == Some(one));
        match order.state {
            state if state.is_open() => Standing::Open,
            OrderState::Expired if self.target() == OrderState::Paid => Standing::Late,
            OrderState::RefundRequired if self.target() == OrderState::Paid && same_payment => {
                Standing::Made
            }
            state if state == self.target() && same_payment => Standing::Made,
            _ => Standing::Refused,
        }
    }
}

/// What is asked for under the locks of all products in question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Take units.
    Place(NewOrder),
    /// Give the units of an order back, by cancelling it or because its payment failed.
    GiveBack {
        /// The order.
        id: Uuid,
        /// Why.
        change: Change,
        /// The administrator who does it; `None`: the buyer.
        actor: Option<String>,
    },
    /// Give the units of these orders back, as far as their holds have ended.
    Expire {
        /// The orders.
        ids: Vec<Uuid>,
    },
    /// Pay an order whose hold has ended: take its units again, or record that a refund is due.
    PayLate {
        /// The order.
        id: Uuid,
        /// See [`PlacedOrder::payment_reference`].
        reference: Option<String>,
        /// Whether units may be taken here.
        take: bool,
        /// The administrator who reports it.
        actor: String,
    },
}

/// What became of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// Placed or changed now.
    Done(PlacedOrder),
    /// Placed under the same key, or changed so, before: the order as it is.
    DoneBefore(PlacedOrder),
    /// The key was used before for another order.
    KeyReused,
    /// Fewer units of this product are left than were asked for.
    SoldOut(String),
    /// The buyer would have more of this product than is allowed.
    LimitReached(String),
    /// The order is in this state, which the change does not start from.
    Refused(OrderState),
    /// The payment came after the end of this order's hold: see [`Task::PayLate`].
    HoldEnded(PlacedOrder),
    /// As many holds ended now.
    Expired(i64),
    /// There is no such order.
    UnknownOrder,
}

impl Settled {
    /// The outcome of an order whose key already belongs to `order`.
    #[must_use]
    pub fn of_existing(order: PlacedOrder, lines: &[OrderLine]) -> Self {
        if order.lines == lines { Self::DoneBefore(order) } else { Self::KeyReused }
    }

    /// The outcome of a change that this call did not make.
    #[must_use]
    pub fn of_unchanged(order: Option<PlacedOrder>, change: &Change) -> Self {
        match order.map(|order| (change.standing(&order), order)) {
            None => Self::UnknownOrder,
            Some((Standing::Made, order)) => Self::DoneBefore(order),
            Some((Standing::Late, order)) => Self::HoldEnded(order),
            Some((_, order)) => Self::Refused(order.state),
        }
    }
}

/// The products of a transaction under their tokens.
pub(crate) struct FencedStock {
    /// The units left of each, and whether it was deleted.
    pub(crate) rows: BTreeMap<String, (i64, bool)>,
    /// The database's time, in milliseconds since 1970.
    pub(crate) now_ms: i64,
}

/// What one transaction settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// One for each task, in their order.
    pub outcomes: Vec<Settled>,
    /// Units left of each product after it.
    pub available: BTreeMap<String, i64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orders::sql;

    fn order(state: OrderState, reference: Option<&str>) -> PlacedOrder {
        PlacedOrder {
            id: Uuid::nil(),
            buyer: "ann".to_owned(),
            state,
            lines: Vec::new(),
            idempotency_key: None,
            payment_reference: reference.map(str::to_owned),
            expires_at_ms: None,
        }
    }

    #[test]
    fn an_open_order_takes_any_change_and_a_final_one_none_but_the_same_again() {
        let changes = [
            Change::Cancel,
            Change::Pay { reference: None },
            Change::FailPayment { reference: None },
        ];
        for change in &changes {
            for state in OrderState::ALL {
                let expected = match state {
                    OrderState::Pending | OrderState::Confirmed => Standing::Open,
                    OrderState::Expired if change.target() == OrderState::Paid => Standing::Late,
                    OrderState::RefundRequired if change.target() == OrderState::Paid => {
                        Standing::Made
                    }
                    state if state == change.target() => Standing::Made,
                    _ => Standing::Refused,
                };
                assert_eq!(change.standing(&order(state, Some("p1"))), expected, "{change:?}");
            }
        }
    }

    #[test]
    fn a_second_payment_is_not_the_first_one_again() {
        let paid = order(OrderState::Paid, Some("p1"));
        let report = |reference: &str| Change::Pay { reference: Some(reference.to_owned()) };
        assert_eq!(report("p1").standing(&paid), Standing::Made);
        assert_eq!(report("p2").standing(&paid), Standing::Refused);
    }

    #[test]
    fn names_are_read_back() {
        for state in OrderState::ALL {
            assert_eq!(OrderState::of(state.name()), Some(state));
            assert_eq!(sql::OPEN.contains(&format!("'{}'", state.name())), state.is_open());
        }
    }
}
