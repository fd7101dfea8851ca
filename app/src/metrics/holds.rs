//! What is measured of orders that hold units until they are paid.

use ledger::orders::HoldCounts;
use prometheus::{Gauge, IntCounter, IntGauge, Registry};

/// A metric's help text is its documentation.
#[derive(Debug)]
pub(super) struct HoldMetrics {
    open: IntGauge,
    overdue: Gauge,
    expired: IntCounter,
    handed_out: IntCounter,
}

impl HoldMetrics {
    pub(super) fn registered(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            open: IntGauge::new(
                "flashsale_holds_open",
                "Orders that hold units until they are paid; read from the database every 5 s.",
            )?,
            overdue: Gauge::new(
                "flashsale_hold_overdue_seconds",
                "How long ago the first open hold should have ended; 0 if none should have.",
            )?,
            expired: IntCounter::new(
                "flashsale_holds_expired_total",
                "Orders whose hold this replica ended because they were not paid in time.",
            )?,
            handed_out: IntCounter::new(
                "flashsale_waitlist_served_total",
                "Buyers on waiting lists whom this replica gave units that came back.",
            )?,
        };
        // Without `..`: a metric that is not registered does not compile.
        let Self { open, overdue, expired, handed_out } = &metrics;
        registry.register(Box::new(open.clone()))?;
        registry.register(Box::new(overdue.clone()))?;
        registry.register(Box::new(expired.clone()))?;
        registry.register(Box::new(handed_out.clone()))?;
        Ok(metrics)
    }

    /// Takes over what the database has.
    pub(super) fn set(&self, counts: HoldCounts) {
        self.open.set(counts.open);
        #[expect(
            clippy::cast_precision_loss,
            reason = "a number of milliseconds is far below 2^52"
        )]
        self.overdue.set(counts.overdue_ms as f64 / 1000.0);
    }

    /// Counts buyers who waited and were served.
    pub(super) fn handed_out(&self, orders: usize) {
        self.handed_out.inc_by(u64::try_from(orders).unwrap_or(u64::MAX));
    }

    /// Counts holds that ended.
    pub(super) fn expired(&self, orders: u64) {
        self.expired.inc_by(orders);
    }
}
