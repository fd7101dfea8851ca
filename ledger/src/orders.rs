//! Orders of several products: placing, paying, cancelling.
//!
//! [`Ledger::settle`] runs under the locks of all products that it touches, in one transaction. A task that
//! gives units back changes the order's state by a conditional statement in the same transaction, so
//! units come back once, however often it is requested.

mod allocation;
mod change;
mod holds;
mod order;
mod postgres;
mod rows;
mod search;
mod settle;
pub(crate) mod sql;
mod sqlite;
pub(crate) mod types;

use std::collections::BTreeMap;

use uuid::Uuid;

pub use self::change::{Change, Standing};
pub(crate) use self::holds::now_ms;
pub use self::holds::{DueHold, HoldCounts};
pub(crate) use self::order::amount;
pub use self::order::{OrderLine, OrderState, PlacedOrder, Refunded};
pub use self::search::OrderSearch;
pub use self::types::{NewOrder, OrderedUnits, Settled, Settlement, Task, UnitCount};
use crate::calls::{COUNT_TIMEOUT, bounded, bounded_by};
use crate::error::LedgerError;
use crate::ledger::{Ledger, either};

impl Ledger {
    /// Settles tasks in one transaction: first those that give units back, then the orders in turn.
    /// `tokens` has every product that a task touches, with the fencing token of its lock.
    ///
    /// # Errors
    /// [`LedgerError::StaleTokens`], or as [`Ledger::sell`]: in every case nothing was changed, but
    /// for a connection lost during the commit.
    pub async fn settle(
        &self,
        tokens: &BTreeMap<String, i64>,
        tasks: &[&Task],
    ) -> Result<Settlement, LedgerError> {
        loop {
            let settlement = either!(self, ledger => ledger.settle(tokens, tasks));
            if !matches!(&settlement, Err(error) if error.is_crossed_keys()) {
                return settlement;
            }
        }
    }

    /// Records a payment. It takes no lock, because no units move.
    ///
    /// `actor`: the administrator who reports it; `None`: a payment service.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn pay(
        &self,
        id: Uuid,
        reference: Option<&str>,
        actor: Option<&str>,
    ) -> Result<Settled, LedgerError> {
        let change = Change::Pay { reference: reference.map(str::to_owned) };
        self.change_in_place(id, &change, actor).await
    }

    /// Makes a change that moves no units, and so needs no lock: a payment, or a refund without the units.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn change_in_place(
        &self,
        id: Uuid,
        change: &Change,
        actor: Option<&str>,
    ) -> Result<Settled, LedgerError> {
        bounded(async {
            loop {
                let paid = either!(self, ledger => ledger.change_state(id, change, actor));
                match paid {
                    Err(error) if error.is_crossed_keys() => {}
                    Ok(Some(order)) => return Ok(Settled::Done(order)),
                    Ok(None) => break,
                    Err(error) => return Err(error),
                }
            }
            let order = either!(self, ledger => ledger.placed(id))?;
            Ok(Settled::of_unchanged(order, change))
        })
        .await
    }

    /// The units of all orders, and those that were put on sale. It reads all orders, so call it rarely.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn count_units(&self) -> Result<UnitCount, LedgerError> {
        let count = async { either!(self, ledger => ledger.count_units()) };
        Ok(UnitCount::of(bounded_by(COUNT_TIMEOUT, count).await?))
    }

    /// The order with this id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn placed(&self, id: Uuid) -> Result<Option<PlacedOrder>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.placed(id)) }).await
    }

    /// The order that a payment of this reference paid.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn placed_by_payment(
        &self,
        reference: &str,
    ) -> Result<Option<PlacedOrder>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.placed_by_payment(reference)) }).await
    }

    /// The order of this buyer under this key.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn placed_by_key(
        &self,
        buyer: &str,
        key: &str,
    ) -> Result<Option<PlacedOrder>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.placed_by_key(buyer, key)) }).await
    }

    /// A buyer's orders, newest first, at most `limit`, from the one that comes `after` another.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn placed_by(
        &self,
        buyer: &str,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<PlacedOrder>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.placed_by(buyer, after, limit)) }).await
    }
}
