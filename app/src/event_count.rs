//! Counts the events of each sink again and again: an alert fires when they are not delivered in time.

use std::time::Duration;

use ledger::Ledger;

use crate::count::count_again;
use crate::metrics::Metrics;

/// How often the events are counted, unless a count takes long.
const EVERY: Duration = Duration::from_secs(5);

/// Counts until the future is dropped.
pub(crate) async fn count_events(ledger: &Ledger, metrics: &Metrics) {
    count_again("the events", "flashsale_events_pending", EVERY, async || {
        metrics.events().set(&ledger.sink_counts().await?);
        Ok(())
    })
    .await;
}
