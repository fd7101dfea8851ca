//! Orders on behalf of a caller: placing, changing, reading.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;

use jiff::Timestamp;
use ledger::LedgerError;
use ledger::orders::{
    Change, NewOrder, OrderLine, OrderState, PlacedOrder, Settled, Standing, Task,
};
use redlock::QueueDiscipline;
use uuid::Uuid;

use crate::error::PurchaseError;
use crate::sale::{Engine, Sale};

/// The caller of an order's operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller<'a> {
    /// The caller's own name.
    pub buyer: &'a str,
    /// Administrators see and change the orders of all buyers.
    pub is_admin: bool,
}

/// An order that was placed or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderReceipt {
    /// The committed order.
    pub order: PlacedOrder,
    /// True: the order was like this before, and nothing changed.
    pub replayed: bool,
}

/// Why an order was not placed or changed. Nothing was changed, except as [`PurchaseError`] says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// As for a purchase.
    #[error(transparent)]
    Purchase(#[from] PurchaseError),
    /// One of the products was refused.
    #[error("product {product_id}: {reason}")]
    Product {
        /// The first refused product.
        product_id: String,
        /// Why it was refused.
        reason: PurchaseError,
    },
    /// The caller has no such order.
    #[error("you have no order with this id")]
    Unknown,
    /// Redis sold it, or may have sold it, and the database does not have it yet.
    #[error("the order is not recorded yet: try again")]
    NotRecordedYet,
    /// The products have prices in several currencies.
    #[error("the products have prices in several currencies: order them one by one")]
    MixedCurrencies,
    /// The order's state does not allow the change.
    #[error("the order is already {} and can no longer be changed", .0.name())]
    State(OrderState),
}

/// By product: the stock in Redis that counts the buyer's units.
pub(crate) type CountedBy = BTreeMap<String, Option<i64>>;

impl OrderError {
    /// Codes beside those of [`PurchaseError`].
    pub const CODES: [&'static str; 4] =
        ["unknown_order", "order_not_recorded_yet", "mixed_currencies", "order_state"];

    /// The stable code, in answers and in metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Purchase(error) | Self::Product { reason: error, .. } => error.code(),
            Self::Unknown => "unknown_order",
            Self::NotRecordedYet => "order_not_recorded_yet",
            Self::MixedCurrencies => "mixed_currencies",
            Self::State(_) => "order_state",
        }
    }

    fn sold_out(product_id: String) -> Self {
        Self::Product { product_id, reason: PurchaseError::SoldOut }
    }
}

impl From<LedgerError> for OrderError {
    fn from(error: LedgerError) -> Self {
        Self::Purchase(error.into())
    }
}

impl Sale {
    /// Places an order in the queue of its first product. `None`: served in the sale's own discipline.
    ///
    /// # Errors
    /// See [`OrderError`].
    pub async fn place(
        &self,
        order: NewOrder,
        discipline: Option<QueueDiscipline>,
    ) -> Result<OrderReceipt, OrderError> {
        let result = self.try_place(order, discipline).await;
        self.observer.order(match &result {
            Ok(OrderReceipt { replayed: false, .. }) => "placed",
            Ok(OrderReceipt { replayed: true, .. }) => "replayed",
            Err(error) => error.code(),
        });
        result
    }

    async fn try_place(
        &self,
        order: NewOrder,
        discipline: Option<QueueDiscipline>,
    ) -> Result<OrderReceipt, OrderError> {
        if !self.is_decided_by_the_database() {
            return Err(PurchaseError::NotWithAtomic.into());
        }
        let catalog = self.catalog.loaded()?;
        let mut sold_out = None;
        for OrderLine { product_id, quantity } in &order.lines {
            let Some(remaining) = catalog.remaining(product_id) else {
                return Err(PurchaseError::UnknownProduct(product_id.clone()).into());
            };
            if *quantity > remaining && sold_out.is_none() {
                sold_out = Some(OrderError::sold_out(product_id.clone()));
            }
        }
        let closed = self.window.check(Timestamp::now()).err().map(OrderError::from);
        let uncountable = order.lines.iter().find_map(|OrderLine { product_id, .. }| {
            let reason = self.check_limit_key(product_id, order.limit_key.as_deref()).err()?;
            Some(OrderError::Product { product_id: product_id.clone(), reason })
        });
        if let Some(refusal) = closed.or(sold_out).or(uncountable) {
            return self.placed_or(refusal, &order).await;
        }
        let products = products(&order.lines);
        let discipline = discipline.unwrap_or_else(|| self.discipline());
        let order = NewOrder { hold_ms: self.hold_ms(&order), ..order };
        receipt(self.order_queues.settle(discipline, Task::Place(order), products).await?)
    }

