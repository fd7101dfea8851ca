//! The `e2e` step: sales on a real cluster. The cluster can be prepared while other steps run.

use anyhow::{Context, Result};

use super::count::Count;
use super::nextest::Tests;
use super::previous::{Previous, upgrade_command};
use super::steps::template;
use crate::binaries::Build;
use crate::cluster::{Cluster, Kind};
use crate::images::{self, Images};
use crate::install;
use crate::shell::{output, repository};

/// A cluster, and the images on it if the operator is installed.
pub struct Prepared {
    cluster: Cluster,
    images: Option<Images>,
    was_installed: bool,
    count: Count,
}

/// What runs only on request.
#[derive(Debug, Default, clap::Args)]
pub struct More {
    /// With `e2e`: also the failures and changes of a running sale that take long
    #[arg(long)]
    all_failures: bool,
    /// With `e2e`: only the tests that this filter of cargo-nextest selects, such as `test(nodes)`
    #[arg(long, value_name = "FILTER", conflicts_with = "all_failures")]
    only: Option<String>,
    /// With `e2e`: also an upgrade from the chart and the operator of this revision, with a running sale
    #[arg(long, value_name = "REVISION")]
    upgrade_from: Option<String>,
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
pub fn run(prepared: Prepared, more: &More, count: &mut Count) {
    let Prepared { cluster, images, was_installed, count: before } = prepared;
    count.add(before);
    if let Some(images) = images {
        let mut selection = vec!["--test", "e2e", "--test", "failures", "--run-ignored", "all"];
        match &more.only {
            Some(filter) => selection.extend(["--filterset", filter]),
            None if more.all_failures => {}
            None => selection.extend(["--filterset", "not test(/^(all|stores)::/)"]),
        }
        let mut variables = vec![
            ("KUBECONFIG", cluster.kubeconfig.clone().into()),
            ("FLASHSALE_LOAD_IMAGE", images.name("load").into()),
            ("FLASHSALE_NEXT_APP_IMAGE", images.next("app").into()),
            ("FLASHSALE_NEXT_REDIS_IMAGE", images.next("redis").into()),
        ];
        if cluster.kind == Kind::OwnNode {
            let scripts = repository().join("tests/cluster");
            variables.push(("FLASHSALE_NODE_SCRIPTS", scripts.into()));
        }
        let selection = selection.into_iter().map(str::to_owned).collect();
        let tests = Tests { profile: "e2e", selection, variables, ..Tests::default() };
        tests.run(count);
        if let Some(revision) = &more.upgrade_from
            && let Err(error) = upgrade(&cluster, &images, revision, count)
        {
            count.check(Err(error.context("the upgrade was not tried")));
        }
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

/// Installs the operator of another revision, and runs the test that upgrades it.
fn upgrade(cluster: &Cluster, images: &Images, revision: &str, count: &mut Count) -> Result<()> {
    let previous = Previous::build(revision)?;
    previous.install(cluster, images)?;
    let tests = Tests {
        profile: "e2e",
        selection: ["--test", "upgrade", "--run-ignored", "all"].map(str::to_owned).to_vec(),
        variables: vec![
            ("KUBECONFIG", cluster.kubeconfig.clone().into()),
            ("FLASHSALE_LOAD_IMAGE", images.name("load").into()),
            ("FLASHSALE_UPGRADE", upgrade_command(images)?.into()),
        ],
        ..Tests::default()
    };
    tests.run(count);
    previous.remove()
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
