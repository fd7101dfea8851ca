//! The operator on a cluster: installed with helm, as its users do it.

use std::path::Path;
use std::process::Stdio;

use anyhow::Result;

use crate::cluster::Cluster;
use crate::images::Images;
use crate::shell::{run, say, succeeds};
use crate::tools;

/// The helm release.
pub const RELEASE: &str = "flashsale-operator";
/// The operator's namespace.
pub const NAMESPACE: &str = "flashsale-system";
/// The chart, from the checkout's root.
pub const CHART: &str = "charts/flashsale-operator";

/// Installs the operator, or upgrades the one that is there, and waits until it runs.
pub fn operator(cluster: &Cluster, images: &Images) -> Result<()> {
    release(cluster, images, Path::new(CHART), &images.name("operator"), &images.operator_build()?)
}

/// The same with any chart and operator. `build` tells one build of the operator from another.
pub fn release(
    cluster: &Cluster,
    images: &Images,
    chart: &Path,
    operator: &str,
    build: &str,
) -> Result<()> {
    tools::ensure_helm()?;
    say(&format!("helm: installing {} in namespace {NAMESPACE}", chart.display()));
    let mut values = ["app", "redis", "postgres"]
        .map(|part| format!("images.{part}={}", images.name(part)))
        .to_vec();
    values.push(format!("images.operator={operator}"));
    // The tag is always the same: this makes a pod of an earlier build give way to one of this build.
    values.push(format!("podAnnotations.build={build}"));
    run(cluster
        .helm()
        .args(["upgrade", "--install", RELEASE])
        .arg(chart)
        .args(["--namespace", NAMESPACE])
        .args(["--create-namespace", "--wait", "--timeout", "3m"])
        .args(values.iter().flat_map(|value| ["--set-string", value]))
        .stdout(Stdio::null()))
}

/// Runs the test of the release, as its users do.
pub fn test(cluster: &Cluster) -> Result<()> {
    run(cluster
        .helm()
        .args(["test", RELEASE, "--namespace", NAMESPACE, "--timeout", "2m"])
        .stdout(Stdio::null()))
}

/// Whether an operator is installed already.
pub fn is_installed(cluster: &Cluster) -> bool {
    succeeds(cluster.helm().args(["status", RELEASE, "--namespace", NAMESPACE]))
}

/// Removes the operator. The CRD stays, as the chart has it.
pub fn remove(cluster: &Cluster) -> Result<()> {
    run(cluster
        .helm()
        .args(["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait"])
        .stdout(std::io::stderr()))?;
    run(cluster.kubectl().args(["delete", "namespace", NAMESPACE]).stdout(std::io::stderr()))
}
