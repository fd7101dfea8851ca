//! Polls the counts of all sales.
//!
//! The counts of a ready sale are read on a slow timer. A sale is reconciled only when they differ from its status, so
//! neither a purchase nor an idle sale triggers a reconcile.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};

use super::app_client::{AppClient, ReportScope, SaleReport};
use super::context::Context;
use super::counts;
use super::report_tokens::{ReportTokens, SaleKey};
use crate::crd::{FlashSale, FlashSaleSpec, FlashSaleStatus, condition};

/// Interval between reads of the counts.
const INTERVAL: Duration = Duration::from_secs(10);
/// Sales whose counts are read concurrently.
const CONCURRENCY: usize = 8;

/// The sales of one watch.
type Sales = Store<DeserializeGuard<FlashSale>>;

/// Stream of the sales of one watch whose counts have changed. `all` are the sales of all watches: what is remembered
/// of any other sale is forgotten.
pub fn changes(
    sales: Sales,
    all: Arc<[Sales]>,
    context: &Context,
) -> impl Stream<Item = ObjectRef<DeserializeGuard<FlashSale>>> + use<> {
    let ticks = stream::unfold(tokio::time::interval(INTERVAL), |mut interval| async move {
        interval.tick().await;
        Some(((), interval))
    });
    let (app, tokens) = (context.app.clone(), context.report_tokens.clone());
    let (known, applied) = (tokens.clone(), context.applied.clone());
    ticks
        .flat_map(move |()| {
            let existing = all.iter().flat_map(Sales::state).map(|sale| key(&sale)).collect();
            known.retain(&existing);
            applied.retain(&existing);
            stream::iter(sales.state())
        })
        .map(move |sale| {
            let (app, tokens) = (app.clone(), tokens.clone());
            async move {
                let changed = counts_changed(&sale, &*app, &tokens).await;
                changed.then(|| ObjectRef::from_obj(&*sale))
            }
        })
        .buffer_unordered(CONCURRENCY)
        .filter_map(std::future::ready)
}

fn key(sale: &DeserializeGuard<FlashSale>) -> SaleKey {
    let metadata = sale.meta();
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

async fn counts_changed(
    sale: &DeserializeGuard<FlashSale>,
    app: &dyn AppClient,
    tokens: &ReportTokens,
) -> bool {
    let Ok(sale) = &sale.0 else { return false };
    let Some(status) = &sale.status else { return false };
    if status.app.as_ref().is_none_or(|app| app.ready == 0) {
        return false;
    }
    let (namespace, name) = (sale.namespace().unwrap_or_default(), sale.name_any());
    let token = tokens.get(&namespace, &name);
    let now = app.sale_report(&namespace, &name, token.as_deref(), ReportScope::Status).await;
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
