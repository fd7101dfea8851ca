use std::sync::atomic::Ordering;

use super::*;

/// A server that answers each byte with itself.
async fn echo() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = client.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

async fn answers(client: &mut TcpStream, within: Duration) -> bool {
    tokio::time::timeout(within, client.read_u8()).await.is_ok_and(|read| read.is_ok())
}

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn what_is_cut_arrives_when_the_way_is_open_again() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    client.write_u8(1).await.unwrap();
    assert!(answers(&mut client, LONG).await);
    let cut = |to_server, to_client| Link { to_server, to_client };
    for link in [cut(Way::Cut, Way::Open), cut(Way::Open, Way::Cut), Link::both(Way::Cut)] {
        proxy.set(link);
        client.write_u8(2).await.unwrap();
        assert!(!answers(&mut client, SHORT).await, "{link:?}");
        proxy.set(Link::default());
        assert!(answers(&mut client, LONG).await, "{link:?}");
    }
}

#[tokio::test]
async fn a_slow_way_delays_each_piece_once() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    proxy.set(Link::both(Way::Slow(SHORT)));
    let started = Instant::now();
    client.write_u8(1).await.unwrap();
    assert!(answers(&mut client, LONG).await);
    assert!(started.elapsed() >= 2 * SHORT);
}

#[tokio::test]
async fn stalled_connections_stay_so_and_new_ones_work() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let mut old = TcpStream::connect(proxy.address()).await.unwrap();
    old.write_u8(1).await.unwrap();
    assert!(answers(&mut old, LONG).await);
    proxy.stall_connections();
    old.write_u8(1).await.unwrap();
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    new.write_u8(1).await.unwrap();
    assert!(answers(&mut new, LONG).await);
    assert!(!answers(&mut old, SHORT).await);
}

#[tokio::test]
async fn a_fault_hits_one_packet_and_what_is_behind_it() {
    let faults = |fault| {
        // The second packet to the server.
        let number = std::sync::atomic::AtomicU64::new(0);
        move |packet: Packet<'_>| match packet.direction {
            Direction::ToServer if number.fetch_add(1, Ordering::Relaxed) == 1 => fault,
            _ => PacketFault::None,
        }
    };
    for (fault, arrives) in [
        (PacketFault::Delay(SHORT), true),
        (PacketFault::Split(SHORT), true),
        (PacketFault::Stall, false),
        (PacketFault::Close, false),
    ] {
        let proxy = Proxy::start_with(echo().await, faults(fault)).await.unwrap();
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        client.write_all(b"ab").await.unwrap();
        assert_eq!(client.read_u16().await.unwrap(), u16::from_be_bytes(*b"ab"));
        let started = Instant::now();
        client.write_all(b"cd").await.unwrap();
        if arrives {
            assert_eq!(client.read_u16().await.unwrap(), u16::from_be_bytes(*b"cd"), "{fault:?}");
            assert!(started.elapsed() >= SHORT, "{fault:?}");
        } else if fault == PacketFault::Close {
            assert!(client.read_u8().await.is_err());
        } else {
            assert!(!answers(&mut client, SHORT).await);
        }
    }
}
