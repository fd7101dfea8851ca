//! Decides which stocks this replica may sell from, and brings Redis and the database into agreement:
//! once a second, and when a worker found a wrong stock.
//!
//! The database's row is read before Redis, so its recorded units were sold before. A Redis stock
//! therefore matches its row if it was made from the row and has sold at least the recorded units. Any
//! other stock lost data or was never made; it is rebuilt before it is sold from ([`super::rebuild`]).
//!
//! The database may be the one that lost data: a backup was restored, or a failover lost commits. A
//! stock that includes more than its row is compared with the row again, which is then read after
//! Redis; if it still includes more, it is rebuilt too.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use ledger::StockRow;
use redis::aio::MultiplexedConnection;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use super::engine::AtomicEngine;
use super::error::{CALL_LIMIT, ReconcileError};
use super::keys;
use super::script::FollowReport;
use super::stock_state::{StockMatch, StockState};
use crate::observer::{Drift, Job};

/// How often the stores are compared.
const COMPARE_EVERY: Duration = Duration::from_secs(1);
/// The pause after a failure.
const RETRY: Duration = Duration::from_millis(100);

/// Rebuilds that may run at the same time.
const MAX_REBUILDS: usize = 8;

/// Rebuilds that run or wait, by product, in the order in which they were requested. A rebuild that
/// fails again and again does not delay the others.
#[derive(Debug)]
struct Rebuilds {
    tasks: JoinSet<(String, Result<(), ReconcileError>)>,
    products: HashSet<String>,
    at_once: Arc<Semaphore>,
}

impl Default for Rebuilds {
    fn default() -> Self {
        let at_once = Arc::new(Semaphore::new(MAX_REBUILDS));
        Self { tasks: JoinSet::new(), products: HashSet::new(), at_once }
    }
}

