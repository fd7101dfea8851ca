//! Keeps the copies of the stock on the Redis nodes in agreement with the database: a comparison on
//! a timer, and a quicker look for products that Redis lacks. One replica at a time, by a lease; the
//! others hear that it was done.
//!
//! Sales need none of this: each release carries the new stock to every node, and a node that comes
//! back is told it by every replica (`redlock`). It is for what those cannot see: values changed by
//! hand, data removed while nobody sold, a release that was lost. For [`Strategy::Locked`]; where
//! Redis decides, [`crate::sale`] compares the other way round.
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

/// How long a value must stay wrong to count: a release may be on its way.
const SETTLE: Duration = Duration::from_millis(250);
/// How long another replica's run is waited for; it takes a few round trips.
const WAIT: Duration = Duration::from_millis(500);
/// How often a repair is tried again whose token was overtaken.
const ATTEMPTS: usize = 5;
/// Redis's scripts count in doubles: tokens above this would not be told apart.
const HIGHEST_VERSION: u64 = 1 << 52;

impl Job {
    /// The lock's resource. Its value on the nodes is when the job was last done.
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

/// The jobs of a replica.
#[derive(Debug)]
pub struct StockReconciler {
    ledger: Ledger,
    redlock: Redlock,
    policy: Policy,
    config: StoresConfig,
    observer: Arc<dyn Observer>,
}

/// A value on a node that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Suspect {
    product_id: String,
    node: String,
    found: Published,
    drift: Drift,
    /// What the database has.
    available: i64,
}

impl StockReconciler {
    /// Takes locks as `policy` says, in any order.
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

    /// Runs the jobs, at once and then each when its period is over, until it is dropped.
    pub async fn keep(&self) {
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
                () = sleep_until(due) => self.run(job).await,
                // By another replica, or by this one just now.
                Ok(()) = done.changed() => {}
            }
            due = Instant::now() + period;
        }
    }

    async fn run(&self, job: Job) {
        let mut done = self.redlock.published(job.resource());
        done.mark_unchanged();
        let policy = Policy { wait_timeout: WAIT, ..self.policy };
        let lease = match self.redlock.acquire(job.resource(), policy).await {
            Ok(lease) => lease,
            Err(error) => return debug!(job = job.label(), %error, "not run"),
        };
        if done.has_changed().unwrap_or(false) {
            // Another replica did it while this one waited.
            return lease.release().await;
        }
        lease.keep_extended();
        match lease.while_held(self.agree(job)).await {
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

    async fn agree(&self, job: Job) -> Result<(), LedgerError> {
        let suspects = self.suspects(job).await?;
        if suspects.is_empty() {
            return Ok(());
        }
        sleep(SETTLE).await;
        let stayed = |again: &Suspect| {
            let same = |first: &Suspect| {
                (&first.product_id, &first.node, &first.found)
                    == (&again.product_id, &again.node, &again.found)
            };
            suspects.iter().any(same)
        };
        let mut wrong: BTreeMap<String, u64> = BTreeMap::new();
        for suspect in self.suspects(job).await?.into_iter().filter(stayed) {
            let Suspect { product_id, node, found, drift, available } = suspect;
            let value = found.value.as_deref().unwrap_or("");
            let kind = drift.label();
            warn!(product_id, node, kind, redis = value, database = available, "stores differ");
            self.observer.drifted(drift);
            let highest = wrong.entry(product_id).or_default();
            *highest = found.token.max(*highest);
        }
        for (product_id, highest) in wrong {
            let repaired = self.repair(&product_id, highest).await;
            self.observer.repaired(repaired.is_ok());
            match repaired {
                Ok(available) => info!(product_id, available, "stock written to Redis again"),
                Err(error) => warn!(product_id, %error, "stock cannot be repaired"),
            }
        }
        Ok(())
    }

    /// Values that look wrong at this moment.
    async fn suspects(&self, job: Job) -> Result<Vec<Suspect>, LedgerError> {
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
        let mut suspects = Vec::new();
        for NodeValues { node, values } in nodes {
            for (row, found) in before.iter().zip(values) {
                // A product that was removed meanwhile is nobody's business.
                let Some(later) = after.get(&row.product_id) else { continue };
                let Some(drift) =
                    detect_drift(row, &found, later).filter(|drift| job.covers(*drift))
                else {
                    continue;
                };
                let (node, product_id) = (node.clone(), row.product_id.clone());
                let available = later.available;
                suspects.push(Suspect { product_id, node, found, drift, available });
            }
        }
        Ok(suspects)
    }

    /// Writes what the database has to every node, under the product's lock and a token that is
    /// installed first: what a later holder wrote stays.
    async fn repair(&self, product_id: &str, highest_version: u64) -> Result<i64, RepairError> {
        let resource = stock_resource(product_id);
        if highest_version > HIGHEST_VERSION {
            return Err(RepairError::Version);
        }
        // A version that nobody can have written would outlast every release.
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
    #[error("other holders came in between every time")]
    Overtaken,
}
