//! Sells to all queued purchases of the locked products, in one transaction.

use std::sync::Arc;

use futures::future::join_all;
use ledger::{
    Decided, Decision, Demand, Lately, Ledger, LedgerError, Outcome, Purchase, Step, undecided,
};
use redlock::{Batch, Entry, Lease, Policy, Redlock, ResourceBatch};
use tracing::{error, warn};

use crate::batch_recorder::{BatchRecorder, Marked};
use crate::batch_report::{BatchKind, Origin, StepKind};
use crate::catalog::Catalog;
use crate::error::PurchaseError;
use crate::known_keys::KnownKeys;
use crate::observer::Observer;
use crate::purchase::{Receipt, receipt};
use crate::resource::product_of;

type QueuedPurchase = Entry<Marked<Purchase>, Result<Receipt, PurchaseError>>;

#[derive(Debug)]
pub(crate) struct PurchaseBatch {
    pub(crate) ledger: Ledger,
    pub(crate) redlock: Redlock,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) keys: RepeatedKeys,
    pub(crate) known_keys: Arc<KnownKeys>,
    /// Held while the buyers of a batch are refused: those of all that wait for a product are more than may wait for the
    /// database.
    pub(crate) refusing: Arc<tokio::sync::Mutex<()>>,
}

/// Purchases whose keys are looked up although none of them may have been used.
const FEW: usize = 16;

impl Batch for PurchaseBatch {
    type Item = Marked<Purchase>;
    type Output = Result<Receipt, PurchaseError>;
    const MAX_RESOURCES: usize = 128;

    fn policy(&self, resource: &str, _purchase: &Marked<Purchase>) -> Policy {
        self.catalog.policy(resource)
    }

    async fn execute(
        &self,
        resource: &str,
        lease: Lease,
        entries: Vec<QueuedPurchase>,
    ) -> Vec<QueuedPurchase> {
        let batch = ResourceBatch { resource: resource.into(), entries };
        let to_retry = self.execute_together(lease, vec![batch]).await;
        to_retry.into_iter().flat_map(|batch| batch.entries).collect()
    }

    async fn execute_together(
        &self,
        lease: Lease,
        batches: Vec<ResourceBatch<Self>>,
    ) -> Vec<ResourceBatch<Self>> {
        self.observer.batch(batches.iter().map(|batch| batch.entries.len()).sum());
        let mut recorder = BatchRecorder::new(origins(&batches));
        recorder.acquired(&lease);
        if batches.iter().all(|batch| self.is_sold_out(batch)) {
            // Nothing is decided under the lock, so the next replica gets it at once.
            lease.release_in_background(&[]);
            recorder.report(&*self.observer, BatchKind::Purchases, origins(&batches), None);
            self.refuse(batches);
            return Vec::new();
        }
        let decisions = match self.decide(&lease, &batches, &mut recorder).await {
            Ok(decisions) => decisions,
            Err(error) => batches.iter().map(|_| Err(Failure::Refused(error.clone()))).collect(),
        };
        let decided = batches.iter().zip(&decisions);
        // The version of a value is its fence.
        let remaining: Vec<_> = decided
            .filter_map(|(batch, decision)| {
                let decision = decision.as_ref().ok().filter(|decision| decision.fenced)?;
                Some((&*batch.resource, decision.available.to_string()))
            })
            .collect();
        // Released before the replies, so that a buyer who reads the stock at once sees the new value.
        lease.release_in_background(&remaining);
        let failure = decisions.iter().find_map(|decision| decision.as_ref().err());
        let failure = failure.map(Failure::code);
        recorder.report(&*self.observer, BatchKind::Purchases, origins(&batches), failure);
        let answered = batches.into_iter().zip(decisions);
        answered.filter_map(|(batch, decision)| self.answer(batch, decision)).collect()
    }
}

/// Whether buyers repeat their idempotency keys at present. A key that was used before undoes a statement that does not look
/// it up; so for a moment after one, keys are looked up.
#[derive(Debug, Default)]
pub(crate) struct RepeatedKeys(Lately);

