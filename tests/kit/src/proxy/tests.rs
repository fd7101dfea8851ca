use std::sync::atomic::Ordering;

use super::*;
use crate::echo::raw_round_trips;

async fn echo() -> String {
    crate::echo::echo().await.unwrap()
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

#[tokio::test]
async fn a_delay_is_exact_to_a_fraction_of_a_millisecond() {
    let one_way = Duration::from_micros(1_250);
    let times = raw_round_trips(Link::both(Way::Slow(one_way)), 200).await.unwrap();
    assert!(times[0] >= 2 * one_way, "{times:?}");
    // The fastest fifth: the machine may be busy.
    assert!(times[times.len() / 5] < 2 * one_way + Duration::from_micros(700), "{times:?}");
}

#[tokio::test]
async fn round_trips_count_that_wait_for_each_other() {
    let trips = RoundTrips::default();
    let mut clients = Vec::new();
    let mut proxies = Vec::new();
    for _ in 0..2 {
        let faults = |_: Packet<'_>| PacketFault::None;
        let proxy = Proxy::start_counted(echo().await, trips.clone(), faults).await.unwrap();
        proxy.set(Link::both(Way::Slow(Duration::from_millis(2))));
        clients.push(TcpStream::connect(proxy.address()).await.unwrap());
        proxies.push(proxy);
    }
    trips.quiet(SHORT).await;
    let before = trips.count();
    // Both at once, and then one after the other.
    for client in &mut clients {
        client.write_u8(1).await.unwrap();
    }
    for client in &mut clients {
        assert!(answers(client, LONG).await);
    }
    assert_eq!(trips.count() - before, 1);
    for client in &mut clients {
        client.write_u8(1).await.unwrap();
        assert!(answers(client, LONG).await);
    }
    assert_eq!(trips.count() - before, 3);
}

/// How long two small messages, the second right behind the first, take to a server that never answers.
async fn gap_of_two_messages(nodelay: bool) -> Duration {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap().to_string()).await.unwrap();
    proxy.set(Link::both(Way::Slow(Duration::ZERO)));
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    client.set_nodelay(nodelay).unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    // The acknowledgement of the first byte may be sent before the proxy has its connection.
    client.write_u8(0).await.unwrap();
    server.read_u8().await.unwrap();
    // Before the one that is acknowledged late: a busy machine may run this task when that time is nearly over.
    let began = Instant::now();
    for byte in 1..3 {
        client.write_u8(byte).await.unwrap();
        server.read_u8().await.unwrap();
    }
    began.elapsed()
}

#[tokio::test]
async fn acknowledgements_are_kept_back() {
    let mut gaps = Vec::new();
    for nodelay in [false, true] {
        let mut shortest = LONG;
        for _ in 0..5 {
            shortest = shortest.min(gap_of_two_messages(nodelay).await);
        }
        gaps.push(shortest);
    }
    assert!(gaps[0] > Duration::from_millis(30) && gaps[1] < Duration::from_millis(20), "{gaps:?}");
}