    /// The earlier order of a known idempotency key, otherwise the refusal.
    async fn placed_or(
        &self,
        refusal: OrderError,
        order: &NewOrder,
    ) -> Result<OrderReceipt, OrderError> {
        let Some(key) = &order.idempotency_key else { return Err(refusal) };
        match self.ledger.placed_by_key(&order.buyer, key).await? {
            Some(placed) => receipt(Settled::of_existing(placed, &order.lines)),
            None => Err(refusal),
        }
    }

    /// Changes an order of the caller; an administrator may change any order. Repeating a change has
    /// no effect; a different change of a final state is refused.
    ///
    /// # Errors
    /// See [`OrderError`].
    pub async fn change_order(
        &self,
        id: Uuid,
        caller: Caller<'_>,
        change: Change,
    ) -> Result<OrderReceipt, OrderError> {
        let result = self.try_change_order(id, caller, change).await;
        self.observe_change(&result);
        result
    }

    fn observe_change(&self, result: &Result<OrderReceipt, OrderError>) {
        self.observer.order(match result {
            Ok(OrderReceipt { replayed: true, .. }) => "unchanged",
            Ok(OrderReceipt { order, .. }) => order.state.name(),
            Err(error) => error.code(),
        });
    }

    async fn try_change_order(
        &self,
        id: Uuid,
        caller: Caller<'_>,
        change: Change,
    ) -> Result<OrderReceipt, OrderError> {
        let order = self.order(id, caller).await?;
        self.change_found(order, change, caller.is_admin.then_some(caller.buyer)).await
    }

    /// Changes an order as a payment service reports it. Nobody's action is logged.
    ///
    /// # Errors
    /// See [`OrderError`].
    pub async fn report_change(
        &self,
        order: PlacedOrder,
        change: Change,
    ) -> Result<OrderReceipt, OrderError> {
        let result = self.change_found(order, change, None).await;
        self.observe_change(&result);
        result
    }

    /// The order that a payment service names.
    ///
    /// # Errors
    /// [`OrderError::Unknown`], [`OrderError::NotRecordedYet`], or when the database fails.
    pub async fn order_of_any(&self, id: Uuid) -> Result<PlacedOrder, OrderError> {
        match self.ledger.placed(id).await? {
            Some(order) => Ok(order),
            None => self.recorded_soon(id).await,
        }
    }

    async fn change_found(
        &self,
        order: PlacedOrder,
        change: Change,
        actor: Option<&str>,
    ) -> Result<OrderReceipt, OrderError> {
        let standing = change.standing(&order);
        if !matches!(standing, Standing::Open | Standing::Late) {
            return receipt(Settled::of_unchanged(Some(order), &change));
        }
        let has_units = order.has_units_to_refund();
        let change = match change {
            Change::Pay { reference } => return self.pay(order, reference, actor).await,
            // The units of an order that was paid too late are back already.
            Change::Refund { reference, units_back } if !(units_back && has_units) => {
                let change = Change::Refund { reference, units_back: false };
                return receipt(self.ledger.change_in_place(order.id, &change, actor).await?);
            }
            change => change,
        };
        let counted = self.prepare_give_back(&order).await;
        let (id, actor) = (order.id, actor.map(str::to_owned));
        let task = Task::GiveBack { id, change, actor };
        let receipt = receipt(
            self.order_queues.settle(self.discipline(), task, products(&order.lines)).await?,
        )?;
        if !receipt.replayed {
            self.give_back(&order, &counted).await;
        }
        Ok(receipt)
    }

    /// Records a payment. After the end of the hold it takes the units again, if they are there.
    async fn pay(
        &self,
        order: PlacedOrder,
        reference: Option<String>,
        actor: Option<&str>,
    ) -> Result<OrderReceipt, OrderError> {
        let paid = self.ledger.pay(order.id, reference.as_deref(), actor).await?;
        let Settled::HoldEnded(order) = paid else { return receipt(paid) };
        let products = products(&order.lines);
        // With `Atomic`, Redis alone takes units.
        let take = self.is_decided_by_the_database();
        let task = Task::PayLate { id: order.id, reference, take, actor: actor.map(str::to_owned) };
        receipt(self.order_queues.settle(self.discipline(), task, products).await?)
    }

