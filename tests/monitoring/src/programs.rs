//! Where the programs are that the tests start.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use testkit::cluster_programs;

/// A release line of Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 2.x, as in Debian 12.
    Two,
    /// 3.x.
    Three,
}

impl Version {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Two, Self::Three];
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Two => "2",
            Self::Three => "3",
        })
    }
}

/// The root of the checkout.
#[must_use]
pub fn repository() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// A program of [`cluster_programs`].
///
/// # Errors
/// When it is not there.
pub(crate) fn tool(name: &str) -> Result<PathBuf> {
    let program = cluster_programs().join(name);
    ensure!(
        program.exists(),
        "{} is missing: cargo xtask test monitoring installs it",
        program.display()
    );
    Ok(program)
}

/// A program of the project, as the tests are built.
///
/// # Errors
/// When it is not built.
pub(crate) fn built(name: &str) -> Result<PathBuf> {
    // target/debug/deps/TEST
    let test = std::env::current_exe()?;
    let folder = test.ancestors().nth(2).context("the test is in no folder")?;
    let program = folder.join(name);
    ensure!(
        program.exists(),
        "{} is missing: cargo build --locked --workspace --bins --examples",
        program.display()
    );
    Ok(program)
}
