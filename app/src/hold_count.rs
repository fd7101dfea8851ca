//! Counts the open holds, and the payments that wait for an administrator, again and again: alerts tell when holds do
//! not end in time, and when somebody must look at a payment.

use std::time::{Duration, Instant};

use ledger::{Ledger, LedgerError};
use sale::Sale;
use tokio::time::sleep;
use tracing::warn;

use crate::metrics::Metrics;
use crate::order_count::pause;

/// How often the holds are counted, unless a count takes long.
const EVERY: Duration = Duration::from_secs(5);

/// Counts until the future is dropped.
pub(crate) async fn count_holds(sale: &Sale, ledger: &Ledger, metrics: &Metrics) {
    let mut failing = false;
    loop {
        let started = Instant::now();
        let counts = async {
            Ok::<_, LedgerError>((sale.hold_counts().await?, ledger.payment_totals().await?))
        };
        match counts.await {
            Ok((holds, payments)) => {
                metrics.set_holds(holds);
                metrics.set_payments(payments);
                failing = false;
            }
            Err(error) => {
                if !failing {
                    warn!(%error, "cannot count holds and payments; flashsale_holds_open has the last count");
                }
                failing = true;
            }
        }
        sleep(pause(EVERY, started.elapsed())).await;
    }
}
