//! Real `redis-server` and `postgres` processes on free loopback ports, for tests and for
//! `cargo xtask local`. Each lives in a temporary folder and ends when it is dropped. And a proxy
//! to fail the network between them and their clients, and a browser.
//!
//! Knows processes and bytes only: no client library, no product code.

mod browser;
mod faketime;
mod postgres;
mod proxy;
mod redis;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub use browser::Browser;
pub use postgres::Postgres;
pub use proxy::{Link, Proxy, Way};
pub use redis::{Fsync, RedisServer};

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A loopback port that was free a moment ago.
///
/// # Errors
/// When no port can be bound.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free loopback port")?;
    Ok(listener.local_addr()?.port())
}

/// Polls `ready` until it answers true, the process ends, or half a minute has passed.
fn await_ready(child: &mut Child, name: &str, ready: impl Fn() -> bool) -> Result<()> {
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

fn accepts_connections(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn signal(child: &Child, signal: Signal) -> Result<()> {
    let pid = i32::try_from(child.id()).context("process id")?;
    kill(Pid::from_raw(pid), signal).with_context(|| format!("cannot send {signal} to {pid}"))
}
