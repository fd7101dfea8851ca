//! The operator on a cluster: installed with helm, as its users do it. A run replaces only a release
//! that `cargo xtask` installed, and removes only what the run itself made.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cleanup;
use crate::cluster::Cluster;
use crate::images::Images;
use crate::interrupt;
use crate::shell::{output, run, say};
use crate::tools;

/// The helm release.
pub const RELEASE: &str = "flashsale-operator";
/// The operator's namespace.
pub const NAMESPACE: &str = "flashsale-system";
/// The chart, from the checkout's root.
pub const CHART: &str = "charts/flashsale-operator";
/// An annotation of the operator's pods, in the values of each release that `cargo xtask` installs.
const MARK: (&str, &str) = ("installed-by", "cargo-xtask");
/// For `helm list`: the last revision of a release is in one of these states.
const STATES: [&str; 5] =
    ["--deployed", "--failed", "--pending", "--uninstalling", "--uninstalled"];

/// What of an operator a run made on a cluster.
#[derive(Debug, Default)]
pub struct Made {
    release: bool,
    namespace: bool,
}

impl Made {
    /// Whether there was no release before the run.
    pub fn release(&self) -> bool {
        self.release
    }
}

/// Refuses a cluster on which somebody else installed the operator.
pub fn ensure_replaceable(cluster: &Cluster) -> Result<()> {
    is_installed(cluster).map(drop)
}

/// Whether there is a release. One that somebody else installed is an error: an upgrade would replace its values.
fn is_installed(cluster: &Cluster) -> Result<bool> {
    tools::ensure_helm()?;
    let filter = format!("^{RELEASE}$");
    let list = ["list", "--short", "--namespace", NAMESPACE, "--filter", &filter];
    if output(cluster.helm().args(list).args(STATES))?.trim().is_empty() {
        return Ok(false);
    }
    let get = ["get", "values", RELEASE, "--namespace", NAMESPACE, "--output", "json"];
    let values: Value = serde_json::from_str(&output(cluster.helm().args(get))?)
        .context("helm printed values that are no JSON")?;
    let (name, value) = MARK;
    ensure!(
        values["podAnnotations"][name] == value,
        "the helm release {RELEASE} in the namespace {NAMESPACE} was not installed by cargo xtask, \
         which would replace its values; use another cluster, or remove the release first: \
         helm uninstall {RELEASE} --namespace {NAMESPACE}"
    );
    Ok(true)
}

/// Installs the operator, or upgrades the one that an earlier run left, and waits until it runs.
pub fn operator(cluster: &Cluster, images: &Images, made: &mut Made) -> Result<()> {
    let (image, build) = (images.name("operator"), images.operator_build()?);
    release(cluster, images, Path::new(CHART), &image, &build, made)
}

