//! The `deny` step: licences, sources and duplicates of the dependencies, and known weaknesses where
//! the advisory database can be had.

use anyhow::{Context, Result};

use crate::shell::{self, command, say};
use crate::tools;

/// Checks with `deny.toml`.
pub fn run() -> Result<()> {
    tools::ensure_cargo_deny()?;
    let deny = |what: &[&str]| {
        let mut deny = command("cargo-deny");
        deny.args(["--all-features", "check"]).args(what);
        deny
    };
    shell::run(&mut deny(&["bans", "licenses", "sources"]))?;
    // The database is a git repository elsewhere; a machine without a way there has none.
    let mut fetch = command("cargo-deny");
    if shell::succeeds(fetch.args(["fetch", "db"])) {
        shell::run(&mut deny(&["advisories"])).context("advisories")
    } else {
        say("the advisory database cannot be fetched from here, so advisories are NOT checked");
        Ok(())
    }
}
