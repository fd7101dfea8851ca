//! The workspace as `cargo metadata` describes it: its packages, and which depends on which.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::shell::{cargo, output};

/// The part of `cargo metadata` that the commands read.
#[derive(Debug, Deserialize)]
pub struct Workspace {
    /// The members of the workspace.
    pub packages: Vec<Package>,
}

/// A member of the workspace.
#[derive(Debug, Deserialize)]
pub struct Package {
    /// For example `flashsale-app`.
    pub name: String,
    /// Its `Cargo.toml`.
    pub manifest_path: PathBuf,
    /// What it depends on.
    pub dependencies: Vec<Dependency>,
    /// Its library, binaries and tests.
    pub targets: Vec<Target>,
}

/// One line of a package's dependencies.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    pub name: String,
    /// `dev`, `build`, or nothing for a normal one.
    pub kind: Option<String>,
    /// The folder of a package of this workspace.
    pub path: Option<PathBuf>,
}

/// What cargo can build of a package.
#[derive(Debug, Deserialize)]
pub struct Target {
    /// The file's name without `.rs`, for a test.
    pub name: String,
    /// `lib`, `bin`, `test` or others.
    pub kind: Vec<String>,
}

impl Workspace {
    /// Asks cargo.
    pub fn read() -> Result<Self> {
        let text = output(cargo("metadata").args(["--no-deps", "--format-version", "1"]))?;
        serde_json::from_str(&text).context("cannot read cargo metadata")
    }

    /// The package that a file belongs to.
    pub fn owner(&self, file: &Path) -> Option<&Package> {
        let owners = self.packages.iter().filter(|package| file.starts_with(package.folder()));
        owners.max_by_key(|package| package.folder().components().count())
    }

    /// These packages and all that depend on them, directly or through others, also in tests only.
    pub fn with_dependents(&self, names: &BTreeSet<&str>) -> Vec<&Package> {
        let mut folders: BTreeSet<&Path> = self
            .packages
            .iter()
            .filter(|package| names.contains(package.name.as_str()))
            .map(Package::folder)
            .collect();
        loop {
            let before = folders.len();
            for package in &self.packages {
                let paths = package.dependencies.iter().filter_map(|one| one.path.as_deref());
                if paths.into_iter().any(|path| folders.contains(path)) {
                    folders.insert(package.folder());
                }
            }
            if folders.len() == before {
                break;
            }
        }
        self.packages.iter().filter(|package| folders.contains(package.folder())).collect()
    }
}

impl Package {
    /// The folder of its `Cargo.toml`.
    pub fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(&self.manifest_path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> Workspace {
        let package = |name: &str, kind: &str, on: &str| {
            format!(
                r#"{{"name": "{name}", "manifest_path": "/w/{name}/Cargo.toml", "targets": [],
                "dependencies": [{{"name": "y", "kind": {kind}, "path": "/w/{on}"}}]}}"#
            )
        };
        let packages = [
            package("lock", "\"dev\"", "lock"),
            package("lock/model", "null", "none"),
            package("sale", "null", "lock"),
            package("app", "null", "sale"),
            package("operator", "\"dev\"", "lock"),
        ];
        serde_json::from_str(&format!(r#"{{"packages": [{}]}}"#, packages.join(", "))).unwrap()
    }

    #[test]
    fn a_file_belongs_to_the_innermost_package() {
        let workspace = workspace();
        let owner = |file: &str| workspace.owner(Path::new(file)).map(|owner| owner.name.as_str());
        assert_eq!(owner("/w/lock/src/lib.rs"), Some("lock"));
        assert_eq!(owner("/w/lock/model/src/lib.rs"), Some("lock/model"));
        assert_eq!(owner("/w/README.md"), None);
    }

    #[test]
    fn dependents_are_found_through_others_and_through_tests() {
        let workspace = workspace();
        let names = |changed: &str| {
            let all = workspace.with_dependents(&BTreeSet::from([changed]));
            all.into_iter().map(|package| package.name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(names("lock"), ["lock", "sale", "app", "operator"]);
        assert_eq!(names("sale"), ["sale", "app"]);
        assert_eq!(names("app"), ["app"]);
    }
}
