//! The sale to all waiting buyers: the same steps on both databases.

use crate::demand::{Decided, Demand, undecided};
use crate::error::LedgerError;
use crate::ledger::{Ledger, either};
use crate::types::Decision;

/// How purchases are decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Grants every purchase of a product, where the stock alone allows it: enough units, no limit per
    /// buyer. A key that was used before leaves all products undecided. One round trip, the fastest.
    GrantAll,
    /// As `AtOnce`, by limits only. A key that was used before leaves all products undecided.
    WithinLimits,
    /// Decides the purchases of a product together, by limits and idempotency keys, where there are enough
    /// units for all of them. One round trip for all products.
    AtOnce,
    /// Decides one purchase after the other by units, limits and idempotency keys. A product stays undecided
    /// if another transaction changed it, or used one of the keys, since it was read.
    ByRules,
}

impl Ledger {
    /// Decides all or some of the undecided products, the purchases of each in their order. Products are
    /// decided independently of each other. Nothing was changed for a product that stays undecided.
    ///
    /// # Errors
    /// This step changed nothing, unless the connection was lost during the commit: then the outcome is
    /// unknown, and the idempotency keys tell it. Earlier decisions stand.
    pub async fn sell_step(
        &self,
        step: Step,
        demands: &[Demand<'_>],
        decided: &mut Decided,
    ) -> Result<(), LedgerError> {
        let undecided = demands.iter().zip(decided).filter(|(_, slot)| slot.is_none());
        let (rest, slots): (Vec<_>, Vec<_>) =
            undecided.map(|(demand, slot)| (demand.clone(), slot)).unzip();
        if rest.is_empty() {
            return Ok(());
        }
        let decisions: Result<Decided, _> = match step {
            Step::GrantAll => either!(self, ledger => ledger.sell_all(&rest)),
            Step::WithinLimits => either!(self, ledger => ledger.sell_at_once(&rest, false)),
            Step::AtOnce => either!(self, ledger => ledger.sell_at_once(&rest, true)),
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

    /// One step after the other, until all is decided.
    ///
    /// # Errors
    /// As [`Ledger::sell_step`].
    pub async fn sell(
        &self,
        demands: &[Demand<'_>],
    ) -> Result<Vec<Result<Decision, LedgerError>>, LedgerError> {
        let mut decided = undecided(demands.len());
        self.sell_step(Step::GrantAll, demands, &mut decided).await?;
        self.sell_step(Step::AtOnce, demands, &mut decided).await?;
        while decided.iter().any(Option::is_none) {
            self.sell_step(Step::ByRules, demands, &mut decided).await?;
        }
        Ok(decided.into_iter().flatten().collect())
    }
}
