//! The scenarios of the load tool, as it lists them.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::shell::{command, output, repository};

/// The manifests of all scenarios, from the checkout's root.
const MANIFESTS: &str = "manifests/load";
/// The files of all scenarios, from the checkout's root.
const SCENARIOS: &str = "load/scenarios";

/// A scenario, and how it runs on a cluster.
#[derive(Debug, Deserialize)]
pub struct Scenario {
    /// For `--scenario`
    pub name: String,
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
        format!("{MANIFESTS}/{}.yaml", self.name)
    }
}

/// Refuses a name that no scenario has, by the manifests: the load tool is not built for it.
pub fn ensure_known(name: &str) -> Result<()> {
    let mut names = Vec::new();
    for file in std::fs::read_dir(repository().join(MANIFESTS)).context(MANIFESTS)? {
        let file = file?.file_name();
        names.extend(file.to_string_lossy().strip_suffix(".yaml").map(str::to_owned));
    }
    names.sort_unstable();
    ensure!(
        names.iter().any(|known| known == name),
        "there is no scenario {name:?}; choose one of\n  {}",
        names.join("\n  ")
    );
    Ok(())
}

/// Refuses another time for users who start at once, by the scenario's file: the load tool is not built for it.
pub fn ensure_lasts(name: &str) -> Result<()> {
    let file = repository().join(SCENARIOS).join(format!("{name}.yaml"));
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    ensure!(
        text.lines().any(|line| line.starts_with("users_per_second:")),
        "--seconds: all users of the scenario {name} start at once"
    );
    Ok(())
}

/// All scenarios that this `flashsale-load` has.
pub fn all(load: &Path) -> Result<Vec<Scenario>> {
    let listed = output(command(load).args(["scenarios", "--json"]))?;
    let scenario = |line: &str| {
        serde_json::from_str(line).with_context(|| format!("flashsale-load listed {line:?}"))
    };
    listed.lines().map(scenario).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_name_is_refused_with_the_right_ones() {
        ensure_known("v3-redlock").unwrap();
        for wrong in ["v3-redlok", "", "../load/v3-redlock"] {
            let error = ensure_known(wrong).unwrap_err().to_string();
            assert!(error.contains("\n  v1-single\n"), "{error}");
        }
    }

    #[test]
    fn users_who_start_at_once_have_no_other_time() {
        for name in ["soak", "sustained", "black-friday"] {
            ensure_lasts(name).unwrap();
        }
        let error = ensure_lasts("v3-redlock").unwrap_err().to_string();
        assert!(error.contains("v3-redlock start at once"), "{error}");
    }
}
