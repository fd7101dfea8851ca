//! The `e2e` step: sales on a real cluster. The cluster can be prepared while other steps run.

use anyhow::{Context, Result};

use super::count::Count;
use super::nextest::Tests;
use super::steps::template;
use crate::binaries::Build;
use crate::cluster::Cluster;
use crate::images::{self, Images};
use crate::install;
use crate::shell::output;

/// A cluster, and the images on it if the operator is installed.
pub struct Prepared {
    cluster: Cluster,
    images: Option<Images>,
    was_installed: bool,
    count: Count,
}

/// Builds the images, starts a cluster and installs the operator.
pub fn prepare() -> Result<Prepared> {
    Build::Test.run_beside_other_work()?;
    let cluster = Cluster::choose().context("no cluster")?;
    let was_installed = install::is_installed(&cluster);
    let mut count = Count::default();
    let installed = images::build_and_load(&cluster, Build::Test).and_then(|images| {
        // A real API server knows the objects' schemas best; strict refuses unknown fields.
        count.check(accepted(&cluster));
        install::operator(&cluster, &images)?;
        count.check(install::test(&cluster));
        Ok(images)
    });
    let images = installed
        .map_err(|error| count.check(Err(error.context("the end-to-end tests did not start"))))
        .ok();
    Ok(Prepared { cluster, images, was_installed, count })
}

/// Runs the tests and removes what [`prepare`] added.
pub fn run(prepared: Prepared, count: &mut Count) {
    let Prepared { cluster, images, was_installed, count: before } = prepared;
    count.add(before);
    if let Some(images) = images {
        let tests = Tests {
            profile: "e2e",
            selection: ["--test", "e2e", "--run-ignored", "all"].map(str::to_owned).to_vec(),
            variables: vec![
                ("KUBECONFIG", cluster.kubeconfig.clone().into()),
                ("FLASHSALE_LOAD_IMAGE", images.name("load").into()),
            ],
            ..Tests::default()
        };
        tests.run(count);
    }
    // On a cluster that stays, what was there stays as well.
    let removed = if cluster.was_running && !was_installed && install::is_installed(&cluster) {
        install::remove(&cluster)
    } else {
        Ok(())
    };
    if let Err(error) = removed.and_then(|()| cluster.stop()) {
        count.check(Err(error.context("cannot clean up")));
    }
}

/// Whether the API server would take every object of the chart.
fn accepted(cluster: &Cluster) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), template(None)?)?;
    output(
        cluster
            .kubectl()
            .args(["apply", "--dry-run=server", "--validate=strict", "-n", "default", "-f"])
            .arg(file.path()),
    )
    .map(drop)
}
