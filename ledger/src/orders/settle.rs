//! What happens under the locks of the products, in the order of its steps: the same in both databases.

use std::collections::BTreeMap;

use serde_json::json;
use uuid::Uuid;

use super::allocation::{OrderAllocation, new_orders};
use super::types::{Change, NewOrder, PlacedOrder, Settled, Settlement, Task};
use crate::audit_entry::{AuditEntry, AuditStatements};
use crate::error::LedgerError;

/// The statements of one database, on a connection inside a transaction.
pub(crate) trait OrderStatements: AuditStatements {
    /// Installs the tokens, before anything is read; returns the units left of each product, and whether
    /// it was deleted.
    async fn fence(
        &mut self,
        tokens: &BTreeMap<String, i64>,
    ) -> Result<BTreeMap<String, (i64, bool)>, LedgerError>;

    /// Changes an open order; `None`: the order is not open, or unknown.
    async fn change_state(
        &mut self,
        id: Uuid,
        change: &Change,
    ) -> Result<Option<PlacedOrder>, LedgerError>;

    /// The order with this id.
    async fn placed(&mut self, id: Uuid) -> Result<Option<PlacedOrder>, LedgerError>;

    /// Reads what the allocation must know of these orders: keys, limits, and units bought before.
    async fn read(
        &mut self,
        allocation: &mut OrderAllocation,
        orders: &[&NewOrder],
    ) -> Result<(), LedgerError>;

    /// Moves units of a product whose token is installed; returns how many rows changed.
    async fn move_units(
        &mut self,
        product_id: &str,
        units: i64,
        token: Option<i64>,
    ) -> Result<u64, LedgerError>;

    /// Writes the orders, each line with its product's token.
    async fn write(
        &mut self,
        tokens: &BTreeMap<String, i64>,
        orders: &[PlacedOrder],
    ) -> Result<(), LedgerError>;
}

/// Settles these tasks: first what gives units back, then the orders in turn.
pub(crate) async fn settle<S: OrderStatements>(
    statements: &mut S,
    tokens: &BTreeMap<String, i64>,
    tasks: &[&Task],
) -> Result<Settlement, LedgerError> {
    let mut allocation = OrderAllocation::of_rows(statements.fence(tokens).await?);
    let mut given_back = Vec::new();
    for task in tasks {
        if let Task::GiveBack { id, change, actor } = task {
            let changed = change_state(statements, *id, change, actor.as_deref()).await?;
            given_back.push(give_back(statements, &mut allocation, changed, *id, change).await?);
        }
    }
    let orders = new_orders(tasks);
    if !orders.is_empty() {
        statements.read(&mut allocation, &orders).await?;
    }
    let mut given_back = given_back.into_iter();
    let outcome = |task: &&Task| match task {
        Task::Place(order) => allocation.place(order),
        Task::GiveBack { .. } => given_back.next().unwrap_or(Settled::UnknownOrder),
    };
    let outcomes = tasks.iter().map(outcome).collect();
    for (product, units) in allocation.moved() {
        let token = tokens.get(product).copied();
        // The transaction has held the row since `fence`, so another count is a defect: nothing may
        // change then.
        if statements.move_units(product, units, token).await? != 1 {
            return Err(LedgerError::Database(sqlx::Error::RowNotFound));
        }
    }
    statements.write(tokens, &allocation.placed).await?;
    Ok(Settlement { outcomes, available: allocation.on_sale() })
}

fn audit_entry(actor: &str, change: &Change, order: &PlacedOrder) -> AuditEntry {
    let report = json!({"state": order.state.name(), "reference": change.reference()});
    let (action, detail) = match change {
        Change::Cancel => ("cancel_order", None),
        Change::Pay { .. } | Change::FailPayment { .. } => ("report_payment", Some(report)),
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
