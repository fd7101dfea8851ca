//! axe and Lighthouse, with which the tests judge the pages, from their npm packages.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::shell::{command, repository, run, say, state_folder, succeeds};
use crate::tools;

/// Where their versions are declared and locked. A part of Lighthouse wants the `latest` of `third-party-web` beside
/// it; without the override in `package.json`, `npm ci` refuses the lock file once there is a newer one.
const DECLARED: &str = "app/tests/browser";

/// Installs what the lock file says, unless it is there; returns the folder of the modules.
pub fn ensure() -> Result<PathBuf> {
    let declared = repository().join(DECLARED);
    let folder = state_folder().join("page-judges");
    let modules = folder.join("node_modules");
    let locked = fs::read(declared.join("package-lock.json")).context("no package-lock.json")?;
    // Written last, so that a broken installation is made again.
    let installed = folder.join("installed.json");
    if fs::read(&installed).is_ok_and(|installed| installed == locked) {
        return Ok(modules);
    }
    if !["node", "npm"].iter().all(|program| succeeds(command(program).arg("--version"))) {
        tools::ensure_packages(&["nodejs", "npm"])?;
    }
    say("installing axe and Lighthouse with npm (about a quarter of a minute, once)");
    fs::create_dir_all(&folder)?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(declared.join(file), folder.join(file))?;
    }
    // None of them needs to run anything for its installation.
    let quietly = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    run(command("npm").arg("ci").args(quietly).current_dir(&folder).stdout(std::io::stderr()))?;
    fs::write(installed, locked).context("cannot note that they are installed")?;
    Ok(modules)
}
