//! Free loopback ports for servers.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, bail};

/// Below the ports that Linux gives to outgoing connections (`ip_local_port_range`): a connection could
/// take one of those before the server listens, or while it restarts. Kubernetes uses none of them
/// either (the kubelet 10250, services 30000 and above).
const SERVER_PORTS: Range<u16> = 11_000..30_000;

/// A loopback port that was free a moment ago. This process gets the same one again only after all
/// others.
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
}
