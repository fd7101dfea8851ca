//! What a fleet costs the API server while nothing happens.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::audit::AuditLog;
use crate::cluster::Cluster;
use crate::figures::Figures;
use crate::names::Name;
use crate::options::Options;

/// Sales whose reconcile is counted.
const RECONCILED: usize = 20;
/// They take some seconds.
const AT_MOST: Duration = Duration::from_mins(10);
/// A sale at rest is reconciled at least this long after the last time.
const REST_MINUTES: f64 = 30.0;

/// Counts the requests of the idle fleet, and those of a reconcile that finds nothing to do.
pub async fn measure(
    options: &Options,
    cluster: &Cluster,
    log: &mut AuditLog,
    names: &[Name],
    figures: &mut Figures,
) -> Result<()> {
    log.count()?;
    tokio::time::sleep(Duration::from_secs(options.idle)).await;
    let idle = log.count()?;
    let minutes = f64::from(u32::try_from(options.idle)?) / 60.0;
    let observed = f64::from(idle.all) / minutes / f64::from(options.sales);

    let chosen = &names[..names.len().min(RECONCILED)];
    let reconcile = counted(cluster, log, chosen).await?;
    finish(figures, observed, idle.writes, reconcile);
    Ok(())
}

/// Requests of a reconcile that finds one part touched, which is one apply more than of a reconcile by the clock.
async fn counted(cluster: &Cluster, log: &mut AuditLog, chosen: &[Name]) -> Result<f64> {
    log.count()?;
    touch(cluster, chosen).await?;
    let mut all = 0;
    let mut quiet = 0;
    let deadline = Instant::now() + AT_MOST;
    while quiet < 10 {
        ensure!(Instant::now() < deadline, "{all} requests, and the operator does not rest");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let requests = log.count()?;
        let sent = requests.all - requests.watches;
        all += sent;
        quiet = if sent == 0 { quiet + 1 } else { 0 };
    }
    let sales = u32::try_from(chosen.len())?;
    // With fewer, not every sale was reconciled, and all would look cheaper than they are.
    ensure!(all >= sales, "{all} requests of {sales} sales that were touched");
    Ok(f64::from(all) / f64::from(sales))
}

fn finish(figures: &mut Figures, observed: f64, writes: u32, reconcile: f64) {
    figures.figure("idle_requests_observed", observed, "/min a sale");
    figures.figure("reconcile_requests", reconcile, "a sale");
    let total = observed + reconcile / REST_MINUTES;
    figures.judged("idle_requests", total, "/min a sale", 1.0);
    figures.judged("idle_writes", f64::from(writes), "", 0.0);
}

/// Changes an annotation of each sale's catalog, which the operator does not declare.
async fn touch(cluster: &Cluster, names: &[Name]) -> Result<()> {
    let client = cluster.admin()?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos();
    let patch =
        Patch::Merge(json!({ "metadata": { "annotations": { "fleet": now.to_string() } } }));
    let touched = names.iter().map(|Name { namespace, name }| {
        let (client, patch) = (client.clone(), &patch);
        async move {
            let api: Api<ConfigMap> = Api::namespaced(client, namespace);
            api.patch(&format!("{name}-catalog"), &PatchParams::default(), patch).await
        }
    });
    try_join_all(touched).await?;
    Ok(())
}
