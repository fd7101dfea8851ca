//! The `deny` step: licences, sources and duplicates of the dependencies, and known weaknesses where
//! the advisory database can be had.

use anyhow::{Context, Result};

use crate::shell::{self, command};
use crate::tools;

/// Checks with `deny.toml`; gives what could not be checked, and why.
pub fn run() -> Result<Option<&'static str>> {
    tools::ensure_cargo_deny()?;
    let deny = |what: &[&str]| {
        let mut deny = command("cargo-deny");
        deny.args(["--all-features", "check"]).args(what);
        deny
    };
    shell::run(&mut deny(&["bans", "licenses", "sources"]))?;
    // The database is a git repository elsewhere; a machine without a way there has none.
    let mut fetch = command("cargo-deny");
    if !shell::succeeds(fetch.args(["fetch", "db"])) {
        return Ok(Some("advisories: their database cannot be fetched from here"));
    }
    shell::run(&mut deny(&["advisories"])).context("advisories")?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::Fakes;

    #[test]
    fn advisories_without_their_database_are_left_out_and_named() {
        let fakes = Fakes::start(&[("cargo-deny", "case $1 in fetch) exit 1;; esac")]);
        assert!(run().unwrap().is_some_and(|left_out| left_out.starts_with("advisories")));
        assert!(!fakes.calls().iter().any(|call| call.ends_with("check advisories")));
        drop(fakes);
        let fakes = Fakes::start(&[("cargo-deny", "")]);
        assert_eq!(run().unwrap(), None);
        assert!(fakes.calls().iter().any(|call| call.ends_with("check advisories")));
    }
}
