//! The `e2e` step: sales on a real cluster. The cluster can be prepared while other steps run.

use anyhow::{Context, Result, ensure};

use super::count::Count;
use super::nextest::Tests;
use super::previous::{Previous, upgrade_command};
use super::random::INSTEAD_OF_STEPS;
use super::steps::{Step, template};
use crate::binaries::Build;
use crate::cleanup;
use crate::cluster::{Cluster, Kind};
use crate::images::{self, Images};
use crate::install::{self, Made};
use crate::shell::{output, repository};

/// A cluster, and the images on it if the operator is installed.
pub struct Prepared {
    cluster: Cluster,
    images: Option<Images>,
    made: Made,
    count: Count,
}

/// What runs only on request.
#[derive(Debug, Default, clap::Args)]
pub struct More {
    /// With `e2e`: also the failures and changes of a running sale that take long
    #[arg(long, conflicts_with_all = INSTEAD_OF_STEPS)]
    all_failures: bool,
    /// With `e2e`: only the tests that this filter of cargo-nextest selects, such as `test(nodes)`
    #[arg(long, value_name = "FILTER", conflicts_with = "all_failures",
        conflicts_with_all = INSTEAD_OF_STEPS)]
    only: Option<String>,
    /// With `e2e`: also an upgrade from the chart and the operator of this revision, with a running sale
    #[arg(long, value_name = "REVISION", conflicts_with_all = INSTEAD_OF_STEPS)]
    upgrade_from: Option<String>,
}

impl More {
    /// Refuses what would have no effect.
    pub fn ensure_applies(&self, steps: &[Step]) -> Result<()> {
        let is_asked_for = self.all_failures || self.only.is_some() || self.upgrade_from.is_some();
        ensure!(
            !is_asked_for || steps.contains(&Step::E2e),
            "--all-failures, --only and --upgrade-from are of the step e2e, which does not run"
        );
        Ok(())
    }
}

/// Builds the images, starts a cluster and installs the operator.
pub fn prepare() -> Result<Prepared> {
    Build::Test.run_beside_other_work()?;
    let cluster = Cluster::choose().context("no cluster")?;
    let mut made = Made::default();
    let mut count = Count::default();
    // Refused before the images are built.
    let replaceable = install::ensure_replaceable(&cluster);
    let images = replaceable.and_then(|()| images::build_and_load(&cluster, Build::Test));
    let installed = images.and_then(|images| {
        // A real API server knows the objects' schemas best; strict refuses unknown fields.
        count.check(accepted(&cluster));
        install::operator(&cluster, &images, &mut made)?;
        count.check(install::test(&cluster));
        Ok(images)
    });
    let images = installed
        .map_err(|error| count.check(Err(error.context("the end-to-end tests did not start"))))
        .ok();
    Ok(Prepared { cluster, images, made, count })
}

/// Runs the tests and removes what [`prepare`] added.
pub fn run(prepared: Prepared, more: &More, count: &mut Count) {
    let Prepared { cluster, images, mut made, count: before } = prepared;
    count.add(before);
    if let Some(images) = images {
        let mut selection = vec!["--test", "e2e", "--test", "failures", "--run-ignored", "all"];
        match &more.only {
            Some(filter) => selection.extend(["--filterset", filter]),
            None if more.all_failures => {}
            None => selection.extend(["--filterset", "not test(/^(all|stores)::/)"]),
        }
        let mut variables = vec![
            ("KUBECONFIG", cluster.kubeconfig.clone()),
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
            && let Err(error) = upgrade(&cluster, &images, revision, &mut made, count)
        {
            count.check(Err(error.context(format!("the upgrade from {revision}"))));
        }
    }
    // On a cluster that stays, what was there stays as well.
    if let Err(error) = install::end(&cluster, &mut made) {
        count.check(Err(error.context("cannot clean up")));
    }
}

/// Installs the operator of another revision, and runs the test that upgrades it.
fn upgrade(
    cluster: &Cluster,
    images: &Images,
    revision: &str,
    made: &mut Made,
    count: &mut Count,
) -> Result<()> {
    ensure!(
        made.release(),
        "not tried: an operator was there before, and is not removed; remove it first: \
         helm uninstall {} --namespace {}",
        install::RELEASE,
        install::NAMESPACE
    );
    let previous = Previous::build(revision)?;
    let installed = previous.install(cluster, images, made);
    let tried = installed.and_then(|()| upgrade_command(images)).map(|command| {
        let tests = Tests {
            profile: "e2e",
            selection: ["--test", "upgrade", "--run-ignored", "all"].map(str::to_owned).to_vec(),
            variables: vec![
                ("KUBECONFIG", cluster.kubeconfig.clone()),
                ("FLASHSALE_LOAD_IMAGE", images.name("load").into()),
                ("FLASHSALE_UPGRADE", command.into()),
            ],
            ..Tests::default()
        };
        tests.run(count);
    });
    cleanup::after(tried.context("not tried"), previous.remove())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::{Fakes, given_cluster};

    #[test]
    fn options_for_a_step_that_does_not_run_are_refused() {
        for more in [
            More { all_failures: true, ..More::default() },
            More { only: Some("test(nodes)".to_owned()), ..More::default() },
            More { upgrade_from: Some("main".to_owned()), ..More::default() },
        ] {
            assert!(more.ensure_applies(&[Step::Unit, Step::Chart]).is_err(), "{more:?}");
            more.ensure_applies(&[Step::Unit, Step::E2e]).unwrap();
        }
        More::default().ensure_applies(&[Step::Unit]).unwrap();
    }

    #[test]
    fn an_operator_that_was_there_does_not_give_way_to_an_earlier_one() {
        let fakes = Fakes::start(&[("helm", ""), ("kubectl", ""), ("git", "exit 1")]);
        let (mut made, mut count) = (Made::default(), Count::default());
        let cluster = given_cluster();
        let error = upgrade(&cluster, &Images::local(), "main", &mut made, &mut count);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("an operator was there before"), "{error}");
        assert!(fakes.calls().is_empty(), "{:?}", fakes.calls());
    }

    #[test]
    fn a_run_that_installed_nothing_removes_nothing_from_a_cluster_that_stays() {
        let fakes = Fakes::start(&[("helm", "echo flashsale-operator"), ("kubectl", "")]);
        let (made, mut count) = (Made::default(), Count::default());
        let count_before = Count::default();
        let prepared =
            Prepared { cluster: given_cluster(), images: None, made, count: count_before };
        run(prepared, &More::default(), &mut count);
        assert!(count.failures.is_empty(), "{:?}", count.failures);
        assert!(!fakes.changed_something(), "{:?}", fakes.calls());
    }
}
