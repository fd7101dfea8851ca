//! Counts the open holds again and again: an alert tells when they do not end in time.

use std::time::{Duration, Instant};

use sale::Sale;
use tokio::time::sleep;
use tracing::warn;

use crate::metrics::Metrics;
use crate::order_count::pause;

/// How often the holds are counted, unless a count takes long.
const EVERY: Duration = Duration::from_secs(5);

/// Counts until the future is dropped.
pub(crate) async fn count_holds(sale: &Sale, metrics: &Metrics) {
    let mut failing = false;
    loop {
        let started = Instant::now();
        match sale.hold_counts().await {
            Ok(counts) => {
                metrics.set_holds(counts);
                failing = false;
            }
            Err(error) => {
                if !failing {
                    warn!(%error, "cannot count the holds; flashsale_holds_open has the last count");
                }
                failing = true;
            }
        }
        sleep(pause(EVERY, started.elapsed())).await;
    }
}
