//! The project's own programs, and how they are built.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::shell::{cargo, nice, repository, run, say};

/// What the images hold.
pub const IN_IMAGES: [&str; 3] = ["flashsale-app", "flashsale-operator", "flashsale-load"];

/// How programs are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// As users run them.
    Release,
    /// As the tests are: nothing is compiled twice, and overflows and failed debug assertions panic.
    Test,
}

impl Build {
    /// Builds the programs.
    pub fn run(self) -> Result<()> {
        say(self.title());
        run(&mut self.command())
    }

    /// The same, in the time that other work leaves over.
    pub fn run_beside_other_work(self) -> Result<()> {
        say(self.title());
        run(&mut nice(&self.command()))
    }

    /// Where a program is.
    pub fn program(self, name: &str) -> PathBuf {
        target_folder().join(self.folder()).join(name)
    }

    /// The folder of its programs, in that of a target.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Test => "debug",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Release => "building the programs (release)",
            Self::Test => "building the programs (as the tests are built)",
        }
    }

    /// Always the same choice of packages: another one means other features of their dependencies, and
    /// so a second build of these.
    fn command(self) -> Command {
        let mut build = cargo("build");
        match self {
            Self::Release => {
                build.arg("--release").args(IN_IMAGES.iter().flat_map(|name| ["--package", name]))
            }
            // With an example, cargo chooses the features that tests have.
            Self::Test => build.args(["--workspace", "--bins", "--examples"]),
        };
        build
    }
}

/// Where cargo builds.
pub fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| repository().join("target"), |folder| repository().join(Path::new(&folder)))
}
