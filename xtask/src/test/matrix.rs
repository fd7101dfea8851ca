//! `cargo xtask test --matrix`: the lock, a sale, restarts and the pods' own commands on several versions of Redis,
//! Valkey and PostgreSQL, and which volumes a version can read. The table goes into `docs/VERSIONS.md`.

mod servers;
mod table;
mod volumes;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use self::servers::{DATABASES, NODES, Server};
use self::table::Row;
use super::count::Count;
use super::nextest::{self, Tests};
use crate::shell::{binaries_folder, print, say};
use crate::suites::{self, Source};

/// Part of the tests that run on each set of servers.
struct Part {
    title: &'static str,
    /// Programs of tests; others are not compiled.
    programs: &'static [&'static str],
    filter: &'static str,
    /// Whether it is about one kind of node only.
    one_version: bool,
}

const PARTS: [Part; 4] = [
    Part {
        title: "lock",
        programs: &[
            "combine",
            "damaged",
            "fair",
            "lease",
            "limits",
            "members",
            "mixed",
            "panics",
            "quorum",
            "refusing",
            "renew",
            "renew_far",
            "renew_rules",
            "wiped",
        ],
        filter: "package(redlock)",
        one_version: false,
    },
    Part {
        title: "sale",
        programs: &["app"],
        filter: "test(/^(purchases|orders|atomic|holds|limit_by|order_events|rights|shared_limits)::/)",
        one_version: false,
    },
    Part {
        title: "restarts with and without data",
        programs: &["app"],
        filter: "test(/^(faults|stores|killed|atomic_recovery)::/)",
        one_version: false,
    },
    Part {
        title: "the pods' commands",
        programs: &["steps"],
        filter: "test(/^(redis|probes)::/)",
        one_version: true,
    },
];

/// Runs everything and writes the table. A version that cannot be had, and a test that fails, stop nothing.
pub fn run() -> Result<ExitCode> {
    let mut count = Count::default();
    let nodes = install_all(&NODES, &mut count);
    let databases = install_all(&DATABASES, &mut count);
    ensure!(!nodes.is_empty() && !databases.is_empty(), "no server could be installed");
    let readable = [volumes::of_nodes(&nodes)?, volumes::of_databases(&databases)?];
    table::write_volumes(&readable)?;
    let titles = PARTS.map(|part| part.title);
    let mut rows = Vec::new();
    for (position, node) in nodes.iter().enumerate() {
        // Each database is used by some of the nodes.
        let database = &databases[position % databases.len()];
        rows.push(row(&[node], database, &mut count));
        table::write_results(&rows, &titles)?;
    }
    if let Some(newest) = databases.last() {
        let all: Vec<&Server> = nodes.iter().collect();
        rows.push(row(&all, newest, &mut count));
        table::write_results(&rows, &titles)?;
    }
    count.print();
    Ok(if count.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn install_all(wanted: &[Source], count: &mut Count) -> Vec<Server> {
    let mut installed = Vec::new();
    for source in wanted {
        match suites::install(source).and_then(|root| Server::find(source, &root)) {
            Ok(server) => {
                say(&format!("{} of Debian {}", server.title, source.suites[0]));
                installed.push(server);
            }
            Err(error) => count.check(Err(error.context(source.to_string()))),
        }
    }
    installed
}

/// Runs the parts on these nodes, several of which are a mixed set, and on this database.
fn row(nodes: &[&Server], database: &Server, count: &mut Count) -> Row {
    let mixed = nodes.len() > 1;
    let title = match nodes {
        [node] => node.title.clone(),
        _ => format!("{} nodes, each of another version", nodes.len()),
    };
    let cells = PARTS.iter().map(|part| {
        if mixed && part.one_version {
            return None;
        }
        say(&format!("{title}, {}: {}", database.title, part.title));
        let started = Instant::now();
        let mut results = Count::default();
        match variables(nodes, database) {
            Ok(variables) => tests(part, variables).run(&mut results),
            Err(error) => results.check(Err(error)),
        }
        let cell = (results.passed, results.failures.len());
        print(&format!(
            "{} passed, {} failed in {} s",
            cell.0,
            cell.1,
            started.elapsed().as_secs()
        ));
        results.failures.iter_mut().for_each(|name| *name = format!("{title}: {name}"));
        count.add(results);
        Some(cell)
    });
    let cells = cells.collect();
    Row { nodes: title, database: database.title.clone(), cells }
}

fn tests(part: &Part, variables: Vec<(&'static str, OsString)>) -> Tests {
    let programs = part.programs.iter().flat_map(|name| ["--test", name]);
    let selection = programs.chain(["--filterset", part.filter]).map(str::to_owned).collect();
    Tests { profile: "default", selection, variables, ..Tests::default() }
}

/// What `tests/kit` reads, and a PATH on which the commands of the pods are these versions.
fn variables(nodes: &[&Server], database: &Server) -> Result<Vec<(&'static str, OsString)>> {
    let servers = nodes.iter().map(|node| node.programs.join("redis-server"));
    let servers = std::env::join_paths(servers).context("a path has a colon")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let first: Vec<&Path> = nodes.iter().take(1).map(|node| node.programs.as_path()).collect();
    let folders = first.into_iter().chain([database.programs.as_path()]).map(Path::to_path_buf);
    let others: Vec<PathBuf> = std::env::split_paths(&path).chain([binaries_folder()]).collect();
    let path = std::env::join_paths(folders.chain(others)).context("a path has a colon")?;
    Ok(vec![
        nextest::threads(),
        ("FLASHSALE_REDIS_SERVERS", servers),
        ("FLASHSALE_POSTGRES_BIN", database.programs.clone().into_os_string()),
        ("PATH", path),
    ])
}
