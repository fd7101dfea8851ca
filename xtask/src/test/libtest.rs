//! Runs tests that cargo-nextest cannot run, with `cargo test`. Which tests there are comes from
//! their own list; which of them failed, from the names that stand alone on a line of the output.

use std::collections::BTreeSet;
use std::fs::File;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::count::Count;
use crate::shell::{cargo, line, output, print};

/// `cargo test` of the whole workspace; one file that fails does not stop the next.
pub fn command(arguments: &[&str]) -> Command {
    let mut test = cargo("test");
    test.args(["--workspace", "--no-fail-fast", "--quiet"]).args(arguments);
    test.env("RUST_BACKTRACE", "0");
    test
}

/// Runs the commands that a function makes, and adds their tests.
pub fn run(command: impl Fn() -> Command, count: &mut Count) {
    match results(command) {
        Ok(results) => count.add(results),
        Err(error) => count.check(Err(error)),
    }
}

fn results(command: impl Fn() -> Command) -> Result<Count> {
    let list = |which: &[&str]| -> Result<BTreeSet<String>> {
        Ok(names(&output(command().args(["--", "--list", "--format", "terse"]).args(which))?))
    };
    let (all, ignored) = (list(&[])?, list(&["--ignored"])?);
    // A file and no pipe: what a test left running would hold a pipe open.
    let log = tempfile::NamedTempFile::new()?;
    let file = || File::options().append(true).open(log.path());
    let mut tests = command();
    let status = tests
        .stdout(file()?)
        .stderr(file()?)
        .status()
        .with_context(|| format!("cannot start {}", line(&tests)))?;
    let said = String::from_utf8_lossy(&std::fs::read(log.path())?).into_owned();
    print(&said);
    let failures = if status.success() { Vec::new() } else { failed(&said, &all) };
    if failures.is_empty() && !status.success() {
        bail!("{} failed: {status}", line(&tests));
    }
    let passed = all.len().saturating_sub(ignored.len() + failures.len());
    Ok(Count { passed, failures, skipped: ignored.len(), ..Count::default() })
}

/// The names in the output of `--list --format terse`.
fn names(list: &str) -> BTreeSet<String> {
    list.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// The tests whose names stand alone on a line.
fn failed(said: &str, all: &BTreeSet<String>) -> Vec<String> {
    let named: BTreeSet<&str> = said.lines().map(str::trim).filter(|&l| all.contains(l)).collect();
    named.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that lists three tests, and then ends like this.
    fn program(ends: &str) -> impl Fn() -> Command {
        let script = format!(
            "case \"$*\" in *--ignored*) echo 'c: test';; \
             *--list*) printf 'a: test\\nb - (line 3): test\\nc: test\\n';; *) {ends};; esac"
        );
        move || {
            let mut command = Command::new("sh");
            command.args(["-c", &script, "sh"]);
            command
        }
    }

    #[test]
    fn counts_what_is_listed() {
        let count = results(program("true")).unwrap();
        assert_eq!((count.passed, count.skipped, count.failures.len()), (2, 1, 0));
        let fails = "printf 'failures:\\n    b - (line 3)\\n'; exit 101";
        let count = results(program(fails)).unwrap();
        assert_eq!((count.passed, count.failures), (1, vec!["b - (line 3)".to_owned()]));
    }

    #[test]
    fn a_run_that_fails_without_a_failed_test_is_an_error() {
        assert!(results(program("exit 101")).is_err());
    }

    #[test]
    fn a_process_that_a_test_left_running_is_not_waited_for() {
        let started = std::time::Instant::now();
        results(program("sleep 60 & exit 0")).unwrap();
        assert!(started.elapsed() < std::time::Duration::from_secs(30));
    }
}
