//! Child processes: started without root's rights, waited for, and signalled.

use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getuid};

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Polls `ready` until it returns true; fails when the process ends first, or after half a minute.
pub(crate) fn await_ready(child: &mut Child, name: &str, ready: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + START_TIMEOUT;
    while !ready() {
        if let Some(status) = child.try_wait()? {
            bail!("{name} ended at start: {status}");
        }
        if Instant::now() > deadline {
            bail!("{name} did not answer within {START_TIMEOUT:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

pub(crate) fn accepts_connections(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

pub(crate) fn signal(child: &Child, signal: Signal) -> Result<()> {
    let pid = i32::try_from(child.id()).context("process id")?;
    kill(Pid::from_raw(pid), signal).with_context(|| format!("cannot send {signal} to {pid}"))
}

/// PostgreSQL and PgBouncer refuse to run as root, so root starts them as Debian's user `postgres`.
pub(crate) fn unprivileged(program: &Path) -> Command {
    if !getuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    // The user cannot enter root's folders.
    command.current_dir("/");
    command
}