    /// With `Atomic`, see [`crate::atomic::Atomic::prepare_give_back`], for each product of the order.
    pub(crate) async fn prepare_give_back(&self, order: &PlacedOrder) -> CountedBy {
        let mut counted = CountedBy::new();
        if let Engine::Atomic(atomic) = &self.engine {
            let names = counted_names(order);
            for OrderLine { product_id, .. } in &order.lines {
                let stock = atomic.prepare_give_back(product_id, &names).await;
                counted.insert(product_id.clone(), stock);
            }
        }
        counted
    }

    /// With `Atomic`, tells Redis of units that the database gave back.
    pub(crate) async fn give_back(&self, order: &PlacedOrder, counted: &CountedBy) {
        let Engine::Atomic(atomic) = &self.engine else { return };
        let names = counted_names(order);
        for OrderLine { product_id, quantity } in &order.lines {
            let stock = counted.get(product_id).copied().flatten();
            atomic.give_back(product_id, (&names, *quantity), stock).await;
        }
    }

    /// An order of the caller; an administrator sees any order.
    ///
    /// # Errors
    /// [`OrderError::Unknown`], [`OrderError::NotRecordedYet`], or when the database fails.
    pub async fn order(&self, id: Uuid, caller: Caller<'_>) -> Result<PlacedOrder, OrderError> {
        let order = self.order_of_any(id).await?;
        if order.buyer != caller.buyer && !caller.is_admin {
            return Err(OrderError::Unknown);
        }
        Ok(order)
    }

    /// An order that the database does not have. With `Atomic` it may be recorded in a moment.
    async fn recorded_soon(&self, id: Uuid) -> Result<PlacedOrder, OrderError> {
        let Engine::Atomic(atomic) = &self.engine else { return Err(OrderError::Unknown) };
        let all_recorded = atomic.await_recorded(Some(id)).await;
        let missing = if all_recorded { OrderError::Unknown } else { OrderError::NotRecordedYet };
        self.ledger.placed(id).await?.ok_or(missing)
    }

    /// At most `limit` orders of a buyer, newest first, beginning behind the order `after`. False: the
    /// newest orders may be missing.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn orders_of(
        &self,
        buyer: &str,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<(Vec<PlacedOrder>, bool), OrderError> {
        let complete = match &self.engine {
            Engine::Atomic(atomic) if after.is_none() => atomic.await_recorded(None).await,
            _ => true,
        };
        Ok((self.ledger.placed_by(buyer, after, limit).await?, complete))
    }

    /// The sale's own discipline.
    pub(crate) fn discipline(&self) -> QueueDiscipline {
        self.catalog.discipline()
    }
}

/// The names under which the order's units are counted.
fn counted_names(order: &PlacedOrder) -> Vec<String> {
    iter::once(&order.buyer).chain(&order.limit_key).cloned().collect()
}

fn products(lines: &[OrderLine]) -> BTreeSet<String> {
    lines.iter().map(|line| line.product_id.clone()).collect()
}

fn receipt(outcome: Settled) -> Result<OrderReceipt, OrderError> {
    match outcome {
        Settled::Done(order) => Ok(OrderReceipt { order, replayed: false }),
        Settled::DoneBefore(order) => Ok(OrderReceipt { order, replayed: true }),
        Settled::KeyReused => Err(PurchaseError::KeyReused.into()),
        Settled::SoldOut(product_id) => Err(OrderError::sold_out(product_id)),
        Settled::LimitReached(product_id) => {
            Err(OrderError::Product { product_id, reason: PurchaseError::LimitReached })
        }
        Settled::MixedCurrencies => Err(OrderError::MixedCurrencies),
        Settled::Refused(state) => Err(OrderError::State(state)),
        // A payment goes on from there, and nothing else comes to it.
        Settled::HoldEnded(order) => Err(OrderError::State(order.state)),
        Settled::UnknownOrder | Settled::Expired(_) | Settled::HandedOut => {
            Err(OrderError::Unknown)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_listed() {
        let errors = [
            OrderError::Unknown,
            OrderError::NotRecordedYet,
            OrderError::MixedCurrencies,
            OrderError::State(OrderState::Paid),
        ];
        assert_eq!(errors.map(|error| error.code()), OrderError::CODES);
        let of_purchases =
            [OrderError::Purchase(PurchaseError::SoldOut), OrderError::sold_out(String::new())];
        assert_eq!(of_purchases.map(|error| error.code()), ["sold_out"; 2]);
    }
}
