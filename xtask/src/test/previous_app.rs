//! The app of the release before, which the tests run beside this one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::revision::{git, unpack};
use crate::binaries::target_folder;
use crate::shell::{binaries_folder, cargo_as_started_by_a_person, run, say, succeeds};

/// No release has been published. This is the last commit before the tables of the first one changed.
const REVISION: &str = "6b26426d5a13947b4bf886b2e0b438d5c7b12ca5";
const PROGRAM: &str = "flashsale-app";
/// With an example, cargo chooses the features that tests have.
const EXAMPLE: &str = "one_at_a_time";

/// Whether this machine can have the app: this clone has the commit, or it was built before.
pub fn ensure_available() -> Result<()> {
    ensure_there_or_in_git(&program())
}

fn ensure_there_or_in_git(program: &Path) -> Result<()> {
    ensure!(
        program.exists() || succeeds(git().args(["cat-file", "-e", REVISION])),
        "this clone has no commit {REVISION}, whose app the tests need; a shallow one gets it with \
         git fetch --unshallow"
    );
    Ok(())
}

fn program() -> PathBuf {
    binaries_folder().join(format!("{PROGRAM}-{REVISION}"))
}

/// Builds the app, unless this machine has it. Dependencies are those of the tests where their versions are the same, so
/// little more than the crates of the app is compiled.
pub fn ensure() -> Result<PathBuf> {
    let (folder, program) = (target_folder().join("previous"), program());
    if program.exists() {
        return Ok(program);
    }
    say(&format!("building the app of {REVISION} (about two minutes on 2 cores, once)"));
    let checkout = folder.join("app");
    unpack(REVISION, &checkout)?;
    run(cargo_as_started_by_a_person()
        .args(["build", "--locked", "--quiet", "--workspace", "--bin", PROGRAM])
        .args(["--example", EXAMPLE])
        .env("CARGO_BUILD_BUILD_DIR", target_folder())
        .env("CARGO_TARGET_DIR", folder.join("target"))
        // As the present profile has it: other settings would be another build of the dependencies.
        .env("CARGO_PROFILE_DEV_DEBUG", "false")
        .current_dir(&checkout))?;
    let built = folder.join("target/debug").join(PROGRAM);
    // Another file system, perhaps. A program that is there is whole.
    let copy = program.with_extension("new");
    std::fs::create_dir_all(binaries_folder())?;
    std::fs::copy(&built, &copy).with_context(|| format!("cannot copy {}", built.display()))?;
    std::fs::rename(&copy, &program)?;
    std::fs::remove_dir_all(checkout)?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::Fakes;

    #[test]
    fn a_clone_without_the_commit_needs_the_app_that_was_built_before() {
        let _fakes = Fakes::start(&[("git", "exit 1")]);
        let error = ensure_there_or_in_git(Path::new("/not/there")).unwrap_err().to_string();
        assert!(error.contains("git fetch --unshallow"), "{error}");
        let built = tempfile::NamedTempFile::new().unwrap();
        ensure_there_or_in_git(built.path()).unwrap();
    }
}
