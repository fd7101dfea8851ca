//! What happens under the locks of the products, in the order of its steps: the same in both databases.

use std::collections::BTreeMap;

use serde_json::json;
use uuid::Uuid;

use super::allocation::{OrderAllocation, new_orders};
use super::change::{Change, Standing};
use super::order::{OrderState, PlacedOrder};
use super::types::{FencedStock, NewOrder, Settled, Settlement, Task, Waiter};
use crate::audit_entry::{AuditEntry, AuditStatements};
use crate::error::LedgerError;

/// Waiters of one read. A transaction that served as many leaves the others to the next one: its locks would be held for
/// too long. As many as the holds that end together, so that the units of these are for those who wait.
const MOST_WAITERS: u16 = 1_000;

/// Who waits, in the order of the list.
#[derive(Default)]
struct Waiters {
    /// Those of one read.
    first: Vec<Waiter>,
    /// Whether the read ended at its limit.
    may_be_more: bool,
}

/// The statements of one database, on a connection inside a transaction.
pub(crate) trait OrderStatements: AuditStatements {
    /// Installs the tokens, and returns the products as they stay until the end of the transaction.
    async fn fence(&mut self, tokens: &BTreeMap<String, i64>) -> Result<FencedStock, LedgerError>;

    /// Changes an open order, or refunds a paid one, its units also after its money; `None`: the order is in another state,
    /// or unknown.
    async fn change_state(
        &mut self,
        id: Uuid,
        change: &Change,
    ) -> Result<Option<PlacedOrder>, LedgerError>;

    /// Ends the holds of these orders whose time has come, if nothing else has changed them. Returns
    /// their number, and their units by product.
    async fn expire(&mut self, ids: &[Uuid]) -> Result<(i64, Vec<(String, i64)>), LedgerError>;

    /// The first who wait for no more units of these products than are left of each, in their order: at most this many.
    /// Nobody else can serve them, and they cannot leave, until the end of the transaction.
    async fn waiting(
        &mut self,
        left: &[(&str, i64)],
        most: u16,
    ) -> Result<Vec<Waiter>, LedgerError>;

    /// Removes rows of the waiting list.
    async fn stop_waiting(&mut self, places: &[i64]) -> Result<(), LedgerError>;

    /// Pays an order whose hold has ended; `None`: it is in another state by now.
    async fn pay_late(
        &mut self,
        id: Uuid,
        to: OrderState,
        reference: Option<&str>,
    ) -> Result<Option<PlacedOrder>, LedgerError>;

    /// The order with this id.
    async fn placed(&mut self, id: Uuid) -> Result<Option<PlacedOrder>, LedgerError>;

    /// Reads what the allocation must know of these orders: keys, limits, and units bought before. What it knows already
    /// stays: the database does not have the orders of this transaction yet.
    async fn read(
        &mut self,
        allocation: &mut OrderAllocation,
        orders: &[&NewOrder],
    ) -> Result<(), LedgerError>;

    /// Moves units of products whose tokens are installed, and writes the orders, each line with its product's token.
    /// Returns of how many products units were moved.
    async fn write(
        &mut self,
        tokens: &BTreeMap<String, i64>,
        moved: &[(&str, i64)],
        orders: &[PlacedOrder],
    ) -> Result<usize, LedgerError>;
}

