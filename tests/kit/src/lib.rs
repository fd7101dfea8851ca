//! Real `redis-server`, `postgres` and `pgbouncer` processes on free loopback ports, for tests and for
//! `cargo xtask local`. Each lives in a temporary folder and ends when it is dropped. And a proxy
//! to fail the network between them and their clients, and a browser.
//!
//! Knows processes and bytes only: no client library, no product code.

mod browser;
mod faketime;
mod pgbouncer;
mod postgres;
mod proxy;
mod redis;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::ops::Range;
use std::process::Child;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub use browser::Browser;
pub use pgbouncer::PgBouncer;
pub use postgres::Postgres;
pub use proxy::{Direction, Link, Packet, PacketFault, Proxy, Way};
pub use redis::{Fsync, RedisServer};

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Below those that Linux gives to outgoing connections (`ip_local_port_range`): one of those would
/// be taken by a connection before the server that it is meant for listens, or restarts. Nor are they
/// ports of Kubernetes (10250 of the kubelet, from 30000 on those of services).
const SERVER_PORTS: Range<u16> = 11_000..30_000;

/// A loopback port that was free a moment ago, and that this process is not told again soon.
///
/// # Errors
/// When no port can be bound.
pub fn free_port() -> Result<u16> {
    static NEXT: LazyLock<AtomicUsize> =
        LazyLock::new(|| AtomicUsize::new(rand::random_range(SERVER_PORTS).into()));
    for _ in SERVER_PORTS {
        let next = NEXT.fetch_add(1, Ordering::Relaxed) % SERVER_PORTS.len();
        let port = SERVER_PORTS.start + u16::try_from(next)?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free loopback port among {SERVER_PORTS:?}")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_told_twice_and_none_is_one_of_outgoing_connections() {
        let outgoing = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let lowest: u16 = outgoing.split_whitespace().next().unwrap().parse().unwrap();
        let mut told: Vec<u16> = (0..100).map(|_| free_port().unwrap()).collect();
        assert!(told.iter().all(|port| *port < lowest));
        told.sort_unstable();
        told.dedup();
        assert_eq!(told.len(), 100);
    }
}
