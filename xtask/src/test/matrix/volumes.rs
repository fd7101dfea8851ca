//! Which version can read the volume of which other.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::unistd::getuid;
use testkit::RedisServer;

use super::servers::Server;
use crate::shell::say;

/// Who can read whose data.
pub(super) struct Readable {
    /// Above the table.
    pub title: &'static str,
    /// Names of the versions.
    pub versions: Vec<String>,
    /// For each version that wrote: whether each version can read it.
    pub by: Vec<Vec<bool>>,
}

/// Data of all the kinds that a sale has, in the file that a node rewrites from time to time.
const FILL: &str = "EVAL \"for n = 1, 100 do redis.call('SET', 'fence:' .. n, n) \
    redis.call('HSET', 'sale:' .. n, 'a', n, 'b', n) redis.call('ZADD', 'queue:1', n, n) \
    redis.call('XADD', 'orders:1', '*', 'a', n) end\" 0";
const KEYS: &str = ":202\r\n";

/// Redis and Valkey.
pub(super) fn of_nodes(nodes: &[Server]) -> Result<Readable> {
    say("volumes of Redis and Valkey");
    let mut by = Vec::new();
    for writer in nodes {
        let read = |reader: &Server| -> Result<bool> {
            let mut server = RedisServer::start_program(&writer.programs.join("redis-server"))?;
            server.command(FILL)?;
            server.rewrite_data()?;
            if server.restart_with_program(&reader.programs.join("redis-server")).is_err() {
                return Ok(false);
            }
            let keys = server.command("DBSIZE")?;
            ensure!(keys == KEYS, "{} read {keys:?} of {}", reader.title, writer.title);
            Ok(true)
        };
        by.push(nodes.iter().map(read).collect::<Result<_>>()?);
    }
    let versions = nodes.iter().map(|node| node.title.clone()).collect();
    Ok(Readable { title: "Volume of a Redis node", versions, by })
}

/// PostgreSQL: whether the server accepts the folder.
pub(super) fn of_databases(databases: &[Server]) -> Result<Readable> {
    say("volumes of PostgreSQL");
    let mut by = Vec::new();
    for writer in databases {
        let folder = tempfile::tempdir()?;
        if getuid().is_root() {
            crate::shell::run(Command::new("chown").arg("postgres").arg(folder.path()))?;
        }
        let data = folder.path().join("data");
        let made = program(&writer.programs.join("initdb"))
            .args(["--no-sync", "--auth=trust", "--username=postgres", "-D"])
            .arg(&data)
            .status()
            .context("initdb")?;
        ensure!(made.success(), "initdb of {} failed: {made}", writer.title);
        let accepts = |reader: &Server| -> Result<bool> {
            // A server for one session, which ends with its input. `-C` would not check the folder.
            let mut postgres = program(&reader.programs.join("postgres"));
            postgres.args(["--single", "-D"]).arg(&data).arg("postgres");
            postgres.stdin(Stdio::null()).stderr(Stdio::null());
            Ok(postgres.status()?.success())
        };
        by.push(databases.iter().map(accepts).collect::<Result<_>>()?);
    }
    let versions = databases.iter().map(|database| database.title.clone()).collect();
    Ok(Readable { title: "Volume of the sale's own database", versions, by })
}

/// A program of PostgreSQL, which root may not run.
fn program(path: &Path) -> Command {
    let mut command = if getuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(path);
        command
    } else {
        Command::new(path)
    };
    command.current_dir("/").stdout(Stdio::null());
    command
}
