//! The operator's own figures.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

const NAMESPACE: &str = "flashsale-system";
const LABELS: &str = "app.kubernetes.io/name=flashsale-operator";
const METRICS_PORT: u16 = 8081;

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
