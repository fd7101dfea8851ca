//! What a holder of products' locks does: sell to everybody who waits, in one transaction.

use std::sync::Arc;

use ledger::{Decided, Decision, Demand, Ledger, LedgerError, Purchase, Step, undecided};
use redlock::{Batch, Entry, Lease, Policy, Redlock, ResourceBatch};
use tracing::{error, warn};

use crate::catalog::Catalog;
use crate::error::PurchaseError;
use crate::observer::Observer;
use crate::purchase::{Receipt, receipt};

type Waiting = Entry<Purchase, Result<Receipt, PurchaseError>>;

#[derive(Debug)]
pub(crate) struct PurchaseBatch {
    pub(crate) ledger: Ledger,
    pub(crate) redlock: Redlock,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) observer: Arc<dyn Observer>,
}

impl Batch for PurchaseBatch {
    type Item = Purchase;
    type Output = Result<Receipt, PurchaseError>;
    const MAX_RESOURCES: usize = 128;

    fn policy(&self, resource: &str, _purchase: &Purchase) -> Policy {
        self.catalog.policy(resource)
    }

    async fn execute(&self, resource: &str, lease: Lease, entries: Vec<Waiting>) -> Vec<Waiting> {
        let lot = ResourceBatch { resource: resource.into(), entries };
        let again = self.execute_together(lease, vec![lot]).await;
        again.into_iter().flat_map(|lot| lot.entries).collect()
    }

    async fn execute_together(
        &self,
        lease: Lease,
        lots: Vec<ResourceBatch<Self>>,
    ) -> Vec<ResourceBatch<Self>> {
        self.observer.batch(lots.iter().map(|lot| lot.entries.len()).sum());
        let decisions = match self.decide(&lease, &lots).await {
            Ok(decisions) => decisions,
            Err(error) => lots.iter().map(|_| Err(Failure::Refused(error.clone()))).collect(),
        };
        let decided = lots.iter().zip(&decisions);
        let left: Vec<_> = decided
            .filter_map(|(lot, decision)| {
                Some((&*lot.resource, decision.as_ref().ok()?.available.to_string()))
            })
            .collect();
        // On its way before anybody is answered, so a buyer who looks finds it.
        lease.release_in_background(&left);
        let answered = lots.into_iter().zip(decisions);
        answered.filter_map(|(lot, decision)| self.answer(lot, decision)).collect()
    }
}

#[derive(Clone)]
enum Failure {
    StaleToken(u64),
    /// The lease ended before it was begun; nothing was changed.
    NotBegun,
    Refused(PurchaseError),
}

impl PurchaseBatch {
    /// Step by step. What one step decided is committed, and stands whatever becomes of the next.
    async fn decide(
        &self,
        lease: &Lease,
        lots: &[ResourceBatch<Self>],
    ) -> Result<Vec<Result<Decision, Failure>>, PurchaseError> {
        let demands: Vec<Demand<'_>> =
            lots.iter().map(|lot| demand(lease, lot)).collect::<Result<_, _>>()?;
        let is_limited =
            |demand: &Demand<'_>| self.catalog.max_per_buyer(demand.product_id).is_some();
        let mut decided = undecided(demands.len());
        let mut last = Ok(());
        if !demands.iter().any(is_limited) {
            last = self.step(Step::AtOnce, lease, &demands, &mut decided).await;
        }
        while last.is_ok() && decided.iter().any(Option::is_none) {
            if self.has_time_for_a_step(lease, lots).await {
                last = self.step(Step::ByRules, lease, &demands, &mut decided).await;
            } else {
                last = Err(Failure::NotBegun);
            }
        }
        let failure = |error| match error {
            LedgerError::StaleToken { seen, .. } => {
                Failure::StaleToken(u64::try_from(seen).unwrap_or(0))
            }
            error => Failure::Refused(error.into()),
        };
        let failed = last.err();
        let decision = |decision: Option<Result<Decision, LedgerError>>| match decision {
            Some(decision) => decision.map_err(failure),
            None => Err(failed.clone().unwrap_or(Failure::NotBegun)),
        };
        Ok(decided.into_iter().map(decision).collect())
    }

    async fn step(
        &self,
        step: Step,
        lease: &Lease,
        demands: &[Demand<'_>],
        decided: &mut Decided,
    ) -> Result<(), Failure> {
        // Past the lease others may hold the lock: the fence keeps them safe from us, and a
        // database that hangs must not hang the buyers.
        let stepping = self.ledger.sell_step(step, demands, decided);
        let Some(done) = lease.while_held(stepping).await else {
            self.observer.lease_lost();
            error!("the database did not answer within the lease");
            return Err(Failure::Refused(PurchaseError::DatabaseUnavailable));
        };
        done.map_err(|error| Failure::Refused(error.into()))
    }

    /// Each step has a good part of a lease, or it is not begun.
    async fn has_time_for_a_step(&self, lease: &Lease, lots: &[ResourceBatch<Self>]) -> bool {
        let leases = lots.iter().map(|lot| self.catalog.policy(&lot.resource).lease_time);
        let Some(lease_time) = leases.min() else { return false };
        lease.remaining() >= lease_time / 2 || lease.extend(lease_time).await.is_ok()
    }

    /// Returns those who must be tried again.
    fn answer(
        &self,
        lot: ResourceBatch<Self>,
        decision: Result<Decision, Failure>,
    ) -> Option<ResourceBatch<Self>> {
        match decision {
            Ok(decision) => {
                for (entry, outcome) in lot.entries.into_iter().zip(decision.outcomes) {
                    entry.reply(receipt(outcome));
                }
                None
            }
            Err(Failure::StaleToken(seen)) => {
                warn!(resource = &*lot.resource, seen, "late holder refused, trying again");
                self.redlock.observe_token(&lot.resource, seen);
                Some(lot)
            }
            Err(Failure::NotBegun) => Some(lot),
            Err(Failure::Refused(error)) => {
                for entry in lot.entries {
                    entry.reply(Err(error.clone()));
                }
                None
            }
        }
    }
}

fn demand<'a>(
    lease: &Lease,
    lot: &'a ResourceBatch<PurchaseBatch>,
) -> Result<Demand<'a>, PurchaseError> {
    let tokens = lease.tokens();
    let held = tokens.binary_search_by(|(resource, _)| (**resource).cmp(&*lot.resource)).ok();
    let Some(token) = held.and_then(|position| i64::try_from(tokens[position].1).ok()) else {
        error!(resource = &*lot.resource, "fencing tokens are used up");
        return Err(PurchaseError::DatabaseUnavailable);
    };
    let product_id = lot.resource.strip_prefix("stock:").unwrap_or(&lot.resource);
    Ok(Demand {
        product_id,
        token,
        purchases: lot.entries.iter().map(|entry| &entry.item).collect(),
    })
}
