//! Counts the units of all orders again and again, independently of the stock rows: an alert compares the two.

use std::time::{Duration, Instant};

use ledger::Ledger;
use sale::Sale;
use tokio::time::sleep;
use tracing::warn;

use crate::metrics::Metrics;

/// A count reads all orders, so it may take at most one part in this many of the time.
const SHARE: u32 = 50;

/// Counts at this interval, and more rarely if a count takes long.
pub(crate) async fn count_orders(ledger: &Ledger, sale: &Sale, every: Duration, metrics: &Metrics) {
    let mut failing = false;
    loop {
        let started = Instant::now();
        match ledger.ordered_units().await {
            Ok(units) => {
                metrics.set_ordered(&sale.catalog().list(), &units);
                failing = false;
            }
            Err(error) => {
                if !failing {
                    warn!(%error, "cannot count the orders; flashsale_order_units has the last count");
                }
                failing = true;
            }
        }
        sleep(pause(every, started.elapsed())).await;
    }
}

/// The time from the end of a count to the next one.
pub(crate) fn pause(every: Duration, took: Duration) -> Duration {
    every.saturating_sub(took).max(took * (SHARE - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_count_is_made_more_rarely() {
        let minute = Duration::from_mins(1);
        let cases =
            [(0, 60_000), (100, 59_900), (1_000, 59_000), (2_000, 98_000), (60_000, 2_940_000)];
        for (took, waits) in cases.map(|(took, waits)| (Duration::from_millis(took), waits)) {
            assert_eq!(pause(minute, took), Duration::from_millis(waits), "{took:?}");
        }
    }
}