/// The same with any chart and operator. `build` tells one build of the operator from another.
pub fn release(
    cluster: &Cluster,
    images: &Images,
    chart: &Path,
    operator: &str,
    build: &str,
    made: &mut Made,
) -> Result<()> {
    let there = is_installed(cluster)?;
    let has_namespace = cluster.has_namespace(NAMESPACE)?;
    let what = if there { "upgrading to" } else { "installing" };
    say(&format!("helm: {what} {} in namespace {NAMESPACE}", chart.display()));
    let mut values = ["app", "redis", "postgres"]
        .map(|part| format!("images.{part}={}", images.name(part)))
        .to_vec();
    values.push(format!("images.operator={operator}"));
    // On a cluster of ours the tag is always the same: this makes a pod of an earlier build give way to one of this build.
    values.push(format!("podAnnotations.build={build}"));
    let (name, value) = MARK;
    values.push(format!("podAnnotations.{name}={value}"));
    // An installation that fails leaves parts.
    made.release |= !there;
    made.namespace |= !has_namespace;
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

/// Removes what the run made. The CRD stays, as the chart has it.
pub fn remove(cluster: &Cluster, made: &mut Made) -> Result<()> {
    let mut uninstalled = Ok(());
    if made.release {
        say("removing the operator");
        let uninstall = ["uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found"];
        uninstalled = run(cluster.helm().args(uninstall).arg("--wait").stdout(std::io::stderr()));
        made.release = uninstalled.is_err();
    }
    let mut deleted = Ok(());
    if made.namespace {
        deleted = cluster.delete_namespace(NAMESPACE);
        made.namespace = deleted.is_err();
    }
    cleanup::all([uninstalled, deleted])
}

/// Ends a run: a cluster that it started is removed, and from another one what it made.
pub fn end(cluster: &Cluster, made: &mut Made) -> Result<()> {
    interrupt::clean_up(|| {
        let removed = if cluster.was_running { remove(cluster, made) } else { Ok(()) };
        cleanup::all([removed, cluster.stop()])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::{Fakes, HELM_OF_A_USER, given_cluster};

    fn install(made: &mut Made) -> Result<()> {
        let images = Images::local();
        release(&given_cluster(), &images, Path::new(CHART), "operator:dev", "1", made)
    }

    #[test]
    fn a_release_of_somebody_else_is_neither_replaced_nor_removed() {
        let fakes = Fakes::start(&[("helm", HELM_OF_A_USER), ("kubectl", "")]);
        let mut made = Made::default();
        let error = install(&mut made).unwrap_err().to_string();
        assert!(error.contains("helm uninstall flashsale-operator"), "{error}");
        assert!(ensure_replaceable(&given_cluster()).is_err());
        end(&given_cluster(), &mut made).unwrap();
        assert!(!fakes.changed_something(), "{:?}", fakes.calls());
    }

    #[test]
    fn a_release_of_an_earlier_run_is_upgraded_and_stays() {
        let helm = "case $1 in list) echo flashsale-operator;; \
                    get) echo '{\"podAnnotations\": {\"installed-by\": \"cargo-xtask\"}}';; esac";
        let kubectl = "echo namespace/flashsale-system";
        let fakes = Fakes::start(&[("helm", helm), ("kubectl", kubectl)]);
        let mut made = Made::default();
        install(&mut made).unwrap();
        assert!(fakes.was_called("helm upgrade"));
        end(&given_cluster(), &mut made).unwrap();
        assert!(!fakes.was_called("helm uninstall") && !fakes.was_called("kubectl delete"));
    }

    #[test]
    fn a_release_has_the_mark_of_cargo_xtask() {
        let fakes = Fakes::start(&[("helm", ""), ("kubectl", "")]);
        install(&mut Made::default()).unwrap();
        let calls = fakes.calls();
        let upgrade = calls.iter().find(|call| call.starts_with("helm upgrade")).unwrap();
        assert!(upgrade.contains("podAnnotations.installed-by=cargo-xtask"), "{upgrade}");
    }

    #[test]
    fn an_interrupted_run_removes_what_it_made() {
        let fakes = Fakes::start(&[("helm", ""), ("kubectl", "")]);
        let mut made = Made::default();
        install(&mut made).unwrap();
        interrupt::pretend(true);
        assert!(install(&mut Made::default()).is_err());
        let ended = end(&given_cluster(), &mut made);
        interrupt::pretend(false);
        ended.unwrap();
        assert!(fakes.was_called("helm uninstall"), "{:?}", fakes.calls());
        assert!(fakes.was_called("kubectl delete namespace flashsale-system"));
    }

    #[test]
    fn a_namespace_that_was_there_stays() {
        let kubectl = "echo namespace/flashsale-system";
        let fakes = Fakes::start(&[("helm", ""), ("kubectl", kubectl)]);
        let mut made = Made::default();
        install(&mut made).unwrap();
        end(&given_cluster(), &mut made).unwrap();
        assert!(fakes.was_called("helm uninstall") && !fakes.was_called("kubectl delete"));
    }

    #[test]
    fn the_namespace_is_removed_although_the_release_is_not() {
        let helm = "case $1 in upgrade|uninstall) exit 1;; esac";
        let fakes = Fakes::start(&[("helm", helm), ("kubectl", "")]);
        let mut made = Made::default();
        assert!(install(&mut made).is_err());
        let error = end(&given_cluster(), &mut made).unwrap_err().to_string();
        assert!(error.contains("helm uninstall"), "{error}");
        assert!(fakes.was_called("kubectl delete namespace flashsale-system"));
        assert!(
            made.release && !made.namespace,
            "the release is tried again, the namespace is gone"
        );
    }

    #[test]
    fn an_error_of_helm_or_kubectl_does_not_mean_that_nothing_is_there() {
        for programs in
            [[("helm", "exit 1"), ("kubectl", "")], [("helm", ""), ("kubectl", "exit 1")]]
        {
            let fakes = Fakes::start(&programs);
            let mut made = Made::default();
            assert!(install(&mut made).is_err());
            assert!(!made.release && !made.namespace);
            assert!(!fakes.was_called("helm upgrade"), "{:?}", fakes.calls());
        }
    }
}
