//! Counts the open holds, and the payments that wait for an administrator, again and again: alerts fire when holds do
//! not end in time, and when an administrator must resolve a payment.

use std::time::Duration;

use ledger::Ledger;
use sale::Sale;

use crate::count::count_again;
use crate::metrics::Metrics;

/// How often the holds are counted, unless a count takes long.
const EVERY: Duration = Duration::from_secs(5);

/// Counts until the future is dropped.
pub(crate) async fn count_holds(sale: &Sale, ledger: &Ledger, metrics: &Metrics) {
    count_again("holds and payments", "flashsale_holds_open", EVERY, async || {
        let (holds, payments) = (sale.hold_counts().await?, ledger.payment_totals().await?);
        metrics.set_holds(holds);
        metrics.set_payments(payments);
        Ok(())
    })
    .await;
}
