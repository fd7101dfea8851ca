//! The crates of the workspace, and which of them may know which.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::workspace::{Package, Workspace};

/// The crates of the product by folder, and the crates of the project that each may depend on.
/// Dependencies of tests are free.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("redlock", &[]),
    ("ledger", &[]),
    ("sale", &["redlock", "ledger"]),
    ("process-metrics", &[]),
    ("app", &["sale", "ledger", "redlock", "process-metrics"]),
    ("operator", &["process-metrics"]),
    ("report", &[]),
    ("scenarios", &[]),
    ("load", &["report", "scenarios"]),
    ("plugin", &["operator", "report", "scenarios"]),
];

/// The folders of the crates that have sources of their own, beside tests.
pub fn with_sources(workspace: &Workspace) -> Vec<PathBuf> {
    let folders = workspace.packages.iter().map(Package::folder);
    folders.filter(|folder| folder.join("src").is_dir()).map(Path::to_owned).collect()
}

/// Fails if a crate depends on one that it must not know.
pub fn check(workspace: &Workspace) -> Result<()> {
    let mut wrong = Vec::new();
    for package in &workspace.packages {
        let name = folder_name(package.folder());
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

fn folder_name(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(of: &str, kind: &str, on: &str) -> Workspace {
        let text = format!(
            r#"{{"packages": [{{"name": "x", "targets": [], "manifest_path": "/w/{of}/Cargo.toml", "dependencies": [
                {{"kind": null, "path": null}}, {{"kind": {kind}, "path": "/w/{on}"}}]}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_crate_depends_only_on_what_it_may_know() {
        check(&workspace("sale", "null", "redlock")).unwrap();
        check(&workspace("redlock", r#""dev""#, "testkit")).unwrap();
        check(&workspace("bench", "null", "app")).unwrap();
        let error = check(&workspace("ledger", "null", "sale")).unwrap_err();
        assert_eq!(error.to_string(), "ledger must not depend on sale");
    }

    #[test]
    fn new_crates_are_checked_by_themselves() {
        let workspace = Workspace::read().unwrap();
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(with_sources(&workspace).iter().any(|folder| folder == here));
    }
}
