//! The operator's own figures.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use crate::shop::Shop;

pub(crate) const NAMESPACE: &str = "flashsale-system";
pub(crate) const LABELS: &str = "app.kubernetes.io/name=flashsale-operator";
const METRICS_PORT: u16 = 8081;

impl Shop {
    /// A gauge without labels, as each replica of the app reports it now.
    ///
    /// # Errors
    /// When a replica can't be asked or has no such metric.
    pub async fn app_metric(&self, name: &str) -> Result<Vec<f64>> {
        let mut values = Vec::new();
        for pod in self.pods("app").await? {
            let namespace = &self.namespace;
            let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:9090/proxy/metrics");
            let request = http::Request::get(path).body(Vec::new())?;
            let text = self.client.request_text(request).await?;
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            values.push(line.with_context(|| format!("{pod} has no {name}"))?.parse()?);
        }
        Ok(values)
    }
}

/// Passes over sales since the operator started, of all replicas together.
///
/// # Errors
/// When the operator can't be asked.
pub async fn reconciliations() -> Result<u64> {
    let client = Client::try_default().await?;
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let mut passes = 0;
    for pod in pods.list(&ListParams::default().labels(LABELS)).await? {
        let pod = pod.name_any();
        let path =
            format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}:{METRICS_PORT}/proxy/metrics");
        let request = http::Request::get(path).body(Vec::new())?;
        let text = client.request_text(request).await?;
        for line in
            text.lines().filter(|line| line.starts_with("flashsale_operator_reconciliations_total"))
        {
            let value = line.rsplit(' ').next().context("a metric without a value")?;
            passes += value.parse::<u64>()?;
        }
    }
    Ok(passes)
}
