//! The workspace as `cargo metadata` describes it: its packages, and which depends on which.

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
    /// Its `Cargo.toml`.
    pub manifest_path: PathBuf,
    /// What it depends on.
    pub dependencies: Vec<Dependency>,
}

/// One line of a package's dependencies.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    /// `dev`, `build`, or nothing for a normal one.
    pub kind: Option<String>,
    /// The folder of a package of this workspace.
    pub path: Option<PathBuf>,
}

impl Workspace {
    /// Asks cargo.
    pub fn read() -> Result<Self> {
        let text = output(cargo("metadata").args(["--no-deps", "--format-version", "1"]))?;
        serde_json::from_str(&text).context("cannot read cargo metadata")
    }
}

impl Package {
    /// The folder of its `Cargo.toml`.
    pub fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(&self.manifest_path)
    }
}
