//! Listening sockets.

use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, SocketAddr};

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket};
use tracing::info;

/// Maximum number of connections that wait to be accepted. The system may allow fewer.
const BACKLOG: u32 = 8192;

/// Listens on an address. `[::]` covers IPv6 and IPv4, independently of the system's default. On a
/// system without IPv6 it covers IPv4.
///
/// # Errors
/// When the address is in use, or not an address of this machine.
pub fn listen(address: SocketAddr) -> Result<TcpListener> {
    match bind(address) {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() && no_ipv6(&error) => {
            let instead = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            info!(%error, %address, %instead, "no IPv6 here, listening on IPv4 only");
            bind(instead)
        }
        listening => listening,
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if address.is_ipv6() {
        SockRef::from(&socket).set_only_v6(false)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Whether the kernel has no IPv6, or IPv6 is disabled for this network.
fn no_ipv6(error: &Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use socket2::{Domain, Socket, Type};
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn the_unspecified_address_covers_both_families() {
        let listener = listen((Ipv6Addr::UNSPECIFIED, 0).into()).unwrap();
        let port = listener.local_addr().unwrap().port();
        for address in [
            SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
        ] {
            let _client = TcpStream::connect(address).await.unwrap();
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(peer.ip().to_canonical(), address.ip());
        }
    }

    #[tokio::test]
    async fn an_address_in_use_or_of_another_machine_is_an_error() {
        let listener = listen((Ipv6Addr::UNSPECIFIED, 0).into()).unwrap();
        let taken = listen(listener.local_addr().unwrap()).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        assert!(!no_ipv6(&taken));
        let elsewhere = listen("[2001:db8::1]:0".parse().unwrap()).unwrap_err();
        assert_eq!(elsewhere.kind(), ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn a_missing_address_family_is_recognized() {
        // DECnet: removed in Linux 6.1. A missing IPv6 causes the same error.
        let missing = Socket::new(Domain::from(12), Type::STREAM, None).unwrap_err();
        assert!(no_ipv6(&missing), "{missing:?}");
    }
}
