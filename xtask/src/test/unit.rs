//! The `unit` and `api-server` steps: all tests that need no cluster.

use std::process::Command;

use super::count::Count;
use super::libtest;
use super::nextest::{self, Tests};
use crate::shell::binaries_folder;

/// The end-to-end crate: the only one that needs a cluster.
const END_TO_END: &str = "flashsale-tests";
/// Its tests share one API server in one process; nextest would start one for each test.
const API_SERVER: &str = "api_server";
/// A file of tests that hangs fails. nextest has a limit of its own.
const TIMEOUT: &str =
    r#"target."cfg(unix)".runner = "timeout --foreground --verbose --signal=KILL 10m""#;

/// Runs the tests that need neither API server nor cluster.
pub fn run(count: &mut Count) {
    let tests = tests();
    if let Err(error) = tests.build() {
        return count.check(Err(error));
    }
    tests.run(count);
    libtest::run(|| libtest::command(&["--doc"]), count);
}

/// Runs the operator's tests on API servers.
pub fn run_on_api_servers(count: &mut Count) {
    libtest::run(api_server, count);
}

fn tests() -> Tests {
    let filter = format!("not binary(={API_SERVER})");
    let selection = ["--exclude", END_TO_END, "--filterset", &filter].map(str::to_owned).to_vec();
    let variables = vec![nextest::threads()];
    Tests { profile: "default", selection, variables, ..Tests::default() }
}

fn api_server() -> Command {
    let mut tests = libtest::command(&["--test", API_SERVER, "--config", TIMEOUT]);
    tests.env("FLASHSALE_CLUSTER_BIN", binaries_folder());
    tests
}
