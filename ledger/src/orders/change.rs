//! What becomes of an order after it was placed, and whether it may.

use super::order::{OrderState, PlacedOrder};

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
    /// The money was given back.
    Refund {
        /// What the payment service calls the refund.
        reference: Option<String>,
        /// Whether the units of a paid order are for sale again, also of one whose money alone was given back before.
        units_back: bool,
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
            Self::Refund { .. } => OrderState::Refunded,
        }
    }

    pub(crate) fn reference(&self) -> Option<&str> {
        match self {
            Self::Cancel => None,
            Self::Pay { reference }
            | Self::FailPayment { reference }
            | Self::Refund { reference, .. } => reference.as_deref(),
        }
    }

    /// Whether the change applies to this order. A report that names another payment is another report.
    #[must_use]
    pub fn standing(&self, order: &PlacedOrder) -> Standing {
        if let Self::Refund { units_back, .. } = self {
            return match order.state {
                OrderState::Paid | OrderState::RefundRequired => Standing::Open,
                // The money is back; the units may still follow.
                OrderState::Refunded if *units_back && order.has_units_to_refund() => {
                    Standing::Open
                }
                OrderState::Refunded => Standing::Made,
                _ => Standing::Refused,
            };
        }
        let same_payment =
            self.reference().is_none_or(|one| order.payment_reference.as_deref() == Some(one));
        match order.state {
            state if state.is_open() => Standing::Open,
            OrderState::Expired if self.target() == OrderState::Paid => Standing::Late,
            // A report of the payment that comes again.
            OrderState::RefundRequired | OrderState::Refunded
                if self.target() == OrderState::Paid && same_payment =>
            {
                Standing::Made
            }
            state if state == self.target() && same_payment => Standing::Made,
            _ => Standing::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::orders::Refunded;

    fn order(state: OrderState, reference: Option<&str>) -> PlacedOrder {
        PlacedOrder {
            id: Uuid::nil(),
            buyer: "ann".to_owned(),
            state,
            lines: Vec::new(),
            prices: Vec::new(),
            idempotency_key: None,
            payment_reference: reference.map(str::to_owned),
            expires_at_ms: None,
            refund: None,
            limit_key: None,
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
                    OrderState::RefundRequired | OrderState::Refunded
                        if change.target() == OrderState::Paid =>
                    {
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
    fn only_what_was_paid_is_refunded_and_once() {
        for units_back in [false, true] {
            let refund = Change::Refund { reference: Some("r1".to_owned()), units_back };
            for state in OrderState::ALL {
                let expected = match state {
                    OrderState::Paid | OrderState::RefundRequired => Standing::Open,
                    OrderState::Refunded => Standing::Made,
                    _ => Standing::Refused,
                };
                assert_eq!(refund.standing(&order(state, Some("p1"))), expected, "{state:?}");
            }
        }
    }

    #[test]
    fn the_units_of_a_refunded_order_come_back_later_and_once() {
        for (kept, units_back, expected) in [
            (true, true, Standing::Open),
            (true, false, Standing::Made),
            (false, true, Standing::Made),
            (false, false, Standing::Made),
        ] {
            let refunded = Refunded { at_ms: 1, reference: None, units_back: !kept };
            let order =
                PlacedOrder { refund: Some(refunded), ..order(OrderState::Refunded, Some("p1")) };
            let refund = Change::Refund { reference: None, units_back };
            assert_eq!(refund.standing(&order), expected, "{kept} {units_back}");
        }
    }

    #[test]
    fn a_second_payment_is_not_the_first_one_again() {
        let paid = order(OrderState::Paid, Some("p1"));
        let report = |reference: &str| Change::Pay { reference: Some(reference.to_owned()) };
        assert_eq!(report("p1").standing(&paid), Standing::Made);
        assert_eq!(report("p2").standing(&paid), Standing::Refused);
    }
}
