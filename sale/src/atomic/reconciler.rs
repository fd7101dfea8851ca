//! Says from what this replica may sell, and brings Redis and the database together: once a second,
//! and when something was found not to fit.
//!
//! The database's row is read before Redis is: what is recorded was sold before. So a Redis stock
//! fits its row if it was made from it, and has sold at least what is recorded. One that does not
//! has lost data, or never was; nothing is sold from it until it is made anew ([`super::load`]).

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
use super::script::{Followed, Found};
use crate::observer::{Drift, Job};

/// How often the stores are compared.
const EVERY: Duration = Duration::from_secs(1);
/// How soon it is tried again when something is away or does not fit.
const RETRY: Duration = Duration::from_millis(100);

/// Stocks that are made anew at once.
const LOADS: usize = 8;

/// The stocks that are being made anew, by product, or wait for that in the order in which they were
/// found: one that fails again and again holds up no other.
#[derive(Debug)]
struct Loads {
    tasks: JoinSet<(String, Result<(), ReconcileError>)>,
    products: HashSet<String>,
    at_once: Arc<Semaphore>,
}

impl Default for Loads {
    fn default() -> Self {
        let at_once = Arc::new(Semaphore::new(LOADS));
        Self { tasks: JoinSet::new(), products: HashSet::new(), at_once }
    }
}

impl AtomicEngine {
    pub(crate) async fn keep(self: &Arc<Self>) {
        let (mut loads, mut reported) = (Loads::default(), false);
        loop {
            let pause = match self.look(&mut loads).await {
                Ok(()) => {
                    reported &= !loads.products.is_empty();
                    EVERY
                }
                Err(error) => {
                    report(&error, &mut reported);
                    RETRY
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.look.notified() => {}
                Some(loaded) = loads.tasks.join_next() => {
                    let failed = loads.ended(loaded);
                    if let Some(error) = failed {
                        report(&error, &mut reported);
                        sleep(RETRY).await;
                    }
                }
            }
        }
    }

    async fn look(self: &Arc<Self>, loads: &mut Loads) -> Result<(), ReconcileError> {
        let (mut connection, generation) = self.connected().await?;
        let looked = timeout(CALL_LIMIT, self.compare(&mut connection)).await;
        let unfit = match looked.unwrap_or(Err(ReconcileError::TimedOut)) {
            Ok((fit, unfit)) => {
                self.ready.send_if_modified(|ready| {
                    // A call may have found the connection lost meanwhile.
                    let is_it = ready.generation == generation && ready.connection.is_some();
                    let changed = is_it && ready.incarnations != fit;
                    if changed {
                        ready.incarnations = fit;
                    }
                    changed
                });
                unfit
            }
            Err(error) => {
                if let ReconcileError::Redis(error) = &error {
                    self.lost(generation, error);
                }
                return Err(error);
            }
        };
        // Each is compared like any other, when it is made, before it is sold from.
        for product_id in unfit {
            if loads.products.insert(product_id.clone()) {
                let (engine, mut connection) = (Arc::clone(self), connection.clone());
                let at_once = Arc::clone(&loads.at_once);
                loads.tasks.spawn(async move {
                    let _permit = at_once.acquire().await;
                    let loaded = engine.load(&mut connection, &product_id).await;
                    (product_id, loaded)
                });
            }
        }
        self.observer.ran(Job::Compare);
        Ok(())
    }

    /// The incarnations that fit, and the products whose stock does not.
    async fn compare(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<(HashMap<String, i64>, Vec<String>), ReconcileError> {
        let rows = self.ledger.stock_rows().await?;
        let (mut fit, mut unfit, mut unrecorded) = (HashMap::new(), Vec::new(), 0);
        for row in rows {
            if !self.fits(connection, &row).await? {
                // A lock of its own, whose counter begins below the tokens that the row has seen.
                let resource = keys::load_resource(&row.product_id);
                self.redlock.observe_token(&resource, u64::try_from(row.fence).unwrap_or(0));
                unfit.push(row.product_id);
                continue;
            }
            let (incarnation, given) = (row.incarnation, row.available + row.recorded);
            let id = &row.product_id;
            let followed =
                self.scripts.follow(connection, id, incarnation, given, row.fence).await?;
            let Some(followed) = followed else { continue };
            self.report_drift(&row, followed);
            self.catalog.on_notice(id, followed.available);
            unrecorded += followed.waiting;
            fit.insert(row.product_id, incarnation);
        }
        self.observer.unrecorded(unrecorded);
        Ok((fit, unfit))
    }

    /// Whether the stock in Redis was made from this row and has forgotten nothing since.
    pub(crate) async fn fits(
        &self,
        connection: &mut MultiplexedConnection,
        row: &StockRow,
    ) -> Result<bool, ReconcileError> {
        let product_id = &row.product_id;
        let found = self.scripts.look(connection, product_id).await?;
        let Found { incarnation, available, sold, limited, has_keys, removed } = found;
        if !removed.is_empty() {
            error!(product_id, keys = ?removed, "removed keys that held something else than they should");
        }
        let counts = matches!(limited, 1 | 2) || self.catalog.max_per_buyer(product_id).is_none();
        let is_its = incarnation > 0 && incarnation == row.incarnation;
        Ok(has_keys && counts && is_its && available >= 0 && sold >= row.recorded)
    }

    fn report_drift(&self, row: &StockRow, followed: Followed) {
        let Followed { before, available, drift, short, waiting: _ } = followed;
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
            info!(product_id, before, available, "stock follows what the database gives");
        }
        if short > 0 {
            error!(product_id, short, "more was sold than there is: orders will be refused");
        }
    }
}

impl Loads {
    /// Takes note of one that ended; why the stock could not be made.
    fn ended(
        &mut self,
        loaded: Result<(String, Result<(), ReconcileError>), JoinError>,
    ) -> Option<ReconcileError> {
        match loaded {
            Ok((product_id, result)) => {
                self.products.remove(&product_id);
                result.err()
            }
            Err(panic) => {
                error!(%panic, "a stock could not be made anew");
                *self = Self::default();
                None
            }
        }
    }
}

/// Once, until it is well again.
fn report(error: &ReconcileError, reported: &mut bool) {
    if !*reported {
        warn!(%error, "cannot bring Redis and the database together");
    }
    *reported = true;
}
