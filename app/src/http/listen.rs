//! The sockets.

use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, SocketAddr};

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket};
use tracing::info;

/// How many may connect before the first of them is accepted; the system may allow fewer.
const BACKLOG: u32 = 8192;

/// Listens on this address. `[::]` is every address of both IPv6 and IPv4, whatever the system's
/// default; where the system has no IPv6, it is every address of IPv4.
///
/// # Errors
/// When the address is taken, or none of this machine.
pub fn listen(address: SocketAddr) -> Result<TcpListener> {
    match bind(address) {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() && no_ipv6(&error) => {
            let instead = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            info!(%error, %address, %instead, "no IPv6 here, listening on IPv4 alone");
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

/// The system was started without IPv6, or it is switched off for this network.
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
    async fn every_address_is_of_both_families() {
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
    async fn an_address_that_is_taken_or_of_another_machine_is_an_error() {
        let listener = listen((Ipv6Addr::UNSPECIFIED, 0).into()).unwrap();
        let taken = listen(listener.local_addr().unwrap()).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        assert!(!no_ipv6(&taken));
        let elsewhere = listen("[2001:db8::1]:0".parse().unwrap()).unwrap_err();
        assert_eq!(elsewhere.kind(), ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn a_family_that_the_system_lacks_is_known_by_its_error() {
        // DECnet, which Linux has not had since 6.1; no IPv6 is the same error.
        let missing = Socket::new(Domain::from(12), Type::STREAM, None).unwrap_err();
        assert!(no_ipv6(&missing), "{missing:?}");
    }
}
