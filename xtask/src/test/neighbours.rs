//! The `neighbours` step: sales beside cert-manager and the Prometheus operator, on the node of `tests/cluster`.

use anyhow::{Result, bail};

use crate::binaries::Build;
use crate::cluster::{Cluster, Kind};
use crate::shell::{command, repository, run};
use crate::{images, install};

/// Installs the operator on the node, and runs `tests/neighbours/run`.
pub fn judge() -> Result<()> {
    let cluster = Cluster::choose()?;
    if cluster.kind != Kind::OwnNode {
        bail!(
            "the neighbours' images are built for the node of tests/cluster: unset KUBECONFIG, \
             where no container engine runs"
        );
    }
    let installed = images::build_and_load(&cluster, Build::Test)
        .and_then(|images| install::operator(&cluster, &images))
        .and_then(|()| run(&mut command(repository().join("tests/neighbours/run"))));
    installed.and(cluster.stop())
}
