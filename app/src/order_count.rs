//! Counts the units of all orders again and again, independently of the stock rows: an alert compares the two.

use std::time::Duration;

use ledger::Ledger;
use sale::Sale;

use crate::count::count_again;
use crate::metrics::Metrics;

/// Counts at this interval, and more rarely if a count takes long.
pub(crate) async fn count_orders(ledger: &Ledger, sale: &Sale, every: Duration, metrics: &Metrics) {
    count_again("the orders", "flashsale_order_units", every, async || {
        let units = ledger.ordered_units().await?;
        metrics.set_ordered(&sale.catalog().list(), &units);
        Ok(())
    })
    .await;
}
