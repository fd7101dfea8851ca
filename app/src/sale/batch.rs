//! What one holder of a product's lock does: sell to everybody who waits, in one transaction.

use std::sync::Arc;

use redlock::{Batch, Entry, Lease, Policy, Redlock};
use tokio::time::timeout;
use tracing::{error, warn};

use super::catalog::Catalog;
use super::{PurchaseError, Receipt, receipt};
use crate::ledger::{Decision, Ledger, LedgerError, Purchase};
use crate::metrics::Metrics;

type Waiting = Entry<Purchase, Result<Receipt, PurchaseError>>;

#[derive(Debug)]
pub(super) struct Selling {
    pub(super) ledger: Ledger,
    pub(super) redlock: Redlock,
    pub(super) catalog: Arc<Catalog>,
    pub(super) metrics: Arc<Metrics>,
}

impl Batch for Selling {
    type Item = Purchase;
    type Output = Result<Receipt, PurchaseError>;

    fn policy(&self, resource: &str) -> Policy {
        self.catalog.policy(resource)
    }

    async fn execute(&self, resource: &str, lease: Lease, entries: Vec<Waiting>) -> Vec<Waiting> {
        self.metrics.batch(entries.len());
        let product_id = resource.strip_prefix("stock:").unwrap_or(resource);
        match self.decide(product_id, &lease, &entries).await {
            Ok(decision) => {
                // On its way before anybody is answered, so a buyer who looks finds it.
                lease.release_in_background(&[(resource, decision.available.to_string())]);
                for (entry, outcome) in entries.into_iter().zip(decision.outcomes) {
                    entry.reply(receipt(outcome));
                }
                Vec::new()
            }
            Err(Failure::StaleToken(seen)) => {
                warn!(product_id, token = lease.token(), seen, "late holder refused, trying again");
                self.redlock.saw_token(resource, seen);
                lease.release_in_background(&[]);
                entries
            }
            Err(Failure::Refused(error)) => {
                lease.release_in_background(&[]);
                for entry in entries {
                    entry.reply(Err(error.clone()));
                }
                Vec::new()
            }
        }
    }
}

enum Failure {
    StaleToken(u64),
    Refused(PurchaseError),
}

impl Selling {
    async fn decide(
        &self,
        product_id: &str,
        lease: &Lease,
        entries: &[Waiting],
    ) -> Result<Decision, Failure> {
        let purchases: Vec<&Purchase> = entries.iter().map(|entry| &entry.item).collect();
        let Ok(token) = i64::try_from(lease.token()) else {
            error!(product_id, token = lease.token(), "fencing tokens are used up");
            return Err(Failure::Refused(PurchaseError::DatabaseUnavailable));
        };
        // Past the lease others may hold the lock: the fence keeps them safe from us, and a
        // database that hangs must not hang the buyers.
        match timeout(lease.remaining(), self.ledger.sell(product_id, token, &purchases)).await {
            Ok(Ok(decision)) => Ok(decision),
            Ok(Err(LedgerError::StaleToken { seen, .. })) => {
                Err(Failure::StaleToken(u64::try_from(seen).unwrap_or(0)))
            }
            Ok(Err(error)) => Err(Failure::Refused(error.into())),
            Err(_elapsed) => {
                error!(product_id, "the database did not answer within the lease");
                Err(Failure::Refused(PurchaseError::DatabaseUnavailable))
            }
        }
    }
}
