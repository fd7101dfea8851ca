//! The `unit`, `monitoring` and `api-server` steps: all tests that need no cluster.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;

use super::count::Count;
use super::libtest;
use super::nextest::{self, Tests};
use super::previous_app;
use crate::binaries::Build;
use crate::disk;
use crate::packages;
use crate::shell::binaries_folder;
use crate::tools;

/// The end-to-end crate: the only one that needs a cluster.
const END_TO_END: &str = "flashsale-tests";
/// They run replicas of the release before, which is built for them.
const PREVIOUS: &str = "binary(=app) & test(/^previous::/)";
/// Its tests share one API server in one process; nextest would start one for each test.
const API_SERVER: &str = "api_server";
/// In percent, of Lighthouse. It depends on the machine, so the `unit` step does not judge it.
const LEAST_PERFORMANCE: &str = "95";
/// Its files of tests need Prometheus, and the programs of the project.
const MONITORING: &str = "flashsale-monitoring";
const MONITORING_FILES: [&str; 4] = ["alerts", "panels", "promtool", "served"];
/// A file of tests that hangs fails. nextest has a limit of its own.
const TIMEOUT: &str =
    r#"target."cfg(unix)".runner = "timeout --foreground --verbose --signal=KILL 10m""#;

/// Runs the tests that need neither API server nor cluster.
pub fn run(count: &mut Count) {
    let filter = format!(
        "not (binary(={API_SERVER}) | ({PREVIOUS}) | (package(={MONITORING}) & kind(test)))"
    );
    let tests = match tests(&filter).and_then(|tests| tests.build().map(|()| tests)) {
        Ok(tests) => tests,
        Err(error) => return count.check(Err(error)),
    };
    tests.run(count);
    libtest::run(|| libtest::command(&["--doc"]), count);
}

/// Runs the tests with replicas of the release before. A clone that cannot have it skips them.
pub fn run_with_previous(count: &mut Count) {
    if let Err(error) = previous_app::ensure_available() {
        return count.skip(format!("previous: {error}"));
    }
    let prepared = previous_app::ensure().and_then(|program| {
        let mut tests = tests(PREVIOUS)?;
        tests.variables.push(("FLASHSALE_PREVIOUS_APP", program.into_os_string()));
        Ok(tests)
    });
    match prepared {
        Ok(tests) => tests.run(count),
        Err(error) => count.check(Err(error)),
    }
}

/// Runs the tests of metrics, dashboards and alerts.
pub fn run_with_prometheus(count: &mut Count) {
    if let Err(error) = tools::ensure_prometheus().and_then(|()| Build::Test.run()) {
        return count.check(Err(error));
    }
    let filter = format!("package(={MONITORING})");
    let files = MONITORING_FILES.iter().flat_map(|file| ["--test", file]);
    let selection = files.chain(["--filterset", &filter]).map(str::to_owned).collect();
    let mut variables = vec![("FLASHSALE_CLUSTER_BIN", binaries_folder().into())];
    variables.extend(in_memory());
    Tests { profile: "monitoring", selection, variables, ..Tests::default() }.run(count);
}

/// Runs the operator's tests on API servers.
pub fn run_on_api_servers(count: &mut Count) {
    libtest::run(api_server, count);
}

/// Measures the pages with Lighthouse, its performance score included.
pub fn run_lighthouse(count: &mut Count) {
    match tests("binary(=app) & test(/^page::.*lighthouse/)") {
        Ok(mut tests) => {
            tests.variables.push(("LIGHTHOUSE_PERFORMANCE", LEAST_PERFORMANCE.into()));
            tests.options.extend(["--success-output", "immediate"]);
            tests.run(count);
        }
        Err(error) => count.check(Err(error)),
    }
}

fn tests(filter: &str) -> Result<Tests> {
    let selection = ["--exclude", END_TO_END, "--filterset", filter].map(str::to_owned).to_vec();
    let judges = ("FLASHSALE_NODE_MODULES", packages::ensure_page_judges()?.into_os_string());
    let stripe = ("FLASHSALE_STRIPE_MODULES", packages::ensure_stripe()?.into_os_string());
    let webhooks = ("FLASHSALE_WEBHOOKS_PYTHON", packages::ensure_webhooks()?.into_os_string());
    let mut variables = vec![nextest::threads(), judges, stripe, webhooks];
    variables.extend(in_memory());
    Ok(Tests { profile: "default", selection, variables, ..Tests::default() })
}

fn in_memory() -> Option<(&'static str, OsString)> {
    disk::memory_for_tests().map(|folder| ("TMPDIR", folder.into()))
}

fn api_server() -> Command {
    let mut tests = libtest::command(&["--test", API_SERVER, "--config", TIMEOUT]);
    tests.env("FLASHSALE_CLUSTER_BIN", binaries_folder());
    tests
}
