//! What a replica does beside its requests.

use std::sync::Arc;
use std::time::Duration;

use ledger::{Ledger, LedgerError};
use redlock::Redlock;
use sale::{Coupons, Sale};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::api::state::Readiness;
use crate::erasures::Erasures;
use crate::event_count::count_events;
use crate::hold_count::count_holds;
use crate::metrics::Metrics;
use crate::order_count::count_orders;
use crate::order_events::Delivery;
use crate::retention;
use crate::upkeep::restart_on_panic;

/// How often what is away at start is tried again.
const START_RETRY: Duration = Duration::from_millis(250);
/// How often the ledger is read for news that no notice brought.
const REFRESH: Duration = Duration::from_secs(1);

/// What a replica does beside its requests.
pub(super) struct Background {
    pub(super) ledger: Ledger,
    pub(super) redlock: Redlock,
    pub(super) sale: Arc<Sale>,
    pub(super) coupons: Arc<Coupons>,
    pub(super) erasures: Arc<Erasures>,
    pub(super) delivery: Delivery,
    pub(super) readiness: Arc<Readiness>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) retention_days: Option<u32>,
    /// Interval at which orders are counted.
    pub(super) count_every: Duration,
}

impl Background {
    /// Makes the replica ready, and runs its background tasks until `closing`.
    pub(super) async fn run(self, closing: CancellationToken) {
        let Self { ledger, redlock, sale, erasures, delivery, readiness, metrics, .. } = &self;
        let working = async {
            become_ready(ledger, redlock, sale, erasures, delivery, readiness, metrics).await;
            tokio::join!(
                restart_on_panic("reading the catalog", || {
                    keep_fresh(sale, readiness, metrics)
                }),
                restart_on_panic("keeping the stores in agreement", || sale.keep()),
                restart_on_panic("counting the orders", || {
                    count_orders(ledger, self.count_every, metrics)
                }),
                restart_on_panic("counting the holds", || { count_holds(sale, ledger, metrics) }),
                restart_on_panic("erasing buyers", || erasures.keep()),
                restart_on_panic("counting the events", || count_events(ledger, metrics)),
                restart_on_panic("keeping the sinks of events", || delivery.keep_all_sinks()),
                restart_on_panic("delivering events", || delivery.deliver()),
                restart_on_panic("the retention", || retention::keep(
                    sale,
                    self.retention_days,
                    &self.coupons
                )),
            );
        };
        // None: shut down.
        let _ = closing.run_until_cancelled(Box::pin(working)).await;
        delivery.leave().await;
    }
}

/// Migrates, claims the database, reads the catalog and waits for a quorum, saying in the readiness what is missing.
async fn become_ready(
    ledger: &Ledger,
    redlock: &Redlock,
    sale: &Sale,
    erasures: &Erasures,
    delivery: &Delivery,
    readiness: &Readiness,
    metrics: &Metrics,
) {
    let mut tick = interval(START_RETRY);
    let (mut migrated, mut reported) = (false, None);
    loop {
        tick.tick().await;
        let mut reasons = Vec::new();
        if !migrated {
            match ledger.prepare(sale.catalog().sale_name()).await {
                Ok(()) => migrated = true,
                Err(error) => reasons.push(format!("database: {error}")),
            }
        }
        // Before the catalog: without a product nothing is sold, and an order of before would have no events.
        if migrated && let Err(error) = delivery.keep_sinks().await {
            reasons.push(format!("database: {error}"));
        }
        if reasons.is_empty()
            && let Err(error) = sale.catalog().refresh().await
        {
            reasons.push(format!("database: {error}"));
        }
        // A replica that did not know them would sell to erased buyers.
        if reasons.is_empty()
            && let Err(error) = erasures.read().await
        {
            reasons.push(format!("database: {error}"));
        }
        metrics.set_database(reasons.is_empty());
        if !redlock.has_quorum() {
            let (connected, nodes) = redlock.connected();
            reasons.push(format!("redis: {connected} of {nodes} nodes connected, no quorum"));
        }
        if reasons.is_empty() {
            info!("ready");
            readiness.set_ready();
            return;
        }
        // Not at the first look: connecting takes a moment at each start.
        if readiness.unready().as_ref() == Some(&reasons) && reported.as_ref() != Some(&reasons) {
            warn!(?reasons, "not ready");
            reported = Some(reasons.clone());
        }
        readiness.set_unready(reasons);
    }
}

/// Reads the catalog again and again. A database that may not be used any more makes the replica
/// unready; one that is away does not.
async fn keep_fresh(sale: &Sale, readiness: &Readiness, metrics: &Metrics) {
    let mut tick = interval(REFRESH);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tick.tick().await;
        let refreshed = sale.catalog().refresh().await;
        metrics.set_database(refreshed.is_ok());
        match refreshed {
            Ok(()) => {
                failing = false;
                readiness.set_ready();
            }
            Err(error) => {
                if !failing {
                    warn!(%error, "cannot read the catalog");
                }
                failing = true;
                if matches!(error, LedgerError::Unusable(_)) {
                    readiness.set_unready(vec![format!("database: {error}")]);
                }
            }
        }
    }
}
