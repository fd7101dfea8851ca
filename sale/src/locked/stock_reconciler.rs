//! Keeps the copies of the stock on the Redis nodes in agreement with the database: a comparison on a
//! timer, and a quicker search for products that Redis lacks. A lease lets one replica run at a time;
//! its release notifies the others.
//!
//! Sales do not depend on it: each release writes the new stock to every node, and every replica
//! writes it again to a node that comes back (`redlock`). It finds other differences: values changed
//! by hand, data removed without a sale, a lost release. For [`Strategy::Locked`]; with `Atomic`,
//! the engine compares in the other direction.
//!
//! [`Strategy::Locked`]: crate::config::Strategy::Locked

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ledger::{Ledger, LedgerError, StockRow};
use redlock::{AcquireError, NodeValues, Policy, Published, QueueDiscipline, Redlock};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use super::drift::detect_drift;
use crate::config::StoresConfig;
use crate::observer::{Drift, Job, Observer};
use crate::resource::stock_resource;

/// How long a difference must last to count: a release may be on its way.
const SETTLE_TIME: Duration = Duration::from_millis(250);
/// How long to wait for another replica's run, which takes a few round trips.
const LOCK_WAIT: Duration = Duration::from_millis(500);
/// Attempts of a repair whose token was overtaken.
const ATTEMPTS: usize = 5;
/// Redis's scripts count in doubles, which cannot tell tokens above this apart.
const MAX_VERSION: u64 = 1 << 52;

impl Job {
    /// The lock's resource. Its value on the nodes is the time of the last run.
    fn resource(self) -> &'static str {
        match self {
            Self::Compare => "stores:compare",
            Self::Load => "stores:load",
        }
    }

    fn covers(self, drift: Drift) -> bool {
        self == Self::Compare || drift == Drift::Missing
    }
}

/// Runs the jobs of a replica.
#[derive(Debug)]
pub struct StockReconciler {
    ledger: Ledger,
    redlock: Redlock,
    policy: Policy,
    config: StoresConfig,
    observer: Arc<dyn Observer>,
}

/// A value on a node that differs from the database.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mismatch {
    product_id: String,
    node: String,
    found: Published,
    drift: Drift,
    /// The units in the database.
    available: i64,
}

impl StockReconciler {
    /// The reconciler takes locks with this policy, unordered.
    #[must_use]
    pub fn new(
        ledger: Ledger,
        redlock: Redlock,
        policy: Policy,
        config: StoresConfig,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let policy = Policy { discipline: QueueDiscipline::Unordered, ..policy };
        Self { ledger, redlock, policy, config, observer }
    }

    /// Runs each job at once and then whenever its period is over, until the future is dropped.
    pub async fn run(&self) {
        tokio::join!(
            self.repeat(Job::Compare, self.config.compare_every),
            self.repeat(Job::Load, self.config.load_every),
        );
    }

    async fn repeat(&self, job: Job, period: Duration) {
        let mut done = self.redlock.published(job.resource());
        let mut due = Instant::now();
        loop {
            tokio::select! {
                () = sleep_until(due) => self.run_job(job).await,
                // Another replica ran the job, or this one just did.
                Ok(()) = done.changed() => {}
            }
            due = Instant::now() + period;
        }
    }

    async fn run_job(&self, job: Job) {
        let mut done = self.redlock.published(job.resource());
        done.mark_unchanged();
        let policy = Policy { wait_timeout: LOCK_WAIT, ..self.policy };
        let lease = match self.redlock.acquire(job.resource(), policy).await {
            Ok(lease) => lease,
            Err(error) => return debug!(job = job.label(), %error, "not run"),
        };
        if done.has_changed().unwrap_or(false) {
            // Another replica ran the job while this one waited for the lock.
            return lease.release().await;
        }
        lease.keep_extended();
        match lease.while_held(self.compare_and_repair(job)).await {
            Some(Ok(())) => {
                self.observer.ran(job);
                let now = Timestamp::now().to_string();
                lease.release_with(&[(job.resource(), now)]).await;
            }
            Some(Err(error)) => {
                warn!(job = job.label(), %error, "cannot compare the stores");
                lease.release().await;
            }
            None => warn!(job = job.label(), "the lease ended before the job"),
        }
    }

