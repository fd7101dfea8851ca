//! Counts the units of all orders again and again, and reads what was put on sale with them: an alert compares the two.

use std::time::Duration;

use ledger::Ledger;

use crate::count::count_again;
use crate::metrics::Metrics;

/// Counts at this interval, and more rarely if a count takes long.
pub(crate) async fn count_orders(ledger: &Ledger, every: Duration, metrics: &Metrics) {
    count_again("the orders", "flashsale_order_units", every, async || {
        metrics.set_ordered(ledger.count_units().await?);
        Ok(())
    })
    .await;
}
