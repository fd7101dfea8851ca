//! Orders of several products: takes the locks of all of them, then settles the whole queue in one
//! transaction.
//!
//! An order waits in the queue of its first product. The holder of that lock takes the locks of the
//! other products: in one round trip, or, if they are not all free soon, one by one in the order of
//! their ids. So no holder waits for a lock that comes before one it holds, and no deadlock is
//! possible. Cancelled orders and failed payments give units back the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use ledger::orders::{Settled, Settlement, Task};
use ledger::{Ledger, LedgerError};
use redlock::{
    AcquireError, Batch, Combiner, CombinerConfig, Entry, Lease, Policy, QueueDiscipline, Redlock,
    SubmitError,
};
use tokio::time::timeout;
use tracing::{error, warn};

use crate::batch_recorder::BatchRecorder;
use crate::batch_report::{BatchKind, Origin, StepKind};
use crate::catalog::Catalog;
use crate::error::PurchaseError;
use crate::observer::Observer;
use crate::resource::{product_of, stock_resource};

/// Orders that one acquisition settles. It is low because other buyers of all these products wait
/// meanwhile.
const BATCH: usize = 256;
/// How long to wait for the other products' locks together. The first lock is held meanwhile; and if
/// other buyers sell one of the products without a pause, only its own queue leads to its lock.
const TOGETHER_WAIT: Duration = Duration::from_millis(10);
/// Held leases are extended after this part of a lease, while other locks are waited for.
const EXTEND_AFTER: u32 = 3;
/// How long the end of holds waits for its locks at least, however soon buyers give up.
const EXPIRY_WAIT: Duration = Duration::from_secs(2);

/// A task and the products that must be locked for it.
#[derive(Debug)]
pub(crate) struct OrderTask {
    task: Task,
    /// Sorted; not empty.
    products: Vec<String>,
    deadline: Instant,
    origin: Option<Origin>,
}

type QueuedTask = Entry<OrderTask, Result<Settled, PurchaseError>>;

/// The queues of orders, one for each discipline.
#[derive(Debug)]
pub(crate) struct OrderQueues {
    fair: Combiner<OrderBatch>,
    unordered: Combiner<OrderBatch>,
}

impl OrderQueues {
    pub(crate) fn new(
        ledger: &Ledger,
        redlock: &Redlock,
        catalog: &Arc<Catalog>,
        observer: &Arc<dyn Observer>,
    ) -> Self {
        let combiner = |discipline| {
            let batch = OrderBatch {
                discipline,
                ledger: ledger.clone(),
                redlock: redlock.clone(),
                catalog: Arc::clone(catalog),
                observer: Arc::clone(observer),
            };
            let config = CombinerConfig { batch: BATCH, ..CombinerConfig::default() };
            Combiner::new(redlock.clone(), batch, config)
        };
        Self {
            fair: combiner(QueueDiscipline::Fair),
            unordered: combiner(QueueDiscipline::Unordered),
        }
    }

    /// Settles a task under the locks of these products, which must exist.
    pub(crate) async fn settle(
        &self,
        discipline: QueueDiscipline,
        task: Task,
        products: BTreeSet<String>,
    ) -> Result<Settled, PurchaseError> {
        let Some(first) = products.first().map(|first| stock_resource(first)) else {
            return Ok(Settled::UnknownOrder);
        };
        let combiner = match discipline {
            QueueDiscipline::Fair => &self.fair,
            QueueDiscipline::Unordered => &self.unordered,
        };
        let products: Vec<String> = products.into_iter().collect();
        let wait = combiner.batch().policy_for(&task, &products).wait_timeout;
        let (deadline, origin) = (Instant::now() + wait, combiner.batch().observer.origin());
        let task = OrderTask { task, products, deadline, origin };
        combiner.submit(&first, task).await?
    }
}

/// Settles a batch of tasks under the locks of their products.
#[derive(Debug)]
struct OrderBatch {
    discipline: QueueDiscipline,
    ledger: Ledger,
    redlock: Redlock,
    catalog: Arc<Catalog>,
    observer: Arc<dyn Observer>,
}

impl Batch for OrderBatch {
    type Item = OrderTask;
    type Output = Result<Settled, PurchaseError>;

    fn policy(&self, _resource: &str, item: &OrderTask) -> Policy {
        self.policy_for(&item.task, &item.products)
    }

