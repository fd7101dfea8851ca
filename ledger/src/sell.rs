//! The sale to all who wait, whatever the database.

use crate::demand::{Decided, Demand, undecided};
use crate::error::LedgerError;
use crate::ledger::{Ledger, either};
use crate::types::Decision;

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
