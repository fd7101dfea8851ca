//! The crates of the workspace, and which of them may know which.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::shell::{cargo, output};

/// The crates of the product by folder, and the crates of the project that each may depend on.
/// Dependencies of tests are free.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("redlock", &[]),
    ("ledger", &[]),
    ("sale", &["redlock", "ledger"]),
    ("app", &["sale", "ledger", "redlock"]),
    ("operator", &[]),
    ("load", &[]),
];

/// The part of `cargo metadata` that this check reads.
#[derive(Debug, Deserialize)]
pub struct Workspace {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    /// `dev`, `build`, or nothing for a normal one.
    kind: Option<String>,
    /// The folder of a crate of the project.
    path: Option<PathBuf>,
}

impl Workspace {
    /// Asks cargo.
    pub fn read() -> Result<Self> {
        let text = output(cargo("metadata").args(["--no-deps", "--format-version", "1"]))?;
        serde_json::from_str(&text).context("cannot read cargo metadata")
    }

    /// The folders of the crates that have sources of their own, beside tests.
    pub fn folders(&self) -> Vec<PathBuf> {
        let folders = self.packages.iter().filter_map(|package| package.manifest_path.parent());
        folders.filter(|folder| folder.join("src").is_dir()).map(Path::to_owned).collect()
    }

    /// Fails if a crate depends on one that it must not know.
    pub fn check(&self) -> Result<()> {
        let mut wrong = Vec::new();
        for package in &self.packages {
            let name = package.manifest_path.parent().map(folder_name).unwrap_or_default();
            let Some((_, allowed)) = MAY_KNOW.iter().find(|(known, _)| *known == name) else {
                continue;
            };
            let normal = package.dependencies.iter().filter(|one| one.kind.is_none());
            for dependency in normal.filter_map(|one| one.path.as_deref()).map(folder_name) {
                if !allowed.contains(&dependency.as_str()) {
                    wrong.push(format!("{name} must not depend on {dependency}"));
                }
            }
        }
        if !wrong.is_empty() {
            bail!("{}", wrong.join("; "));
        }
        Ok(())
    }
}

fn folder_name(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(of: &str, kind: &str, on: &str) -> Workspace {
        let text = format!(
            r#"{{"packages": [{{"manifest_path": "/w/{of}/Cargo.toml", "dependencies": [
                {{"kind": null, "path": null}}, {{"kind": {kind}, "path": "/w/{on}"}}]}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_crate_depends_only_on_what_it_may_know() {
        workspace("sale", "null", "redlock").check().unwrap();
        workspace("redlock", r#""dev""#, "testkit").check().unwrap();
        workspace("bench", "null", "app").check().unwrap();
        let error = workspace("ledger", "null", "sale").check().unwrap_err();
        assert_eq!(error.to_string(), "ledger must not depend on sale");
    }

    #[test]
    fn new_crates_are_checked_by_themselves() {
        let workspace = Workspace::read().unwrap();
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(workspace.folders().iter().any(|folder| folder == here));
    }
}