    async fn execute(
        &self,
        _: &str,
        lease: Lease,
        mut entries: Vec<QueuedTask>,
    ) -> Vec<QueuedTask> {
        self.observer.batch(entries.len());
        let mut recorder = BatchRecorder::new(origins(&entries));
        recorder.acquired(&lease);
        let mut leases = vec![lease];
        let started = recorder.started();
        let locked = self.lock_others(&mut leases, &mut entries).await;
        recorder.ended(StepKind::Lock, started);
        if locked.is_err() || entries.is_empty() {
            release(leases, &BTreeMap::new());
            return entries;
        }
        let started = recorder.started();
        let settled = self.settle_all(&leases, &entries).await;
        recorder.ended(StepKind::Database, started);
        let failure = settled.as_ref().err().map(Failure::code);
        recorder.report(&*self.observer, BatchKind::Orders, origins(&entries), failure);
        match settled {
            Ok(Settlement { outcomes, available, handed_out }) => {
                if handed_out > 0 {
                    self.observer.handed_out(handed_out);
                }
                // Released before the replies, so that a buyer who reads the stock at once sees the
                // new value.
                release(leases, &available);
                for (entry, outcome) in entries.into_iter().zip(outcomes) {
                    entry.reply(Ok(outcome));
                }
                Vec::new()
            }
            Err(Failure::StaleTokens(seen)) => {
                warn!(?seen, "late holder refused, trying again");
                for (product, fence) in seen {
                    let fence = u64::try_from(fence).unwrap_or(0);
                    self.redlock.observe_token(&stock_resource(&product), fence);
                }
                release(leases, &BTreeMap::new());
                entries
            }
            Err(Failure::Refused(error)) => {
                release(leases, &BTreeMap::new());
                for entry in entries {
                    entry.reply(Err(error.clone()));
                }
                Vec::new()
            }
        }
    }
}

/// A held lease was lost while waiting for other locks.
struct LeaseLost;

enum Failure {
    StaleTokens(Vec<(String, i64)>),
    Refused(PurchaseError),
}

impl Failure {
    fn code(&self) -> &'static str {
        match self {
            Self::StaleTokens(_) => "stale_token",
            Self::Refused(error) => error.code(),
        }
    }
}

/// The marks of all callers.
fn origins(entries: &[QueuedTask]) -> impl Iterator<Item = &Option<Origin>> {
    entries.iter().map(|entry| &entry.item.origin)
}

impl OrderBatch {
    fn policy_for(&self, task: &Task, products: &[String]) -> Policy {
        let policy = self.policy_of(products);
        match task {
            Task::Expire { .. } | Task::HandOut => {
                Policy { wait_timeout: policy.wait_timeout.max(EXPIRY_WAIT), ..policy }
            }
            _ => policy,
        }
    }

    /// The longest wait and the shortest lease of these products.
    fn policy_of(&self, products: &[String]) -> Policy {
        let policies = products.iter().map(|product| self.catalog.policy(&stock_resource(product)));
        let policy = policies.reduce(|one, other| Policy {
            wait_timeout: one.wait_timeout.max(other.wait_timeout),
            lease_time: one.lease_time.min(other.lease_time),
            discipline: one.discipline,
        });
        Policy { discipline: self.discipline, ..policy.unwrap_or_default() }
    }

