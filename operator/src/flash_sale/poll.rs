//! Polls the counts of all sales.
//!
//! A sale that sells is asked on a slow timer, and reconciled only when its counts differ from its
//! status: neither each purchase nor an idle sale causes a pass.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};

use super::app_client::{AppClient, SaleReport, sorted_by_id};
use crate::crd::{FlashSale, FlashSaleStatus, condition};

/// How often counts are read.
const INTERVAL: Duration = Duration::from_secs(10);
/// Sales that are asked at the same time.
const CONCURRENCY: usize = 8;

/// Sales whose counts have changed, as they are noticed.
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
    let now = app.read(&sale.namespace().unwrap_or_default(), &sale.name_any()).await;
    now.is_some_and(|now| has_changed(now, status))
}

fn has_changed(report: SaleReport, status: &FlashSaleStatus) -> bool {
    if report.database_unavailable {
        let mut conditions = status.conditions.iter();
        return conditions.any(|it| it.type_ == condition::DATABASE_READY && it.status == "True");
    }
    let known = status.database.as_ref().map(|database| &database.id);
    let other_database = report.database.is_some_and(|database| database.id.as_ref() != known);
    other_database || sorted_by_id(report.products) != status.products
}
