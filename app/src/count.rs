//! What is counted in the database again and again, for metrics and alerts.

use std::time::{Duration, Instant};

use ledger::LedgerError;
use tokio::time::sleep;
use tracing::warn;

/// A count may read many rows, so it may take at most one part in this many of the time.
const SHARE: u32 = 50;

/// Counts at this interval, and more rarely if a count takes long, until the future is dropped. The first of several
/// failures is logged, with the metric that keeps its value.
pub(crate) async fn count_again<F: Future<Output = Result<(), LedgerError>>>(
    what: &str,
    metric: &str,
    every: Duration,
    count: impl Fn() -> F,
) {
    let mut failing = false;
    loop {
        let started = Instant::now();
        let counted = count().await;
        if let (Err(error), false) = (&counted, failing) {
            warn!(%error, "cannot count {what}; {metric} has the last count");
        }
        failing = counted.is_err();
        sleep(pause(every, started.elapsed())).await;
    }
}

/// The time from the end of a count to the next one.
fn pause(every: Duration, took: Duration) -> Duration {
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