    /// Locks the other products of the entries. Entries whose wait is over are refused.
    async fn lock_others(
        &self,
        leases: &mut Vec<Lease>,
        entries: &mut Vec<QueuedTask>,
    ) -> Result<(), LeaseLost> {
        let first = entries.first().and_then(|entry| entry.item.products.first().cloned());
        let all = entries.iter().flat_map(|entry| entry.item.products.iter().cloned());
        let all: Vec<String> = all.collect::<BTreeSet<_>>().into_iter().collect();
        let lease_time = self.policy_of(&all).lease_time;
        let others: Vec<&String> =
            all.iter().filter(|product| Some(*product) != first.as_ref()).collect();
        if let Some(lease) = self.lock_together(&others, lease_time, entries).await {
            leases.push(lease);
            return Ok(());
        }
        for product in others {
            let resource = stock_resource(product);
            if leases.iter().any(|lease| lease.remaining() < lease_time / 2) {
                extend(leases, lease_time).await?;
            }
            while let Some(wait_timeout) = wait_timeout(entries, lease_time) {
                let policy =
                    Policy { wait_timeout, lease_time, discipline: self.catalog.discipline() };
                match self.redlock.acquire(&resource, policy).await {
                    Ok(lease) => {
                        leases.push(lease);
                        break;
                    }
                    Err(error) => {
                        refuse_expired(entries, &error);
                        extend(leases, lease_time).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes all locks in one round trip, if they are free soon. Not in a sale of fair order, because
    /// that would overtake the products' own queues.
    async fn lock_together(
        &self,
        products: &[&String],
        lease_time: Duration,
        entries: &[QueuedTask],
    ) -> Option<Lease> {
        let discipline = QueueDiscipline::Unordered;
        if products.len() < 2 || self.catalog.discipline() != discipline {
            return None;
        }
        let wait_timeout = wait_timeout(entries, lease_time)?.min(TOGETHER_WAIT);
        let resources: Vec<String> =
            products.iter().map(|product| stock_resource(product)).collect();
        let resources: Vec<&str> = resources.iter().map(String::as_str).collect();
        let policy = Policy { wait_timeout, lease_time, discipline };
        self.redlock.try_acquire_all(&resources, policy).await.ok()
    }

    async fn settle_all(
        &self,
        leases: &[Lease],
        entries: &[QueuedTask],
    ) -> Result<Settlement, Failure> {
        let tasks: Vec<&Task> = entries.iter().map(|entry| &entry.item.task).collect();
        let held = leases.iter().flat_map(Lease::tokens);
        let tokens = held
            .map(|(resource, token)| Ok((product_of(resource).to_owned(), i64::try_from(*token)?)));
        let Ok(tokens) = tokens.collect::<Result<BTreeMap<_, _>, std::num::TryFromIntError>>()
        else {
            error!("fencing tokens are used up");
            return Err(Failure::Refused(PurchaseError::DatabaseUnavailable));
        };
        match while_all_held(leases, self.ledger.settle(&tokens, &tasks)).await {
            Some(Ok(settlement)) => Ok(settlement),
            Some(Err(LedgerError::StaleTokens(seen))) => Err(Failure::StaleTokens(seen)),
            Some(Err(error)) => Err(Failure::Refused(error.into())),
            None => {
                self.observer.lease_lost();
                error!(products = ?tokens.keys(), "the database did not answer within the leases");
                Err(Failure::Refused(PurchaseError::DatabaseUnavailable))
            }
        }
    }
}

/// The wait of the entry that expires first, but not longer than until the held leases must be
/// extended; `None`: no entry is left.
fn wait_timeout(entries: &[QueuedTask], lease_time: Duration) -> Option<Duration> {
    let deadline = entries.iter().map(|entry| entry.item.deadline).min()?;
    Some(deadline.saturating_duration_since(Instant::now()).min(lease_time / EXTEND_AFTER))
}

fn refuse_expired(entries: &mut Vec<QueuedTask>, error: &AcquireError) {
    let now = Instant::now();
    for entry in entries.extract_if(.., |entry| entry.item.deadline <= now) {
        entry.reply(Err(SubmitError::Lock(error.clone()).into()));
    }
}

async fn extend(leases: &[Lease], lease_time: Duration) -> Result<(), LeaseLost> {
    let extensions = leases.iter().map(|lease| lease.extend(lease_time));
    try_join_all(extensions).await.map(drop).map_err(|_over| LeaseLost)
}

/// Runs a section until the first of the leases is over; see [`Lease::while_held`].
async fn while_all_held<F: Future>(leases: &[Lease], section: F) -> Option<F::Output> {
    let mut section = pin!(section);
    loop {
        let remaining = leases.iter().map(Lease::remaining).min().unwrap_or(Duration::ZERO);
        match timeout(remaining, &mut section).await {
            Ok(output) => return Some(output),
            Err(_elapsed) if leases.iter().all(|lease| !lease.remaining().is_zero()) => {}
            Err(_elapsed) => return None,
        }
    }
}

/// Releases every product with its remaining units.
fn release(leases: Vec<Lease>, available: &BTreeMap<String, i64>) {
    for lease in leases {
        let values = lease.tokens().iter().filter_map(|(resource, _)| {
            let units = available.get(product_of(resource))?;
            Some((resource.clone(), units.to_string()))
        });
        let values: Vec<(String, String)> = values.collect();
        let values: Vec<(&str, String)> =
            values.iter().map(|(resource, units)| (&**resource, units.clone())).collect();
        lease.release_in_background(&values);
    }
}
