//! The `neighbours` step: sales beside cert-manager, metrics-server and the Prometheus operator, on the node of `tests/cluster`.

use anyhow::{Result, ensure};

use crate::binaries::Build;
use crate::cluster::{Cluster, Kind};
use crate::shell::{command, repository, run};
use crate::{cleanup, images, install};

/// Installs the operator on the node, and runs `tests/neighbours/run`.
pub fn judge() -> Result<()> {
    judge_on(&Cluster::choose()?)
}

/// The same, and removes what the step added.
fn judge_on(cluster: &Cluster) -> Result<()> {
    let mut made = install::Made::default();
    let judged = install_and_run(cluster, &mut made);
    cleanup::after(judged, install::end(cluster, &mut made))
}

fn install_and_run(cluster: &Cluster, made: &mut install::Made) -> Result<()> {
    ensure!(
        cluster.kind == Kind::OwnNode,
        "the neighbours' images are built for the node of tests/cluster: unset KUBECONFIG, \
         where no container engine runs"
    );
    install::ensure_replaceable(cluster)?;
    let images = images::build_and_load(cluster, Build::Test)?;
    install::operator(cluster, &images, made)?;
    run(&mut command(repository().join("tests/neighbours/run")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Engine;
    use crate::fakes::Fakes;

    #[test]
    fn a_cluster_that_was_started_in_vain_is_removed() {
        let fakes = Fakes::start(&[("kind", "exit 1")]);
        let cluster = Cluster {
            kind: Kind::InEngine(Engine::Docker, "flashsale".to_owned()),
            kubeconfig: "/not/there".into(),
            was_running: false,
        };
        let error = judge_on(&cluster).unwrap_err().to_string();
        assert!(error.starts_with("the neighbours' images"), "{error}");
        assert!(error.contains("cannot clean up: kind delete cluster"), "{error}");
        assert!(fakes.was_called("kind delete cluster --name flashsale"), "{:?}", fakes.calls());
    }
}
