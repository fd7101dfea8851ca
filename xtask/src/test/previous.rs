//! The operator and its chart of an earlier revision, for the upgrade from it.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::revision::{git, unpack};
use crate::binaries::target_folder;
use crate::cleanup;
use crate::cluster::Cluster;
use crate::images::{self, Images};
use crate::install::{self, CHART, Made};
use crate::shell::{cargo_as_started_by_a_person, output, repository, run, say};

/// A checkout of the revision.
pub struct Previous {
    checkout: PathBuf,
}

impl Previous {
    /// Unpacks a revision and builds its operator, as the tests are built. The build has a folder of its own, because
    /// its binary has the same name.
    pub fn build(revision: &str) -> Result<Self> {
        let checkout = target_folder().join("previous/checkout");
        let commit =
            output(git().args(["rev-parse", "--verify", &format!("{revision}^{{commit}}")]))
                .with_context(|| format!("there is no revision {revision}"))?;
        say(&format!("building the operator of {revision} ({})", commit.trim()));
        unpack(commit.trim(), &checkout)?;
        let built = run(cargo_as_started_by_a_person()
            .args(["build", "--locked", "--quiet", "--package", "flashsale-operator"])
            .env("CARGO_TARGET_DIR", target_folder().join("previous/target"))
            .current_dir(&checkout));
        let previous = Self { checkout };
        match built {
            Ok(()) => Ok(previous),
            Err(error) => cleanup::after(Err(error), previous.remove()),
        }
    }

    /// Puts its release in the place of the one that this run installed.
    pub fn install(&self, cluster: &Cluster, images: &Images, made: &mut Made) -> Result<()> {
        let binary = target_folder().join("previous/target/debug/flashsale-operator");
        let image = images.previous_operator(&binary)?;
        images::build_operator(cluster, &binary, &image)?;
        install::remove(cluster, made)?;
        install::release(cluster, images, &self.checkout.join(CHART), &image, "previous", made)
    }

    /// Removes the checkout; the build stays for the next time.
    pub fn remove(self) -> Result<()> {
        std::fs::remove_dir_all(self.checkout).context("cannot remove the checkout")
    }
}

/// The command that upgrades to the operator and the chart of this checkout, as a user would type it.
pub fn upgrade_command(images: &Images) -> Result<String> {
    let chart = repository().join(CHART);
    let (release, namespace) = (install::RELEASE, install::NAMESPACE);
    Ok(format!(
        "helm upgrade {release} {} --namespace {namespace} --reset-then-reuse-values --wait --timeout 3m \
         --set-string images.operator={} --set-string podAnnotations.build={}",
        chart.display(),
        images.name("operator"),
        images.operator_build()?,
    ))
}
