//! Finding sales.

use anyhow::{Result, bail};
use flashsale_operator::crd::FlashSale;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use crate::cluster::{Cluster, Explained};

/// Names that an error lists.
const MAX_NAMES: usize = 20;

/// The sale of this name; the error lists those that exist.
pub async fn find(cluster: &Cluster, name: &str) -> Result<FlashSale> {
    let sales: Api<FlashSale> = cluster.api();
    match sales.get_opt(name).await {
        Ok(Some(sale)) => Ok(sale),
        Ok(None) => bail!("{}", missing(cluster, name).await),
        Err(error) => Err(cluster.explain(error)),
    }
}

/// All sales of the namespace, or of all namespaces.
pub async fn list(cluster: &Cluster, everywhere: bool) -> Result<Vec<FlashSale>> {
    let sales: Api<FlashSale> = if everywhere { cluster.all() } else { cluster.api() };
    Ok(sales.list(&ListParams::default()).await.explained(cluster)?.items)
}

/// The message about a sale that does not exist.
pub async fn missing(cluster: &Cluster, name: &str) -> String {
    let namespace = &cluster.namespace;
    let message = format!("there is no sale {name} in the namespace {namespace}");
    // A user without the right to list sales gets the message without names.
    let here = list(cluster, false).await.unwrap_or_default();
    if !here.is_empty() {
        let names: Vec<String> = here.iter().take(MAX_NAMES).map(ResourceExt::name_any).collect();
        return format!("{message}; there are: {}", names.join(", "));
    }
    let elsewhere = list(cluster, true).await.unwrap_or_default();
    let namesake = elsewhere.iter().find(|sale| sale.name_any() == name);
    match namesake.and_then(ResourceExt::namespace) {
        Some(other) => format!("{message}, but there is one in the namespace {other}: -n {other}"),
        None if elsewhere.is_empty() => format!("{message}, nor any other"),
        None => format!("{message}, nor any other: kubectl flashsale status -A lists all"),
    }
}
