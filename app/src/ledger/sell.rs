//! The sale to all who wait, whatever the database.

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

impl Demand<'_> {
    pub(super) fn units(&self) -> i64 {
        self.purchases.iter().map(|purchase| purchase.quantity).sum()
    }

    /// What it leads to when everybody gets what he asked for.
    pub(super) fn orders(&self) -> Vec<Order> {
        self.purchases.iter().map(|purchase| purchase.order(self.product_id)).collect()
    }
}

impl Ledger {
    /// Decides purchases of some products, those of each in their order; what one product comes to
    /// does not depend on another.
    ///
    /// # Errors
    /// In every case nothing was changed, but for a connection lost during the commit: then it is
    /// not known, and the idempotency keys tell.
    pub async fn sell(
        &self,
        demands: &[Demand<'_>],
    ) -> Result<Vec<Result<Decision, LedgerError>>, LedgerError> {
        let sold = match either!(self, ledger => ledger.sell_all(demands)) {
            Err(error) if error.is_crossed_keys() => demands.iter().map(|_| None).collect(),
            sold => sold?,
        };
        let mut decisions = Vec::with_capacity(demands.len());
        for (demand, sold) in demands.iter().zip(sold) {
            decisions.push(match sold {
                Some(decision) => Ok(decision),
                None => self.sell_one_by_one(demand).await,
            });
        }
        Ok(decisions)
    }

    async fn sell_one_by_one(&self, demand: &Demand<'_>) -> Result<Decision, LedgerError> {
        loop {
            let decision = either!(self, ledger => ledger.sell_one_by_one(demand));
            if !matches!(&decision, Err(error) if error.is_crossed_keys()) {
                return decision;
            }
        }
    }
}
