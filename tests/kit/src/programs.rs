//! Which programs the tests start: those of the machine, or those that `cargo xtask test --matrix` names.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};

/// Paths of `redis-server`, separated by colons: each new server is of the next one.
const REDIS_SERVERS: &str = "FLASHSALE_REDIS_SERVERS";
/// The folder with `postgres` and `initdb`.
const POSTGRES: &str = "FLASHSALE_POSTGRES_BIN";
/// The folder with the programs of a cluster.
const CLUSTER: &str = "FLASHSALE_CLUSTER_BIN";

/// The folder with the programs of Kubernetes, helm and Prometheus.
#[must_use]
pub fn cluster_programs() -> PathBuf {
    let named = std::env::var_os(CLUSTER);
    named.map_or_else(|| PathBuf::from("/var/tmp/flashsale-cluster/bin"), PathBuf::from)
}

/// The program of the next Redis server. A server keeps it when it is started again.
pub(crate) fn redis_server() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let named = std::env::var_os(REDIS_SERVERS).unwrap_or_default();
    let mut programs: Vec<PathBuf> = std::env::split_paths(&named).collect();
    programs.retain(|program| !program.as_os_str().is_empty());
    if programs.is_empty() {
        return PathBuf::from("redis-server");
    }
    programs.swap_remove(NEXT.fetch_add(1, Ordering::Relaxed) % programs.len())
}

/// The folder of PostgreSQL's programs: the named one, else the newest under `/usr/lib/postgresql`.
pub(crate) fn postgres() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(POSTGRES) {
        return Ok(PathBuf::from(named));
    }
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .context("PostgreSQL is not installed (Debian: apt-get install postgresql)")?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("postgres").exists() && bin.join("initdb").exists())
        .collect();
    versions.sort();
    versions.pop().context("no PostgreSQL server under /usr/lib/postgresql")
}