/// Settles these tasks: first what gives units back, then what takes units, in turn.
pub(crate) async fn settle<S: OrderStatements>(
    statements: &mut S,
    tokens: &BTreeMap<String, i64>,
    tasks: &[&Task],
) -> Result<Settlement, LedgerError> {
    let mut allocation = OrderAllocation::of_rows(statements.fence(tokens).await?);
    let mut given_back = Vec::new();
    let mut late = Vec::new();
    for task in tasks {
        match task {
            Task::GiveBack { id, change, actor } => {
                let changed = change_state(statements, *id, change, actor.as_deref()).await?;
                given_back
                    .push(give_back(statements, &mut allocation, changed, *id, change).await?);
            }
            Task::Expire { ids } => {
                given_back.push(expire(statements, &mut allocation, ids).await?);
            }
            Task::PayLate { id, .. } => late.push(statements.placed(*id).await?),
            Task::HandOut | Task::Place(_) => {}
        }
    }
    let waiters = first_waiters(statements, &allocation, tasks).await?;
    let again: Vec<NewOrder> = late.iter().flatten().map(again).collect();
    let orders = waiters.first.iter().map(|waiter| &waiter.order);
    let orders: Vec<&NewOrder> = orders.chain(new_orders(tasks)).chain(&again).collect();
    if !orders.is_empty() {
        statements.read(&mut allocation, &orders).await?;
    }
    let handed_out = hand_out(statements, &mut allocation, &waiters).await?;
    let (mut given_back, mut late) = (given_back.into_iter(), late.into_iter());
    let mut outcomes = Vec::with_capacity(tasks.len());
    for task in tasks {
        outcomes.push(match task {
            Task::Place(order) => allocation.place(order),
            Task::PayLate { reference, take, actor, .. } => {
                let (order, change) =
                    (late.next().flatten(), Change::Pay { reference: reference.clone() });
                let paid = pay_late(statements, &mut allocation, order, &change, *take).await?;
                if let (Settled::Done(order), Some(actor)) = (&paid, actor) {
                    statements.record(&audit_entry(actor, &change, order)).await?;
                }
                paid
            }
            Task::HandOut => Settled::HandedOut,
            Task::GiveBack { .. } | Task::Expire { .. } => {
                given_back.next().unwrap_or(Settled::UnknownOrder)
            }
        });
    }
    let moved = allocation.moved();
    // The transaction has held the rows since `fence`, so another count is a defect: nothing may change then.
    if statements.write(tokens, &moved, &allocation.placed).await? != moved.len() {
        return Err(LedgerError::Database(sqlx::Error::RowNotFound));
    }
    Ok(Settlement { outcomes, available: allocation.on_sale(), handed_out })
}

/// The first who can be served by what these tasks give back: as many as there are units, since each waits for one at
/// least. A transaction that gives nothing back asks for nobody.
async fn first_waiters<S: OrderStatements>(
    statements: &mut S,
    allocation: &OrderAllocation,
    tasks: &[&Task],
) -> Result<Waiters, LedgerError> {
    let gives_back =
        |task: &&&Task| matches!(task, Task::GiveBack { .. } | Task::Expire { .. } | Task::HandOut);
    if !tasks.iter().any(|task| gives_back(&task)) {
        return Ok(Waiters::default());
    }
    let units =
        allocation.with_units().iter().map(|(_, units)| *units).fold(0, i64::saturating_add);
    let most = u16::try_from(units).map_or(MOST_WAITERS, |units| units.min(MOST_WAITERS));
    next_waiters(statements, allocation, most).await
}

/// The first who can be served by what is left.
async fn next_waiters<S: OrderStatements>(
    statements: &mut S,
    allocation: &OrderAllocation,
    most: u16,
) -> Result<Waiters, LedgerError> {
    let left = allocation.with_units();
    if left.is_empty() {
        return Ok(Waiters::default());
    }
    let first = statements.waiting(&left, most).await?;
    let may_be_more = first.len() >= usize::from(most);
    Ok(Waiters { first, may_be_more })
}

/// Serves those who wait, before anybody else. Units that the first cannot have, because they would have too many or wait
/// for more than is left by then, go to the next ones. Returns how many were served.
async fn hand_out<S: OrderStatements>(
    statements: &mut S,
    allocation: &mut OrderAllocation,
    Waiters { first, may_be_more }: &Waiters,
) -> Result<usize, LedgerError> {
    let mut served = serve(statements, allocation, first).await?;
    let mut may_be_more = *may_be_more;
    while may_be_more && served < usize::from(MOST_WAITERS) {
        let next = next_waiters(statements, allocation, MOST_WAITERS).await?;
        let orders: Vec<&NewOrder> = next.first.iter().map(|waiter| &waiter.order).collect();
        if !orders.is_empty() {
            statements.read(allocation, &orders).await?;
        }
        served += serve(statements, allocation, &next.first).await?;
        may_be_more = next.may_be_more;
    }
    Ok(served)
}

