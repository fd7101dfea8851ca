//! How a server is started.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::faketime;

/// How a server runs, the same after each of its restarts.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Settings {
    pub(super) clock: Clock,
    pub(super) fsync: Fsync,
    pub(super) disk: Disk,
    pub(super) user: Option<User>,
    /// A process group of its own.
    pub(super) own_group: bool,
}

/// A user beside the default one.
#[derive(Debug, Clone, Copy)]
pub struct User {
    /// Its name.
    pub name: &'static str,
    /// Its password and its rights, as `ACL SETUSER` takes them.
    pub rules: &'static str,
}

/// When a server's writes are on its disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fsync {
    /// At most a second later: for nodes of a lock.
    #[default]
    EverySecond,
    /// Before they are answered: for a node that decides.
    Always,
}

/// What a server takes for the time of day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Clock {
    /// The machine's.
    #[default]
    Machine,
    /// One that a test sets.
    Own,
}

/// Where a server's data are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Disk {
    /// In a temporary folder.
    #[default]
    Machine,
    /// On a file system of a megabyte that only the server sees.
    Small,
}

/// Starts the program with these settings.
pub(super) fn spawn(
    program: &Path,
    port: u16,
    data: &TempDir,
    settings: Settings,
    more: &[&str],
) -> Result<Child> {
    let fsync = match settings.fsync {
        Fsync::EverySecond => "everysec",
        Fsync::Always => "always",
    };
    let user = settings
        .user
        .map(|User { name, rules }| ["--user", name].into_iter().chain(rules.split(' ')));
    let log = File::create(data.path().join("redis.log"))?;
    let mut redis = match settings.disk {
        Disk::Machine => Command::new(program),
        Disk::Small => on_small_disk(data.path(), program),
    };
    if settings.clock == Clock::Own {
        redis.envs(faketime::environment(data.path())?);
    }
    if settings.own_group {
        redis.process_group(0);
    }
    redis
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(["--appendonly", "yes", "--appendfsync", fsync])
        .arg("--dir")
        .arg(data.path())
        .args(more)
        .args(user.into_iter().flatten())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start redis-server (Debian: apt-get install redis-server)")
}

/// The program in a mount namespace of its own, with a small file system at `folder`.
fn on_small_disk(folder: &Path, program: &Path) -> Command {
    let mount = "mount -t tmpfs -o size=1m none \"$1\" && shift && exec \"$@\"";
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "sh", "-c", mount, "sh"]).arg(folder).arg(program);
    command
}
