//! Polls the counts of all sales.
//!
//! The counts of a ready sale are read on a slow timer. A sale is reconciled only when they differ from its status, so
//! neither a purchase nor an idle sale triggers a reconcile.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};

use super::app_client::{AppClient, SaleReport};
use super::counts;
use crate::crd::{FlashSale, FlashSaleSpec, FlashSaleStatus, condition};

/// Interval between reads of the counts.
const INTERVAL: Duration = Duration::from_secs(10);
/// Sales whose counts are read concurrently.
const CONCURRENCY: usize = 8;

/// Stream of sales whose counts have changed.
pub fn changes(
    sales: Store<DeserializeGuard<FlashSale>>,
    app: Arc<dyn AppClient>,
) -> impl Stream<Item = ObjectRef<DeserializeGuard<FlashSale>>> {
    let ticks = stream::unfold(tokio::time::interval(INTERVAL), |mut interval| async move {
        interval.tick().await;
        Some(((), interval))
    });
    ticks
        .flat_map(move |()| stream::iter(sales.state()))
        .map(move |sale| {
            let app = app.clone();
            async move { counts_changed(&sale, &*app).await.then(|| ObjectRef::from_obj(&*sale)) }
        })
        .buffer_unordered(CONCURRENCY)
        .filter_map(std::future::ready)
}

async fn counts_changed(sale: &DeserializeGuard<FlashSale>, app: &dyn AppClient) -> bool {
    let Ok(sale) = &sale.0 else { return false };
    let Some(status) = &sale.status else { return false };
    if status.app.as_ref().is_none_or(|app| app.ready == 0) {
        return false;
    }
    let now = app.sale_report(&sale.namespace().unwrap_or_default(), &sale.name_any()).await;
    now.is_some_and(|now| has_changed(now, &sale.spec, status))
}

fn has_changed(report: SaleReport, spec: &FlashSaleSpec, status: &FlashSaleStatus) -> bool {
    if report.database_unavailable {
        let mut conditions = status.conditions.iter();
        return conditions.any(|it| it.type_ == condition::DATABASE_READY && it.status == "True");
    }
    let known = status.database.as_ref().map(|database| &database.id);
    let other_database = report.database.is_some_and(|database| database.id.as_ref() != known);
    let totals = counts::total(&report.products);
    other_database
        || status.totals.is_some_and(|before| before != totals)
        || counts::listed(spec, report.products) != status.products
}
