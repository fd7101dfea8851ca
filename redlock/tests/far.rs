//! Nodes behind a network that takes its time.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{config, connected, patient, policy};
use redlock::{NodeConfig, QueueDiscipline};
use testkit::{Direction, Link, Packet, PacketFault, Proxy, RedisServer, RoundTrips, Way};

const ONE_WAY: Duration = Duration::from_millis(10);

/// When script calls came to the nodes: the node, the time, and how many were in the packet.
type Calls = Arc<Mutex<Vec<(usize, Instant, usize)>>>;

struct Far {
    nodes: Vec<RedisServer>,
    proxies: Vec<Proxy>,
    calls: Calls,
}

impl Far {
    async fn start() -> Self {
        let nodes = RedisServer::start_many(5).unwrap();
        let (trips, calls) = (RoundTrips::default(), Calls::default());
        let mut proxies = Vec::new();
        for (number, node) in nodes.iter().enumerate() {
            let calls = Arc::clone(&calls);
            let count = move |packet: Packet<'_>| {
                let found = packet.bytes.windows(7).filter(|bytes| *bytes == b"EVALSHA").count();
                if packet.direction == Direction::ToServer && found > 0 {
                    calls.lock().unwrap().push((number, Instant::now(), found));
                }
                PacketFault::None
            };
            let proxy = Proxy::start_counted(node.address(), trips.clone(), count).await.unwrap();
            proxy.set(Link::both(Way::Slow(ONE_WAY)));
            proxies.push(proxy);
        }
        Self { nodes, proxies, calls }
    }

    async fn client(&self) -> redlock::Redlock {
        let node =
            |proxy: &Proxy| NodeConfig { address: proxy.address().to_owned(), password: None };
        let nodes = self.proxies.iter().map(node).collect();
        connected(&redlock::Config { nodes, ..config(&self.nodes) }).await
    }

    fn trips(&self) -> &RoundTrips {
        self.proxies[0].round_trips()
    }
}

/// A release and the vote right behind it are two small messages on one connection. The proxies keep back the
/// acknowledgement of the first one, so with Nagle's algorithm the second one would come 20 ms later or more.
#[tokio::test(flavor = "multi_thread")]
async fn no_small_message_waits_for_an_acknowledgement() {
    let far = Far::start().await;
    let redlock = far.client().await;
    let mut shortest = Duration::MAX;
    for _ in 0..10 {
        let lease = redlock.acquire("x", patient()).await.unwrap();
        far.trips().quiet(4 * ONE_WAY).await;
        far.calls.lock().unwrap().clear();
        lease.release_in_background(&[]);
        drop(redlock.acquire("x", patient()).await.unwrap());
        let mut came: HashMap<usize, Vec<Instant>> = HashMap::new();
        for (node, at, count) in far.calls.lock().unwrap().iter() {
            came.entry(*node).or_default().extend(std::iter::repeat_n(*at, *count));
        }
        let gaps = came.values().filter(|times| times.len() >= 2).map(|times| times[1] - times[0]);
        shortest = shortest.min(gaps.max().unwrap());
    }
    assert!(shortest < ONE_WAY, "{shortest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acquisition_is_one_round_trip() {
    let far = Far::start().await;
    let redlock = far.client().await;
    for discipline in [QueueDiscipline::Unordered, QueueDiscipline::Fair] {
        let policy = redlock::Policy { discipline, ..policy(20 * common::LEASE, common::LEASE) };
        let mut fewest = u64::MAX;
        for _ in 0..10 {
            far.trips().quiet(4 * ONE_WAY).await;
            let before = far.trips().count();
            let lease = redlock.acquire("y", policy).await.unwrap();
            fewest = fewest.min(far.trips().count() - before);
            lease.release().await;
        }
        assert_eq!(fewest, 1, "{discipline:?}");
    }
}
