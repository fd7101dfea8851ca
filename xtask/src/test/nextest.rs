//! Runs tests with cargo-nextest and counts them from its `JUnit` report. Its settings are in
//! `.config/nextest.toml`.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::count::Count;
use crate::binaries::target_folder;
use crate::shell::{self, cargo_as_started_by_a_person, output};
use crate::tools;

/// Most tests wait more than they compute.
const THREADS_PER_PROCESSOR: usize = 2;
/// How much of a failure's message the summary repeats.
const LINES_OF_A_FAILURE: usize = 12;

/// The environment variable that says how many tests run at the same time.
pub fn threads() -> (&'static str, OsString) {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    ("NEXTEST_TEST_THREADS", (processors * THREADS_PER_PROCESSOR).to_string().into())
}

/// Some tests of the workspace.
#[derive(Debug, Default)]
pub struct Tests {
    /// The profile in `.config/nextest.toml`.
    pub profile: &'static str,
    /// Which tests: options that `list` and `run` have in common.
    pub selection: Vec<String>,
    /// How they run: options of `run` only.
    pub options: Vec<&'static str>,
    /// Environment variables.
    pub variables: Vec<(&'static str, OsString)>,
}

impl Tests {
    /// Runs the tests and counts them. One that fails does not stop the next.
    pub fn run(&self, count: &mut Count) {
        match self.results() {
            Ok(results) => count.add(results),
            Err(error) => count.check(Err(error)),
        }
    }

    /// Compiles the tests.
    pub fn build(&self) -> Result<()> {
        tools::ensure_cargo_nextest()?;
        tools::ensure_kstatus()?;
        tools::ensure_collector()?;
        shell::run(self.command("run").arg("--no-run"))
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut nextest = cargo_as_started_by_a_person();
        nextest.args(["nextest", subcommand, "--locked", "--workspace", "--profile", self.profile]);
        nextest.args(&self.selection);
        // A failed test's error shall not drown in the frames of its runtime.
        nextest.env("RUST_BACKTRACE", "0");
        nextest.envs(self.variables.iter().map(|(name, value)| (name, value)));
        nextest
    }

    fn results(&self) -> Result<Count> {
        self.build()?;
        let list = output(self.command("list").args(["--message-format", "json"]))?;
        let listed = Listed::read(&list)?;
        let report = target_folder().join("nextest").join(self.profile).join("junit.xml");
        if report.exists() {
            std::fs::remove_file(&report).context("cannot remove the last report")?;
        }
        let ended = shell::run(self.command("run").arg("--no-fail-fast").args(&self.options));
        let mut count = match std::fs::read_to_string(&report) {
            Ok(report) => read(&report)?,
            // It failed before a test began.
            Err(error) => return ended.and(Err(error).context("nextest wrote no report")),
        };
        if count.passed + count.failures.len() != listed.selected || count.failures.is_empty() {
            ended?;
        }
        if count.passed + count.failures.len() < listed.selected {
            bail!("of {} tests only {} ran", listed.selected, count.passed + count.failures.len());
        }
        count.skipped = listed.ignored;
        Ok(count)
    }
}

/// How many tests nextest knows.
#[derive(Debug, PartialEq, Eq)]
struct Listed {
    /// Those that `run` runs.
    selected: usize,
    /// Those that `run` would run without their `#[ignore]`.
    ignored: usize,
}

impl Listed {
    fn read(list: &str) -> Result<Self> {
        let list: Value = serde_json::from_str(list).context("cannot read nextest's list")?;
        let suites = list["rust-suites"].as_object().context("nextest's list has no suites")?;
        let cases = suites.values().filter_map(|suite| suite["testcases"].as_object());
        let matches: Vec<&Value> =
            cases.flat_map(|cases| cases.values().map(|case| &case["filter-match"])).collect();
        let count = |field: &str, value: &str| {
            matches.iter().filter(|&&found| found[field] == value).count()
        };
        Ok(Self { selected: count("status", "matches"), ignored: count("reason", "ignored") })
    }
}

/// Reads a `JUnit` report of nextest.
fn read(report: &str) -> Result<Count> {
    let document = roxmltree::Document::parse(report).context("cannot read the JUnit report")?;
    let mut count = Count::default();
    for case in document.descendants().filter(|node| node.has_tag_name("testcase")) {
        let failure = case
            .children()
            .find(|child| child.has_tag_name("failure") || child.has_tag_name("error"));
        if let Some(failure) = failure {
            let of = |name: &str| case.attribute(name).unwrap_or("?");
            let mut said = format!("{} {}", of("classname"), of("name"));
            // A log that keeps only its end still says what was wrong.
            for line in failure.text().unwrap_or_default().lines().take(LINES_OF_A_FAILURE) {
                said.push_str("\n    ");
                said.push_str(line);
            }
            count.failures.push(said);
        } else {
            count.passed += 1;
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_cases_of_a_report() {
        let report = r#"<?xml version="1.0" encoding="UTF-8"?>
            <testsuites name="nextest-run" tests="3" failures="1" errors="0">
                <testsuite name="app::orders" tests="3" failures="1">
                    <testcase name="a" classname="app::orders" time="0.1"></testcase>
                    <testcase name="b" classname="app::orders" time="0.1">
                        <failure type="test failure">said &lt;this&gt;</failure>
                        <system-out>running 1 test</system-out>
                    </testcase>
                    <testcase name="c" classname="app::orders"><system-out/></testcase>
                </testsuite>
            </testsuites>"#;
        let count = read(report).unwrap();
        assert_eq!(count.passed, 2);
        assert_eq!(count.failures, ["app::orders b\n    said <this>"]);
        assert!(read("<testsuites>").is_err());
    }

    #[test]
    fn counts_the_tests_of_a_list() {
        let list = r#"{"rust-suites": {"app::orders": {"testcases": {
            "a": {"ignored": false, "filter-match": {"status": "matches"}},
            "b": {"ignored": true, "filter-match": {"status": "mismatch", "reason": "ignored"}},
            "c": {"ignored": false, "filter-match": {"status": "mismatch", "reason": "expression"}}
        }}, "app::none": {"testcases": {}}}}"#;
        assert_eq!(Listed::read(list).unwrap(), Listed { selected: 1, ignored: 1 });
    }
}