/// Serves each of these who can be served. Who would have too many is not asked again; who waits for more units than
/// there are is passed over. Returns how many were served.
async fn serve<S: OrderStatements>(
    statements: &mut S,
    allocation: &mut OrderAllocation,
    waiters: &[Waiter],
) -> Result<usize, LedgerError> {
    let (mut served, mut done) = (0, Vec::new());
    for Waiter { place, order } in waiters {
        match allocation.place(order) {
            Settled::Done(_) => {
                served += 1;
                done.push(*place);
            }
            Settled::LimitReached(_) => done.push(*place),
            _ => {}
        }
    }
    if !done.is_empty() {
        statements.stop_waiting(&done).await?;
    }
    Ok(served)
}

fn audit_entry(actor: &str, change: &Change, order: &PlacedOrder) -> AuditEntry {
    let report = json!({"state": order.state.name(), "reference": change.reference()});
    let (action, detail) = match change {
        Change::Cancel => ("cancel_order", None),
        Change::Pay { .. } | Change::FailPayment { .. } => ("report_payment", Some(report)),
        Change::Refund { reference, units_back } => {
            let amount = order.amount();
            let detail = json!({
                "amount": amount.map(|amount| amount.amount),
                "currency": amount.map(|amount| amount.currency.code()),
                "reference": reference,
                "units_back": units_back,
            });
            ("refund_order", Some(detail))
        }
    };
    AuditEntry::new(actor, action, &order.id.to_string(), detail)
}

/// Changes an open order, and logs what an administrator does.
pub(crate) async fn change_state<S: OrderStatements>(
    statements: &mut S,
    id: Uuid,
    change: &Change,
    actor: Option<&str>,
) -> Result<Option<PlacedOrder>, LedgerError> {
    let changed = statements.change_state(id, change).await?;
    if let (Some(order), Some(actor)) = (&changed, actor) {
        statements.record(&audit_entry(actor, change, order)).await?;
    }
    Ok(changed)
}

/// Only the statement that changes the state gives units back, so they come back once.
async fn give_back<S: OrderStatements>(
    statements: &mut S,
    allocation: &mut OrderAllocation,
    changed: Option<PlacedOrder>,
    id: Uuid,
    change: &Change,
) -> Result<Settled, LedgerError> {
    if let Some(order) = changed {
        allocation.give_back(&order);
        return Ok(Settled::Done(order));
    }
    Ok(Settled::of_unchanged(statements.placed(id).await?, change))
}

/// As [`give_back`]: only orders that this statement changed give units back.
async fn expire<S: OrderStatements>(
    statements: &mut S,
    allocation: &mut OrderAllocation,
    ids: &[Uuid],
) -> Result<Settled, LedgerError> {
    let (orders, units) = statements.expire(ids).await?;
    for (product, units) in units {
        allocation.give_back_units(&product, units);
    }
    Ok(Settled::Expired(orders))
}

/// Takes the units of an order again whose hold has ended; where that is not possible, a refund is due.
async fn pay_late<S: OrderStatements>(
    statements: &mut S,
    allocation: &mut OrderAllocation,
    order: Option<PlacedOrder>,
    change: &Change,
    take: bool,
) -> Result<Settled, LedgerError> {
    let order = match order {
        Some(order) if change.standing(&order) == Standing::Late => order,
        order => return Ok(Settled::of_unchanged(order, change)),
    };
    let limit_key = order.limit_key.as_deref();
    let takes = take && allocation.refusal(&order.buyer, limit_key, &order.lines).is_none();
    let to = if takes { OrderState::Paid } else { OrderState::RefundRequired };
    match statements.pay_late(order.id, to, change.reference()).await? {
        Some(order) => {
            if takes {
                allocation.take(&order.buyer, order.limit_key.as_deref(), &order.lines);
            }
            Ok(Settled::Done(order))
        }
        None => Ok(Settled::of_unchanged(statements.placed(order.id).await?, change)),
    }
}

/// The order as one that takes its units anew.
fn again(order: &PlacedOrder) -> NewOrder {
    NewOrder {
        buyer: order.buyer.clone(),
        lines: order.lines.clone(),
        idempotency_key: None,
        state: order.state,
        hold_ms: None,
        limit_key: order.limit_key.clone(),
    }
}
