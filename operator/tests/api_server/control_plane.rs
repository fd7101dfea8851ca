//! Programs of a control plane beside an API server.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use testkit::cluster_programs;

/// A program of Kubernetes that works on an API server; it ends when dropped.
pub struct Controller(Child);

impl Controller {
    /// The controller that keeps the books of disruption budgets.
    pub fn of_disruptions(kubeconfig: &Path) -> Self {
        Self::start("kube-controller-manager", &["--controllers=disruption"], kubeconfig)
    }

    /// The controllers that make pods, and the one that keeps the books of quotas.
    pub fn of_workloads(kubeconfig: &Path) -> Self {
        let controllers = "--controllers=deployment,job,replicaset,resourcequota,statefulset";
        Self::start("kube-controller-manager", &[controllers], kubeconfig)
    }

    /// The scheduler.
    pub fn scheduler(kubeconfig: &Path) -> Self {
        Self::start("kube-scheduler", &[], kubeconfig)
    }

    fn start(program: &str, options: &[&str], kubeconfig: &Path) -> Self {
        let port = testkit::free_port().unwrap();
        let started = Command::new(cluster_programs().join(program))
            .args(options)
            .args(["--leader-elect=false", "--authentication-skip-lookup"])
            .arg(format!("--secure-port={port}"))
            .arg(format!("--cert-dir={}", kubeconfig.with_extension("certs").display()))
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .stderr(Stdio::null())
            .spawn();
        Self(started.unwrap())
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}