    async fn compare_and_repair(&self, job: Job) -> Result<(), LedgerError> {
        let mismatches = self.mismatches(job).await?;
        if mismatches.is_empty() {
            return Ok(());
        }
        sleep(SETTLE_TIME).await;
        let persists = |again: &Mismatch| {
            let same = |first: &Mismatch| {
                (&first.product_id, &first.node, &first.found)
                    == (&again.product_id, &again.node, &again.found)
            };
            mismatches.iter().any(same)
        };
        let mut to_repair: BTreeMap<String, u64> = BTreeMap::new();
        for mismatch in self.mismatches(job).await?.into_iter().filter(persists) {
            let Mismatch { product_id, node, found, drift, available } = mismatch;
            let value = found.value.as_deref().unwrap_or("");
            let kind = drift.label();
            warn!(product_id, node, kind, redis = value, database = available, "stores differ");
            self.observer.drifted(drift);
            let highest = to_repair.entry(product_id).or_default();
            *highest = found.token.max(*highest);
        }
        for (product_id, highest) in to_repair {
            let repaired = self.repair(&product_id, highest).await;
            self.observer.repaired(repaired.is_ok());
            match repaired {
                Ok(available) => info!(product_id, available, "stock written to Redis again"),
                Err(error) => warn!(product_id, %error, "stock cannot be repaired"),
            }
        }
        Ok(())
    }

    /// The values that differ at this moment.
    async fn mismatches(&self, job: Job) -> Result<Vec<Mismatch>, LedgerError> {
        let before = self.ledger.stock_rows().await?;
        let resources: Vec<String> =
            before.iter().map(|row| stock_resource(&row.product_id)).collect();
        let nodes = self.redlock.values(&resources).await;
        let after: BTreeMap<String, StockRow> = self
            .ledger
            .stock_rows()
            .await?
            .into_iter()
            .map(|row| (row.product_id.clone(), row))
            .collect();
        let mut mismatches = Vec::new();
        for NodeValues { node, values } in nodes {
            for (row, found) in before.iter().zip(values) {
                // The product was removed meanwhile.
                let Some(later) = after.get(&row.product_id) else { continue };
                let Some(drift) =
                    detect_drift(row, &found, later).filter(|drift| job.covers(*drift))
                else {
                    continue;
                };
                let (node, product_id) = (node.clone(), row.product_id.clone());
                let available = later.available;
                mismatches.push(Mismatch { product_id, node, found, drift, available });
            }
        }
        Ok(mismatches)
    }

    /// Writes the database's stock to every node, under the product's lock and a token that is
    /// installed in the row first, so a later holder's value stays.
    async fn repair(&self, product_id: &str, highest_version: u64) -> Result<i64, RepairError> {
        let resource = stock_resource(product_id);
        if highest_version > MAX_VERSION {
            return Err(RepairError::Version);
        }
        // The new token must be higher than a version that no sale wrote, otherwise that version would
        // stay after every release.
        self.redlock.observe_token(&resource, highest_version);
        for _ in 0..ATTEMPTS {
            let lease = self.redlock.acquire(&resource, self.policy).await?;
            let token = i64::try_from(lease.token()).unwrap_or(i64::MAX);
            match lease.while_held(self.ledger.install(product_id, token)).await {
                Some(Ok(available)) => {
                    lease.release_everywhere(&[(&resource, available.to_string())]).await;
                    return Ok(available);
                }
                Some(Err(LedgerError::StaleToken { seen, .. })) => {
                    self.redlock.observe_token(&resource, u64::try_from(seen).unwrap_or(0));
                    lease.release().await;
                }
                Some(Err(error)) => {
                    lease.release().await;
                    return Err(error.into());
                }
                None => return Err(RepairError::TooSlow),
            }
        }
        Err(RepairError::Overtaken)
    }
}

/// Why a product's stock was not written again.
#[derive(Debug, thiserror::Error)]
enum RepairError {
    #[error(transparent)]
    Lock(#[from] AcquireError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("its version is no fencing token: delete version:stock:<product> on that node")]
    Version,
    #[error("the database did not answer within the lease")]
    TooSlow,
    #[error("another holder took the lock in between every time")]
    Overtaken,
}