impl AtomicEngine {
    pub(crate) async fn run_reconciler(self: &Arc<Self>) {
        let (mut rebuilds, mut reported) = (Rebuilds::default(), false);
        loop {
            let pause = match self.check(&mut rebuilds).await {
                Ok(()) => {
                    reported &= !rebuilds.products.is_empty();
                    COMPARE_EVERY
                }
                Err(error) => {
                    report(&error, &mut reported);
                    RETRY
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.wakeup.notified() => {}
                Some(ended) = rebuilds.tasks.join_next() => {
                    let failed = rebuilds.note_end(ended);
                    if let Some(error) = failed {
                        report(&error, &mut reported);
                        sleep(RETRY).await;
                    }
                }
            }
        }
    }

    async fn check(self: &Arc<Self>, rebuilds: &mut Rebuilds) -> Result<(), ReconcileError> {
        let (mut connection, generation) = self.connected().await?;
        let compared = timeout(CALL_LIMIT, self.compare(&mut connection)).await;
        let to_rebuild = match compared.unwrap_or(Err(ReconcileError::TimedOut)) {
            Ok((sellable, to_rebuild)) => {
                self.ready.send_if_modified(|ready| {
                    // A call may have lost the connection meanwhile.
                    let is_current = ready.generation == generation && ready.connection.is_some();
                    let changed = is_current && ready.incarnations != sellable;
                    if changed {
                        ready.incarnations = sellable;
                    }
                    changed
                });
                to_rebuild
            }
            Err(error) => {
                if let ReconcileError::Redis(error) = &error {
                    self.drop_connection(generation, error);
                }
                return Err(error);
            }
        };
        // A rebuilt stock is compared like any other before it is sold from.
        for product_id in to_rebuild {
            if rebuilds.products.insert(product_id.clone()) {
                let (engine, mut connection) = (Arc::clone(self), connection.clone());
                let at_once = Arc::clone(&rebuilds.at_once);
                rebuilds.tasks.spawn(async move {
                    let _permit = at_once.acquire().await;
                    let ended = engine.rebuild(&mut connection, &product_id).await;
                    (product_id, ended)
                });
            }
        }
        self.observer.ran(Job::Compare);
        Ok(())
    }

    /// The incarnations of the stocks that match their rows, and the products whose stock does not.
    async fn compare(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<(HashMap<String, i64>, Vec<String>), ReconcileError> {
        let rows = self.ledger.stock_rows().await?;
        let (mut sellable, mut to_rebuild, mut unrecorded) = (HashMap::new(), Vec::new(), 0);
        for row in rows {
            if self.compare_stock(connection, &row).await? != StockMatch::Same {
                // The counter of this lock may start below the tokens in the row.
                let resource = keys::rebuild_resource(&row.product_id);
                self.redlock.observe_token(&resource, u64::try_from(row.fence).unwrap_or(0));
                to_rebuild.push(row.product_id);
                continue;
            }
            let (incarnation, given) = (row.incarnation, row.available + row.recorded);
            let id = &row.product_id;
            let report = self.scripts.follow(connection, id, incarnation, given, row.fence).await?;
            let Some(report) = report else { continue };
            self.report_drift(&row, report);
            self.catalog.on_notice(id, report.available);
            unrecorded += report.unrecorded;
            sellable.insert(row.product_id, incarnation);
        }
        self.observer.unrecorded(unrecorded);
        Ok((sellable, to_rebuild))
    }

    /// Compares the stock in Redis with this row, which was read before.
    pub(crate) async fn compare_stock(
        &self,
        connection: &mut MultiplexedConnection,
        row: &StockRow,
    ) -> Result<StockMatch, ReconcileError> {
        let product_id = &row.product_id;
        let found = self.scripts.inspect(connection, product_id).await?;
        if !found.removed.is_empty() {
            error!(product_id, keys = ?found.removed, "removed keys with a wrong type or value");
        }
        if found.is_ahead_of(row) {
            let newer = self.ledger.stock_row(product_id).await?;
            if newer.is_some_and(|newer| found.is_ahead_of(&newer)) {
                return Ok(StockMatch::DatabaseOlder);
            }
        }
        let StockState { incarnation, available, sold, limited, has_keys, .. } = found;
        let counts_buyers =
            matches!(limited, 1 | 2) || self.catalog.max_per_buyer(product_id).is_none();
        let is_from_row = incarnation > 0 && incarnation == row.incarnation;
        let is_usable = has_keys && counts_buyers && available >= 0;
        let is_same = is_usable && is_from_row && sold >= row.recorded;
        Ok(if is_same { StockMatch::Same } else { StockMatch::Different })
    }

    fn report_drift(&self, row: &StockRow, report: FollowReport) {
        let FollowReport { before, available, drift, short, unrecorded: _ } = report;
        let product_id = &row.product_id;
        if drift != 0 {
            warn!(
                product_id,
                redis = before,
                repaired = available,
                drift,
                "stock was changed by hand"
            );
            self.observer.drifted(Drift::Different);
            self.observer.repaired(true);
        } else if before != available {
            info!(product_id, before, available, "stock in Redis adjusted to the database");
        }
        if short > 0 {
            error!(product_id, short, "more units were sold than exist: orders will be refused");
        }
    }
}

impl Rebuilds {
    /// Removes a rebuild that ended, and returns its error.
    fn note_end(
        &mut self,
        ended: Result<(String, Result<(), ReconcileError>), JoinError>,
    ) -> Option<ReconcileError> {
        match ended {
            Ok((product_id, result)) => {
                self.products.remove(&product_id);
                result.err()
            }
            Err(panic) => {
                error!(%panic, "rebuilding a stock panicked");
                *self = Self::default();
                None
            }
        }
    }
}

/// Logs the first failure only, until a run succeeds.
fn report(error: &ReconcileError, reported: &mut bool) {
    if !*reported {
        warn!(%error, "cannot bring Redis and the database into agreement");
    }
    *reported = true;
}
