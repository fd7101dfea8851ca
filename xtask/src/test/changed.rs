//! `cargo xtask test --changed`: the quick checks of what a change can break.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use super::count::Count;
use super::nextest::{self, Tests};
use super::steps::{Step, run_all};
use crate::shell::{command, output, repository, say};
use crate::workspace::{Package, Workspace};

/// A change of one of these may break every crate.
const OF_ALL: &[&str] = &["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", ".cargo/"];
/// The package whose files of tests are one program.
const APP: &str = "flashsale-app";
/// Programs of tests that take more than 5 s on a quiet machine of two cores, or need a cluster. What takes long among
/// unit tests, `.config/nextest.toml` leaves out.
const SLOW_PROGRAMS: &[&str] = &[
    "ablations",
    "alerts",
    "api_server",
    "damaged",
    "e2e",
    "fake_sale",
    "lock",
    "many_orders",
    "matrix",
    "members",
    "membership",
    "panels",
    "promtool",
    "quorum",
    "refusing",
    "served",
];
/// Files of `app/tests`, modules of one program, that take more than 5 s or need packages of npm and Python.
const SLOW_OF_APP: &[&str] = &[
    "accounts",
    "admin",
    "administration",
    "atomic",
    "atomic_events",
    "atomic_orders",
    "atomic_recovery",
    "atomic_restore",
    "coupons",
    "databases",
    "event_faults",
    "fair_holds",
    "faults",
    "hold_races",
    "holds",
    "killed",
    "law",
    "limit_by",
    "load",
    "many_holds",
    "members",
    "nats",
    "order_events",
    "order_locks",
    "order_states",
    "orders",
    "outside",
    "packets",
    "page",
    "payments",
    "previous",
    "prices",
    "purchases",
    "refunds",
    "rights",
    "round_trips",
    "security",
    "seed",
    "stores",
    "stores_tls",
    "tls",
    "traces",
    "waitlist",
];

/// Runs the checks.
pub fn run(revision: &str, count: &mut Count) -> Result<()> {
    let base = base(revision)?;
    let files = changed_files(&base)?;
    let workspace = Workspace::read()?;
    let names = changed_packages(&workspace, &files);
    let packages = workspace.with_dependents(&names);
    say(&format!("{} files differ from {base}", files.len()));
    count.add(run_all(&[Step::Format]));
    if packages.is_empty() {
        say("no crate is changed; left out: everything but the format");
        return Ok(());
    }
    let list = |names: BTreeSet<&str>| names.into_iter().collect::<Vec<_>>().join(" ");
    say(&format!("changed: {}", list(names.clone())));
    let all: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let dependents: BTreeSet<&str> = all.difference(&names).copied().collect();
    if !dependents.is_empty() {
        say(&format!("depend on them: {}", list(dependents)));
    }
    count.add(run_all(&[Step::Layers, Step::Clippy]));
    tests(&packages).run(count);
    let slow =
        packages.iter().flat_map(|package| test_programs(package)).filter(|name| is_slow(name));
    let of_app = if all.contains(APP) { SLOW_OF_APP } else { &[] };
    say(&format!(
        "left out: docs deny generated openapi previous fuzz clients chart monitoring api-server policies e2e, doc tests; tests: {}",
        list(slow.chain(of_app.iter().copied()).collect())
    ));
    Ok(())
}

/// The commit that the branch began at; on the revision's own branch, the last one.
fn base(revision: &str) -> Result<String> {
    let base = output(command("git").args(["merge-base", "HEAD", revision]))
        .with_context(|| format!("no merge base with {revision}"))?;
    Ok(base.trim().chars().take(12).collect())
}

/// Files that differ from a commit, or are new, from the checkout's root.
fn changed_files(base: &str) -> Result<BTreeSet<String>> {
    let mut files = BTreeSet::new();
    for arguments in [
        &["diff", "--name-only", "--no-renames", "-z", base][..],
        &["ls-files", "--others", "--exclude-standard", "-z"],
    ] {
        let list = output(command("git").args(arguments))?;
        files.extend(list.split_terminator('\0').map(str::to_owned));
    }
    Ok(files)
}

/// The packages whose files changed.
fn changed_packages<'all>(
    workspace: &'all Workspace,
    files: &BTreeSet<String>,
) -> BTreeSet<&'all str> {
    let of_all = |file: &String| {
        OF_ALL.iter().any(|one| file == one || (one.ends_with('/') && file.starts_with(one)))
    };
    if files.iter().any(of_all) {
        return workspace.packages.iter().map(|package| package.name.as_str()).collect();
    }
    let owner = |file: &String| workspace.owner(&repository().join(file));
    files.iter().filter_map(owner).map(|package| package.name.as_str()).collect()
}

/// The unit tests of the packages and their quick files of tests. What is built is chosen by files,
/// because a choice of packages would be another choice of features, and another build.
fn tests(packages: &[&Package]) -> Tests {
    let of: Vec<_> = packages.iter().map(|package| format!("package(={})", package.name)).collect();
    // Other programs have modules of the same names, which are quick.
    let slow = format!("binary(=app) & test(/^({})::/)", SLOW_OF_APP.join("|"));
    let filter = format!("({}) - ({slow})", of.join(" + "));
    let programs = packages.iter().flat_map(|package| test_programs(package));
    let quick: BTreeSet<&str> = programs.filter(|name| !is_slow(name)).collect();
    let mut selection = vec!["--lib", "--bins", "--filterset", &filter];
    selection.extend(quick.into_iter().flat_map(|name| ["--test", name]));
    Tests {
        profile: "changed",
        selection: selection.into_iter().map(str::to_owned).collect(),
        options: vec!["--no-tests", "pass"],
        variables: vec![nextest::threads()],
    }
}

fn test_programs(package: &Package) -> impl Iterator<Item = &str> {
    let tests =
        package.targets.iter().filter(|target| target.kind.iter().any(|kind| kind == "test"));
    tests.map(|target| target.name.as_str())
}

fn is_slow(name: &str) -> bool {
    SLOW_PROGRAMS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slow_program_and_file_exists() {
        let workspace = Workspace::read().unwrap();
        let programs: BTreeSet<&str> = workspace.packages.iter().flat_map(test_programs).collect();
        for slow in SLOW_PROGRAMS {
            assert!(programs.contains(slow), "no program of tests is called {slow}");
        }
        for slow in SLOW_OF_APP {
            let file = repository().join(format!("app/tests/{slow}.rs"));
            assert!(file.exists(), "{} does not exist", file.display());
        }
    }

    #[test]
    fn a_file_changes_its_package_and_some_change_all() {
        let workspace = Workspace::read().unwrap();
        let changed = |file: &str| changed_packages(&workspace, &BTreeSet::from([file.to_owned()]));
        assert_eq!(changed("xtask/src/main.rs"), BTreeSet::from(["xtask"]));
        assert_eq!(changed("redlock/model/src/lib.rs"), BTreeSet::from(["redlock-model"]));
        assert!(changed("README.md").is_empty());
        assert_eq!(changed("Cargo.lock").len(), workspace.packages.len());
    }
}
