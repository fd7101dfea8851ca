//! Free loopback ports for servers.

use std::collections::VecDeque;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use anyhow::{Result, bail};
use nix::unistd::getuid;

/// Below the ports that Linux gives to outgoing connections (`ip_local_port_range`): a connection could
/// take one of those before the server listens, or while it restarts. Kubernetes uses none of them
/// either (the kubelet 10250, services 30000 and above).
const SERVER_PORTS: Range<u16> = 11_000..30_000;

/// How many ports a process keeps for itself. Each is an open file.
const KEPT: usize = 200;

/// A loopback port that was free a moment ago. It is given to nobody else, in this process or another, until
/// this process ends or has been given 200 more: a server may restart, or start late.
///
/// # Errors
/// When no port can be bound.
pub fn free_port() -> Result<u16> {
    static NEXT: LazyLock<AtomicUsize> =
        LazyLock::new(|| AtomicUsize::new(rand::random_range(SERVER_PORTS).into()));
    for _ in SERVER_PORTS {
        let next = NEXT.fetch_add(1, Ordering::Relaxed) % SERVER_PORTS.len();
        let port = SERVER_PORTS.start + u16::try_from(next)?;
        if reserve(port)? && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free loopback port among {SERVER_PORTS:?}")
}

/// Locks the port's file; false: it is locked.
fn reserve(port: u16) -> Result<bool> {
    static LOCKED: Mutex<VecDeque<File>> = Mutex::new(VecDeque::new());
    let folder = std::env::temp_dir().join(format!("flashsale-ports-{}", getuid()));
    std::fs::create_dir_all(&folder)?;
    let file = File::create(folder.join(port.to_string()))?;
    if file.try_lock().is_err() {
        return Ok(false);
    }
    let mut locked = LOCKED.lock().unwrap_or_else(PoisonError::into_inner);
    locked.push_back(file);
    if locked.len() > KEPT {
        locked.pop_front();
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_and_are_below_those_of_outgoing_connections() {
        let outgoing = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let lowest: u16 = outgoing.split_whitespace().next().unwrap().parse().unwrap();
        let mut ports: Vec<u16> = (0..100).map(|_| free_port().unwrap()).collect();
        assert!(ports.iter().all(|port| *port < lowest));
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 100);
    }

    #[test]
    fn a_port_is_given_once_though_nobody_listens_on_it_yet() {
        assert!(!reserve(free_port().unwrap()).unwrap());
    }
}
