//! The crates of the workspace, and which of them may know which.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::workspace::{Package, Workspace};

/// The crates by folder, and the crates of the project that each may depend on. Dependencies of tests are free.
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
    ("model", &[]),
    ("kit", &[]),
    ("e2e", &[]),
    ("fleet", &["kit"]),
    ("monitoring", &["kit"]),
    ("xtask", &["kit"]),
    ("faults", &["kit", "redlock"]),
    ("bench", &["kit", "app", "sale", "ledger", "redlock"]),
];

/// Crates of others that these crates of the product may not depend on: what the layer is free of.
const MUST_NOT_KNOW: &[(&str, &[&str])] = &[
    ("redlock", &["axum", "hyper", "kube", "prometheus", "reqwest", "sqlx"]),
    ("ledger", &["axum", "hyper", "kube", "prometheus", "redis", "reqwest"]),
    ("sale", &["axum", "hyper", "kube", "prometheus", "reqwest", "sqlx"]),
    ("app", &["k8s-openapi", "kube", "sqlx"]),
    ("operator", &["redis", "sqlx"]),
    ("scenarios", &["axum", "kube", "redis", "sqlx"]),
    ("report", &["axum", "kube", "redis", "sqlx"]),
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
        let of = |table: &[(&str, &'static [&'static str])]| {
            table.iter().find(|(known, _)| *known == name).map(|(_, crates)| *crates)
        };
        let (allowed, forbidden) = (of(MAY_KNOW), of(MUST_NOT_KNOW).unwrap_or_default());
        for dependency in package.dependencies.iter().filter(|one| one.kind.is_none()) {
            let folder = dependency.path.as_deref().map(folder_name);
            let is_forbidden = match (&folder, allowed) {
                (Some(folder), Some(allowed)) => !allowed.contains(&folder.as_str()),
                (Some(_), None) => true,
                (None, _) => forbidden.contains(&dependency.name.as_str()),
            };
            if is_forbidden {
                let dependency = folder.as_ref().unwrap_or(&dependency.name);
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
                {{"name": "tokio", "kind": null, "path": null}},
                {{"name": "y", "kind": {kind}, "path": "/w/{on}"}}]}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_crate_depends_only_on_what_it_may_know() {
        check(&workspace("sale", "null", "redlock")).unwrap();
        check(&workspace("redlock", r#""dev""#, "testkit")).unwrap();
        check(&workspace("bench", "null", "app")).unwrap();
        let error = check(&workspace("new", "null", "sale")).unwrap_err();
        assert_eq!(error.to_string(), "new must not depend on sale");
        let error = check(&workspace("ledger", "null", "sale")).unwrap_err();
        assert_eq!(error.to_string(), "ledger must not depend on sale");
    }

    #[test]
    fn a_layer_is_free_of_the_crates_of_others() {
        let with = |of: &str, dependency: &str| {
            let text = format!(
                r#"{{"packages": [{{"name": "x", "targets": [], "manifest_path": "/w/{of}/Cargo.toml",
                    "dependencies": [{{"name": "{dependency}", "kind": null, "path": null}}]}}]}}"#
            );
            check(&serde_json::from_str(&text).unwrap())
        };
        with("app", "axum").unwrap();
        let error = with("sale", "axum").unwrap_err();
        assert_eq!(error.to_string(), "sale must not depend on axum");
    }

    #[test]
    fn new_crates_are_checked_by_themselves() {
        let workspace = Workspace::read().unwrap();
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(with_sources(&workspace).iter().any(|folder| folder == here));
    }
}
