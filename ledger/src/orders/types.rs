//! What is asked for about orders, and what comes of it.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::change::{Change, Standing};
use super::order::{OrderLine, OrderState, PlacedOrder};
use crate::money::Price;

/// Units of the orders of a product in one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderedUnits {
    /// The product.
    pub product_id: String,
    /// The state, one in which an order holds its units.
    pub state: OrderState,
    /// Their number.
    pub units: i64,
    /// How many of them are of orders that hold them without an end.
    pub without_hold: i64,
}

/// The units of all orders and those that were put on sale, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitCount {
    /// Units ever put on sale, by product; a deleted product is not in it.
    pub declared: BTreeMap<String, i64>,
    /// Units of orders that hold them; a product and state without orders is not in it.
    pub ordered: Vec<OrderedUnits>,
}

/// Product, state, units, and how many of them have no hold. Without a state: units ever put on sale.
pub(crate) type UnitRow = (String, Option<String>, i64, i64);

impl UnitCount {
    pub(crate) fn of(rows: Vec<UnitRow>) -> Self {
        let mut count = Self::default();
        for (product_id, state, units, without_hold) in rows {
            if let Some(state) = state {
                let state = OrderState::of(&state);
                count.ordered.extend(state.map(|state| OrderedUnits {
                    product_id,
                    state,
                    units,
                    without_hold,
                }));
            } else {
                count.declared.insert(product_id, units);
            }
        }
        count
    }
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
    /// The person for whose limit it counts: see [`crate::LimitBy::key`]. `None`: it counts for the buyer alone.
    pub limit_key: Option<String>,
}

impl NewOrder {
    /// The order at these prices of its lines, placed at this time in milliseconds since 1970.
    pub(crate) fn placed(&self, id: Uuid, prices: Vec<Option<Price>>, now_ms: i64) -> PlacedOrder {
        PlacedOrder {
            id,
            buyer: self.buyer.clone(),
            state: self.state,
            lines: self.lines.clone(),
            prices,
            idempotency_key: self.idempotency_key.clone(),
            payment_reference: None,
            expires_at_ms: self.hold_ms.map(|hold| now_ms.saturating_add(hold)),
            refund: None,
            limit_key: self.limit_key.clone(),
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
        /// The administrator who does it; `None`: the buyer, or a payment service.
        actor: Option<String>,
    },
    /// Give the units of these orders back, as far as their holds have ended.
    Expire {
        /// The orders.
        ids: Vec<Uuid>,
    },
    /// Hand out units that are on sale to those who wait for them.
    HandOut,
    /// Pay an order whose hold has ended: take its units again, or record that a refund is due.
    PayLate {
        /// The order.
        id: Uuid,
        /// See [`PlacedOrder::payment_reference`].
        reference: Option<String>,
        /// Whether units may be taken here.
        take: bool,
        /// The administrator who reports it; `None`: a payment service.
        actor: Option<String>,
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
    /// The products have prices in several currencies.
    MixedCurrencies,
    /// The order is in this state, which the change does not start from.
    Refused(OrderState),
    /// The payment came after the end of this order's hold: see [`Task::PayLate`].
    HoldEnded(PlacedOrder),
    /// As many holds ended now.
    Expired(i64),
    /// Each buyer on the waiting list for whom there were units has them.
    HandedOut,
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

/// A buyer who waits, and the order that would serve the buyer.
#[derive(Debug, Clone)]
pub(crate) struct Waiter {
    /// The row of the waiting list.
    pub(crate) place: i64,
    /// The order.
    pub(crate) order: NewOrder,
}

/// A row of the waiting list: place, product, buyer, units, how long the order holds them, and the limit key.
pub(crate) type WaiterRow = (i64, String, String, i64, i64, Option<String>);

impl From<WaiterRow> for Waiter {
    fn from((place, product_id, buyer, quantity, hold_ms, limit_key): WaiterRow) -> Self {
        let order = NewOrder {
            buyer,
            lines: vec![OrderLine { product_id, quantity }],
            idempotency_key: None,
            state: OrderState::Pending,
            hold_ms: Some(hold_ms),
            limit_key,
        };
        Self { place, order }
    }
}

/// The products of a transaction under their tokens.
#[derive(Default)]
pub(crate) struct FencedStock {
    /// The units left of each, and whether it was deleted.
    pub(crate) rows: BTreeMap<String, (i64, bool)>,
    /// The database's time, in milliseconds since 1970.
    pub(crate) now_ms: i64,
    /// Units one buyer may have of a product, as far as they were read with it.
    pub(crate) limits: HashMap<String, i64>,
    /// The price of a unit of a product, as far as it was read with it.
    pub(crate) prices: HashMap<String, Price>,
}

/// What one transaction settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// One for each task, in their order.
    pub outcomes: Vec<Settled>,
    /// Units left of each product after it.
    pub available: BTreeMap<String, i64>,
    /// Orders of buyers who waited, placed in it.
    pub handed_out: usize,
}
