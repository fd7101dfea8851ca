//! The app of the release before, which the tests run beside this one.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::binaries::target_folder;
use crate::shell::{
    binaries_folder, cargo_as_started_by_a_person, command, output, repository, run, say,
};

/// No release has been published. This is the last commit before the tables of the first one changed.
const REVISION: &str = "6b26426d5a13947b4bf886b2e0b438d5c7b12ca5";
const PROGRAM: &str = "flashsale-app";
/// With an example, cargo chooses the features that tests have.
const EXAMPLE: &str = "one_at_a_time";

/// Builds the app, unless this machine has it; `None`, with the reason on the output, if
/// this clone does not have the commit. Dependencies are those of the tests where their versions are the same, so
/// little more than the crates of the app is compiled.
pub fn ensure() -> Result<Option<PathBuf>> {
    let folder = target_folder().join("previous");
    let program = binaries_folder().join(format!("{PROGRAM}-{REVISION}"));
    if program.exists() {
        return Ok(Some(program));
    }
    let git = |arguments: &[&str]| {
        let mut git = command("git");
        git.arg("-C").arg(repository()).args(arguments);
        git
    };
    if output(&mut git(&["cat-file", "-t", REVISION])).is_err() {
        say(&format!(
            "not run: this clone has no commit {REVISION}, whose app the test needs; a shallow one gets it with \
             git fetch --unshallow"
        ));
        return Ok(None);
    }
    say(&format!("building the app of {REVISION} (about two minutes on 2 cores, once)"));
    let checkout = folder.join("app");
    if checkout.exists() {
        std::fs::remove_dir_all(&checkout)?;
    }
    std::fs::create_dir_all(&checkout)?;
    let archive = folder.join("app.tar");
    run(git(&["archive", REVISION, "--output"]).arg(&archive))?;
    run(command("tar").arg("-xf").arg(&archive).arg("-C").arg(&checkout))?;
    std::fs::remove_file(archive)?;
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
    Ok(Some(program))
}
