//! The scenarios of the load tool, as it lists them.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::shell::{command, output};

/// A scenario, and how it runs on a cluster.
#[derive(Debug, Deserialize)]
pub struct Scenario {
    /// For `--scenario`
    pub name: String,
    /// One line of description
    pub description: String,
    /// How it runs on a cluster
    pub job: Job,
}

/// How a scenario runs on a cluster.
#[derive(Debug, Deserialize)]
pub struct Job {
    /// The manifest of a sale that fits
    pub sale: String,
    /// What to do during the run
    pub meanwhile: Vec<Step>,
}

/// A command to run while the users buy.
#[derive(Debug, Clone, Deserialize)]
pub struct Step {
    /// Since the first user
    pub after_seconds: f64,
    /// Absent: once
    pub every_seconds: Option<f64>,
    /// A line for a shell, with kubectl; the variables `NAMESPACE` and `SALE` name the sale
    pub command: String,
}

impl Scenario {
    /// The manifest of its Job, from the checkout's root.
    pub fn manifest(&self) -> String {
        format!("manifests/load/{}.yaml", self.name)
    }
}

/// All scenarios that this `flashsale-load` has.
pub fn all(load: &Path) -> Result<Vec<Scenario>> {
    let listed = output(command(load).args(["scenarios", "--json"]))?;
    let scenario = |line: &str| {
        serde_json::from_str(line).with_context(|| format!("flashsale-load listed {line:?}"))
    };
    listed.lines().map(scenario).collect()
}