impl RepeatedKeys {
    fn note(&self, decided: &Decided) {
        let is_known =
            |outcome: &Outcome| matches!(outcome, Outcome::Replayed(_) | Outcome::KeyReused);
        let decisions = decided.iter().flatten().flatten();
        if decisions.flat_map(|decision| &decision.outcomes).any(is_known) {
            self.0.note();
        }
    }
}

#[derive(Clone)]
enum Failure {
    StaleToken(u64),
    /// The lease was too short for another step, which did not begin and changed nothing.
    NoTime,
    Refused(PurchaseError),
}

impl Failure {
    fn code(&self) -> &'static str {
        match self {
            Self::StaleToken(_) => "stale_token",
            Self::NoTime => "lease_too_short",
            Self::Refused(error) => error.code(),
        }
    }
}

/// The marks of all callers.
fn origins(batches: &[ResourceBatch<PurchaseBatch>]) -> impl Iterator<Item = &Option<Origin>> {
    batches.iter().flat_map(|batch| &batch.entries).map(|entry| &entry.item.origin)
}

impl PurchaseBatch {
    /// Decides step by step. The result of each step is committed, and stands even if the next one
    /// fails.
    async fn decide(
        &self,
        lease: &Lease,
        batches: &[ResourceBatch<Self>],
        recorder: &mut BatchRecorder,
    ) -> Result<Vec<Result<Decision, Failure>>, PurchaseError> {
        let demands: Vec<Demand<'_>> =
            batches.iter().map(|batch| demand(lease, batch)).collect::<Result<_, _>>()?;
        let mut decided = undecided(demands.len());
        let mut last = Ok(());
        let mut is_first = true;
        let are_short = demands.iter().all(|demand| self.is_short(demand));
        if !are_short && self.has_probably_new_keys(&demands) {
            let is_limited =
                |demand: &Demand<'_>| self.catalog.max_per_buyer(demand.product_id).is_some();
            let limited = demands.iter().any(is_limited);
            let step = if limited { Step::WithinLimits } else { Step::GrantAll };
            let started = recorder.started();
            last = self.step(step, lease, &demands, &mut decided).await;
            recorder.ended(StepKind::Database, started);
            self.keys.note(&decided);
            is_first = false;
        }
        if last.is_ok()
            && !are_short
            && decided.iter().all(Option::is_none)
            && (is_first || self.has_time_for_a_step(lease, batches).await)
        {
            let started = recorder.started();
            last = self.step(Step::AtOnce, lease, &demands, &mut decided).await;
            recorder.ended(StepKind::Database, started);
            self.keys.note(&decided);
        }
        while last.is_ok() && decided.iter().any(Option::is_none) {
            if self.has_time_for_a_step(lease, batches).await {
                let started = recorder.started();
                last = self.step(Step::ByRules, lease, &demands, &mut decided).await;
                recorder.ended(StepKind::Database, started);
                self.keys.note(&decided);
            } else {
                last = Err(Failure::NoTime);
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
            None => Err(failed.clone().unwrap_or(Failure::NoTime)),
        };
        Ok(decided.into_iter().map(decision).collect())
    }

    /// Whether the units that are left are too few for each of these, as far as this replica knows.
    fn is_sold_out(&self, batch: &ResourceBatch<Self>) -> bool {
        let remaining = self.catalog.remaining(product_of(&batch.resource));
        let is_short =
            |remaining: i64| batch.entries.iter().all(|entry| entry.item.item.quantity > remaining);
        remaining.is_some_and(is_short)
    }

    /// Answers as a replica answers who comes after the end.
    fn refuse(&self, batches: Vec<ResourceBatch<Self>>) {
        let (keys, catalog) = (Arc::clone(&self.known_keys), Arc::clone(&self.catalog));
        let refusing = Arc::clone(&self.refusing);
        tokio::spawn(async move {
            let _one_batch_at_a_time = refusing.lock().await;
            let waiting = batches.into_iter().flat_map(|ResourceBatch { resource, entries }| {
                let stock = catalog.stock(product_of(&resource));
                let token = stock.map_or(0, |stock| stock.token);
                entries.into_iter().map(move |entry| (Arc::clone(&resource), token, entry))
            });
            let answers = waiting.map(async |(resource, token, entry)| {
                let purchase = &entry.item.item;
                let answer = keys.answer_sold_out(product_of(&resource), token, purchase).await;
                entry.reply(answer);
            });
            // Together, so that few statements look all keys up.
            join_all(answers).await;
        });
    }

    /// Whether fewer units are left than the buyers want, as far as this replica knows. The statements that sell at once
    /// would leave the product out.
    fn is_short(&self, demand: &Demand<'_>) -> bool {
        let wanted: i64 = demand.purchases.iter().map(|purchase| purchase.quantity).sum();
        self.catalog.remaining(demand.product_id).is_some_and(|remaining| remaining < wanted)
    }

    /// Whether it is worth the risk not to look the keys up. Few purchases cost little in any case, and a key
    /// among them that was used before would cost another round trip.
    fn has_probably_new_keys(&self, demands: &[Demand<'_>]) -> bool {
        let purchases: usize = demands.iter().map(|demand| demand.purchases.len()).sum();
        purchases > FEW && !self.keys.0.is_noted()
    }

    async fn step(
        &self,
        step: Step,
        lease: &Lease,
        demands: &[Demand<'_>],
        decided: &mut Decided,
    ) -> Result<(), Failure> {
        // After the end of the lease another replica may hold the lock. The fence protects its sales
        // from this step, and buyers must not wait for a database that hangs.
        let stepping = self.ledger.sell_step(step, demands, decided);
        let Some(done) = lease.while_held(stepping).await else {
            self.observer.lease_lost();
            error!("the database did not answer within the lease");
            return Err(Failure::Refused(PurchaseError::DatabaseUnavailable));
        };
        done.map_err(|error| Failure::Refused(error.into()))
    }

    /// Whether half a lease is left for the next step, after an extension if necessary.
    async fn has_time_for_a_step(&self, lease: &Lease, batches: &[ResourceBatch<Self>]) -> bool {
        let leases = batches.iter().map(|batch| self.catalog.policy(&batch.resource).lease_time);
        let Some(lease_time) = leases.min() else { return false };
        lease.remaining() >= lease_time / 2 || lease.extend(lease_time).await.is_ok()
    }

    /// Answers the buyers. Returns the purchases that must be tried again.
    fn answer(
        &self,
        batch: ResourceBatch<Self>,
        decision: Result<Decision, Failure>,
    ) -> Option<ResourceBatch<Self>> {
        match decision {
            Ok(decision) => {
                for (entry, outcome) in batch.entries.into_iter().zip(decision.outcomes) {
                    entry.reply(receipt(outcome));
                }
                None
            }
            Err(Failure::StaleToken(seen)) => {
                warn!(resource = &*batch.resource, seen, "late holder refused, trying again");
                self.redlock.observe_token(&batch.resource, seen);
                Some(batch)
            }
            Err(Failure::NoTime) => Some(batch),
            Err(Failure::Refused(error)) => {
                for entry in batch.entries {
                    entry.reply(Err(error.clone()));
                }
                None
            }
        }
    }
}

fn demand<'a>(
    lease: &Lease,
    batch: &'a ResourceBatch<PurchaseBatch>,
) -> Result<Demand<'a>, PurchaseError> {
    let tokens = lease.tokens();
    let held = tokens.binary_search_by(|(resource, _)| (**resource).cmp(&*batch.resource)).ok();
    let Some(token) = held.and_then(|position| i64::try_from(tokens[position].1).ok()) else {
        error!(resource = &*batch.resource, "fencing tokens are used up");
        return Err(PurchaseError::DatabaseUnavailable);
    };
    Ok(Demand {
        product_id: product_of(&batch.resource),
        token,
        purchases: batch.entries.iter().map(|entry| &entry.item.item).collect(),
    })
}

#[cfg(test)]
mod tests;
