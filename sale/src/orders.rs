//! What a caller asks of orders: place one, change it, look at it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use ledger::LedgerError;
use ledger::orders::{
    Change, NewOrder, OrderLine, OrderState, PlacedOrder, Settled, Standing, Task,
};
use redlock::QueueDiscipline;
use uuid::Uuid;

use crate::error::PurchaseError;
use crate::sale::{Engine, Sale};

/// Who asks for an order.
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
    /// Committed.
    pub order: PlacedOrder,
    /// It was so before; nothing changed this time.
    pub replayed: bool,
}

/// Why an order was not placed or changed. Nothing was, except as [`PurchaseError`] says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// As for a purchase.
    #[error(transparent)]
    Purchase(#[from] PurchaseError),
    /// One of its products is why.
    #[error("product {product_id}: {reason}")]
    Product {
        /// The first one.
        product_id: String,
        /// What is wrong with it.
        reason: PurchaseError,
    },
    /// The caller has no such order.
    #[error("you have no order with this id")]
    Unknown,
    /// Redis sold it, or may have, and the database does not have it yet.
    #[error("the order is not recorded yet: try again")]
    NotRecordedYet,
    /// The change does not start from the order's state.
    #[error("the order is {}, which is not changed any more", .0.name())]
    State(OrderState),
}

impl OrderError {
    /// The stable code, in answers and in metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Purchase(error) | Self::Product { reason: error, .. } => error.code(),
            Self::Unknown => "unknown_order",
            Self::NotRecordedYet => "order_not_recorded_yet",
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
    /// Places an order in the line of its first product, in the sale's own order of service or in
    /// another.
    ///
    /// # Errors
    /// See [`OrderError`].
    pub async fn place(
        &self,
        order: NewOrder,
        service: Option<QueueDiscipline>,
    ) -> Result<OrderReceipt, OrderError> {
        let result = self.try_place(order, service).await;
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
        service: Option<QueueDiscipline>,
    ) -> Result<OrderReceipt, OrderError> {
        if !self.is_decided_by_the_database() {
            return Err(PurchaseError::NotWithAtomic.into());
        }
        let catalog = self.catalog.loaded()?;
        let mut short = None;
        for OrderLine { product_id, quantity } in &order.lines {
            let Some(remaining) = catalog.remaining(product_id) else {
                return Err(PurchaseError::UnknownProduct(product_id.clone()).into());
            };
            if *quantity > remaining && short.is_none() {
                short = Some(OrderError::sold_out(product_id.clone()));
            }
        }
        let closed = self.window.check(Timestamp::now()).err().map(OrderError::from);
        if let Some(refusal) = closed.or(short) {
            return self.placed_or(refusal, &order).await;
        }
        let products = products(&order.lines);
        let service = service.unwrap_or_else(|| self.service());
        settled(self.orders.settle(service, Task::Place(order), products).await?)
    }

    /// The answer a known idempotency key had, else the refusal.
    async fn placed_or(
        &self,
        refusal: OrderError,
        order: &NewOrder,
    ) -> Result<OrderReceipt, OrderError> {
        let Some(key) = &order.idempotency_key else { return Err(refusal) };
        match self.ledger.placed_by_key(&order.buyer, key).await? {
            Some(placed) => settled(Settled::of_existing(placed, &order.lines)),
            None => Err(refusal),
        }
    }

    /// Changes an order of the caller, or any if that is an administrator. What was so before is
    /// so again; what was changed otherwise is refused.
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
        self.observer.order(match &result {
            Ok(OrderReceipt { replayed: true, .. }) => "unchanged",
            Ok(OrderReceipt { order, .. }) => order.state.name(),
            Err(error) => error.code(),
        });
        result
    }

    async fn try_change_order(
        &self,
        id: Uuid,
        caller: Caller<'_>,
        change: Change,
    ) -> Result<OrderReceipt, OrderError> {
        let order = self.order(id, caller).await?;
        if change.standing(&order) != Standing::Open {
            return settled(Settled::of_unchanged(Some(order), &change));
        }
        if let Change::Pay { reference } = &change {
            return settled(self.ledger.pay(id, reference.as_deref()).await?);
        }
        let mut stocks = BTreeMap::new();
        if let Engine::Atomic(atomic) = &self.engine {
            for OrderLine { product_id, .. } in &order.lines {
                let stock = atomic.before_giving_back(product_id, &order.buyer).await;
                stocks.insert(product_id, stock);
            }
        }
        let task = Task::GiveBack { id, change };
        let receipt =
            settled(self.orders.settle(self.service(), task, products(&order.lines)).await?)?;
        if let (Engine::Atomic(atomic), false) = (&self.engine, receipt.replayed) {
            for OrderLine { product_id, quantity } in &order.lines {
                let stock = stocks.get(product_id).copied().flatten();
                atomic.given_back(product_id, (&order.buyer, *quantity), stock).await;
            }
        }
        Ok(receipt)
    }

    /// An order of the caller, or any if that is an administrator.
    ///
    /// # Errors
    /// [`OrderError::Unknown`], [`OrderError::NotRecordedYet`], or when the database fails.
    pub async fn order(&self, id: Uuid, caller: Caller<'_>) -> Result<PlacedOrder, OrderError> {
        let order = match self.ledger.placed(id).await? {
            Some(order) => order,
            None => self.recorded_soon(id).await?,
        };
        if order.buyer != caller.buyer && !caller.is_admin {
            return Err(OrderError::Unknown);
        }
        Ok(order)
    }

    /// An order that the database does not have: where Redis decides, it may be about to.
    async fn recorded_soon(&self, id: Uuid) -> Result<PlacedOrder, OrderError> {
        let Engine::Atomic(atomic) = &self.engine else { return Err(OrderError::Unknown) };
        let all_recorded = atomic.await_recorded(Some(id)).await;
        let missing = if all_recorded { OrderError::Unknown } else { OrderError::NotRecordedYet };
        self.ledger.placed(id).await?.ok_or(missing)
    }

    /// A buyer's orders, newest first, at most `limit`, from the one that comes `after` another. False:
    /// orders that were made just now may be missing.
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

    /// Who comes first in this sale.
    fn service(&self) -> QueueDiscipline {
        self.catalog.discipline()
    }
}

fn products(lines: &[OrderLine]) -> BTreeSet<String> {
    lines.iter().map(|line| line.product_id.clone()).collect()
}

fn settled(outcome: Settled) -> Result<OrderReceipt, OrderError> {
    match outcome {
        Settled::Done(order) => Ok(OrderReceipt { order, replayed: false }),
        Settled::DoneBefore(order) => Ok(OrderReceipt { order, replayed: true }),
        Settled::KeyReused => Err(PurchaseError::KeyReused.into()),
        Settled::SoldOut(product_id) => Err(OrderError::sold_out(product_id)),
        Settled::LimitReached(product_id) => {
            Err(OrderError::Product { product_id, reason: PurchaseError::LimitReached })
        }
        Settled::Refused(state) => Err(OrderError::State(state)),
        Settled::UnknownOrder => Err(OrderError::Unknown),
    }
}
