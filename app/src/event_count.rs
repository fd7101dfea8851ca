//! Counts the events of each sink again and again: an alert tells when they are not delivered in time.

use std::time::{Duration, Instant};

use ledger::Ledger;
use tokio::time::sleep;
use tracing::warn;

use crate::metrics::Metrics;
use crate::order_count::pause;

/// How often the events are counted, unless a count takes long.
const EVERY: Duration = Duration::from_secs(5);

/// Counts until the future is dropped.
pub(crate) async fn count_events(ledger: &Ledger, metrics: &Metrics) {
    let mut failing = false;
    loop {
        let started = Instant::now();
        match ledger.sink_counts().await {
            Ok(counts) => {
                metrics.events().set(&counts);
                failing = false;
            }
            Err(error) => {
                if !failing {
                    warn!(%error, "cannot count the events; flashsale_events_pending has the last count");
                }
                failing = true;
            }
        }
        sleep(pause(EVERY, started.elapsed())).await;
    }
}
