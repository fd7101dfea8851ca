//! Some days after the end of a sale its buyers get pseudonyms.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sale::{Coupons, Sale};
use tokio::time::sleep;
use tracing::{info, warn};

/// The longest sleep: the clock of the machine may be set.
const LOOK_EVERY: Duration = Duration::from_mins(1);
/// The pause after a failure, while another replica is at it, or until the database's clock says so too.
const RETRY: Duration = Duration::from_secs(5);
/// From one run to the next one. Only a change by hand, or the export of a buyer, leaves it something to do.
const RUN_EVERY: Duration = Duration::from_hours(1);

/// Puts pseudonyms in the place of all buyers this many days after the end, one replica at a time. `None`:
/// never.
pub(crate) async fn keep(sale: &Sale, days: Option<u32>, coupons: &Coupons) {
    let Some(from) = begins(sale.window().ends_at, days) else { return };
    let (mut failing, mut first) = (false, true);
    loop {
        let left = from.duration_since(Timestamp::now());
        if left > SignedDuration::ZERO {
            sleep(left.unsigned_abs().min(LOOK_EVERY)).await;
            continue;
        }
        match sale.forget_buyers(first, from).await {
            Ok(forgotten) => {
                failing = false;
                coupons.forget_holders();
                first &= forgotten.is_none();
                if let Some(buyers) = forgotten.filter(|buyers| *buyers > 0) {
                    info!(buyers, "the retention is over: buyers have pseudonyms now");
                }
                // Another replica that does it may die.
                sleep(if forgotten.is_some() { RUN_EVERY } else { RETRY }).await;
            }
            Err(error) => {
                if !failing {
                    warn!(%error, "cannot replace the buyers' names; it is tried again");
                }
                failing = true;
                sleep(RETRY).await;
            }
        }
    }
}

/// When the buyers of a sale get pseudonyms.
fn begins(ends_at: Option<Timestamp>, days: Option<u32>) -> Option<Timestamp> {
    let days = SignedDuration::from_hours(i64::from(days?) * 24);
    Some(ends_at?.checked_add(days).unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_days_count_from_the_end() {
        let end: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
        let begin: Timestamp = "2026-12-28T12:00:00Z".parse().unwrap();
        assert_eq!(begins(Some(end), Some(30)), Some(begin));
        assert_eq!(begins(Some(end), None), None);
        assert_eq!(begins(None, Some(30)), None);
        assert_eq!(begins(Some(Timestamp::MAX), Some(3650)), Some(Timestamp::MAX));
    }
}
