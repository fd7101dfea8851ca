//! The sale to all who wait, whatever the database.

use std::collections::HashMap;

use super::decide::Ruling;
use super::{Decision, Ledger, LedgerError, Order, Purchase, either};

/// All who wait for a product, under a lease on it.
#[derive(Debug, Clone)]
pub struct Demand<'a> {
    /// What they want.
    pub product_id: &'a str,
    /// The lease's fencing token.
    pub token: i64,
    /// In order of arrival.
    pub purchases: Vec<&'a Purchase>,
}

/// What became of each demand; `None`: it is not decided yet.
pub type Decided = Vec<Option<Result<Decision, LedgerError>>>;

impl Demand<'_> {
    pub(super) fn units(&self) -> i64 {
        self.purchases.iter().map(|purchase| purchase.quantity).sum()
    }

    /// What it leads to when everybody gets what he asked for.
    pub(super) fn orders(&self) -> Vec<Order> {
        self.purchases.iter().map(|purchase| purchase.order(self.product_id)).collect()
    }
}

/// A product as a decision needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProductState {
    pub(super) fence: i64,
    pub(super) available: i64,
    pub(super) max_per_buyer: Option<i64>,
    /// See [`Ruling::bought`].
    pub(super) bought: HashMap<String, i64>,
}

impl ProductState {
    /// A token must be above all that came before.
    pub(super) fn ruling<'a>(
        self,
        demand: &Demand<'a>,
        existing: HashMap<(String, String), Order>,
    ) -> Result<Ruling<'a>, LedgerError> {
        let Self { fence, available, max_per_buyer, bought } = self;
        if fence >= demand.token {
            return Err(LedgerError::refused(demand.product_id, demand.token, Some(fence)));
        }
        Ok(Ruling { product_id: demand.product_id, available, max_per_buyer, existing, bought })
    }
}

/// How purchases are decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Everybody gets what they ask for, of the products where that can be told from the stock
    /// alone: there are enough units, buyers are not limited, no key was used. The quickest.
    AtOnce,
    /// One after the other, by units, limits and idempotency keys. A product is left undecided
    /// where somebody else changed it, or used one of the keys, since it was read.
    ByRules,
}

impl Ledger {
    /// Decides those products that are not decided yet, or some of them; the purchases of each in
    /// their order. What one product comes to does not depend on another. Nothing was changed for
    /// a product that is undecided then.
    ///
    /// # Errors
    /// In every case nothing was changed in this step, but for a connection lost during the commit:
    /// then it is not known, and the idempotency keys tell. What was decided before stands.
    pub async fn sell_step(
        &self,
        step: Step,
        demands: &[Demand<'_>],
        decided: &mut Decided,
    ) -> Result<(), LedgerError> {
        let undecided = demands.iter().zip(decided).filter(|(_, slot)| slot.is_none());
        let (rest, slots): (Vec<_>, Vec<_>) =
            undecided.map(|(demand, slot)| (demand.clone(), slot)).unzip();
        let decisions: Result<Decided, _> = match step {
            Step::AtOnce => either!(self, ledger => ledger.sell_all(&rest))
                .map(|sold| sold.into_iter().map(|decision| decision.map(Ok)).collect()),
            Step::ByRules => either!(self, ledger => ledger.sell_by_rules(&rest)),
        };
        match decisions {
            Err(error) if error.is_crossed_keys() => {}
            decisions => {
                for (slot, decision) in slots.into_iter().zip(decisions?) {
                    *slot = decision;
                }
            }
        }
        Ok(())
    }

    /// Both steps, until all is decided.
    ///
    /// # Errors
    /// As [`Ledger::sell_step`].
    pub async fn sell(
        &self,
        demands: &[Demand<'_>],
    ) -> Result<Vec<Result<Decision, LedgerError>>, LedgerError> {
        let mut decided = undecided(demands.len());
        self.sell_step(Step::AtOnce, demands, &mut decided).await?;
        while decided.iter().any(Option::is_none) {
            self.sell_step(Step::ByRules, demands, &mut decided).await?;
        }
        Ok(decided.into_iter().flatten().collect())
    }
}

/// Before the first step.
#[must_use]
pub fn undecided(demands: usize) -> Decided {
    std::iter::repeat_with(|| None).take(demands).collect()
}
