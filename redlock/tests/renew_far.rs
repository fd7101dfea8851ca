//! Batches that follow each other, with nodes and a database that are a network away.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{config, connected, connection, patient, until};
use redlock::{
    Batch, Combiner, CombinerConfig, Config, Entry, Lease, NodeConfig, Policy, QueueDiscipline,
};
use testkit::{Link, PacketFault, Proxy, RedisServer, RoundTrips, Way};

/// A batch that asks a database.
struct Asking {
    database: redis::aio::MultiplexedConnection,
    discipline: QueueDiscipline,
    begun: AtomicUsize,
}

impl Batch for Asking {
    type Item = ();
    type Output = ();

    fn policy(&self, _resource: &str, _item: &()) -> Policy {
        Policy { discipline: self.discipline, ..patient() }
    }

    async fn execute(
        &self,
        resource: &str,
        lease: Lease,
        entries: Vec<Entry<(), ()>>,
    ) -> Vec<Entry<(), ()>> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        redis::cmd("PING").exec_async(&mut self.database.clone()).await.unwrap();
        lease.release_in_background(&[(resource, "9".to_owned())]);
        for entry in entries {
            entry.reply(());
        }
        Vec::new()
    }
}

const ONE_WAY: Duration = Duration::from_millis(10);

/// Nodes and a database that are a network away.
struct Far {
    trips: RoundTrips,
    combiner: Arc<Combiner<Asking>>,
    _servers: Vec<RedisServer>,
    _proxies: Vec<Proxy>,
}

impl Far {
    async fn start(discipline: QueueDiscipline) -> Self {
        let (mut servers, database) =
            (RedisServer::start_many(5).unwrap(), RedisServer::start().unwrap());
        let (trips, mut proxies) = (RoundTrips::default(), Vec::new());
        for server in servers.iter().chain([&database]) {
            let pass = |_: testkit::Packet<'_>| PacketFault::None;
            let proxy = Proxy::start_counted(server.address(), trips.clone(), pass).await.unwrap();
            proxy.set(Link::both(Way::Slow(ONE_WAY)));
            proxies.push(proxy);
        }
        let node =
            |proxy: &Proxy| NodeConfig { address: proxy.address().to_owned(), password: None };
        let far = Config { nodes: proxies[..5].iter().map(node).collect(), ..config(&servers) };
        servers.push(database);
        let database = connection(proxies[5].address()).await;
        let asking = Asking { database, discipline, begun: AtomicUsize::new(0) };
        let one = CombinerConfig { batch: 1, ..CombinerConfig::default() };
        let combiner = Arc::new(Combiner::new(connected(&far).await, asking, one));
        Self { trips, combiner, _servers: servers, _proxies: proxies }
    }

    /// The round trips of `callers` callers who make `calls` calls, with a batch for each call: the
    /// fewest of some tries, because a caller whom a busy machine delays comes too late for the renewal.
    async fn fewest_trips(&self, callers: usize, calls: usize) -> u64 {
        let (batches, mut fewest) = (callers * calls, u64::MAX);
        for _ in 0..20 {
            self.trips.quiet(4 * ONE_WAY).await;
            let before = self.trips.count();
            let begun = self.begun();
            let mut all = tokio::task::JoinSet::new();
            for number in 0..callers {
                let combiner = Arc::clone(&self.combiner);
                all.spawn(async move {
                    for _ in 0..calls {
                        combiner.submit("x", ()).await.unwrap();
                    }
                });
                if number == 0 {
                    until("the first batch has begun", || self.begun() > begun).await;
                }
            }
            all.join_all().await;
            fewest = fewest.min(self.trips.count() - before);
            assert_eq!(self.begun() - begun, batches);
            if fewest <= 1 + batches as u64 {
                break;
            }
        }
        fewest
    }

    fn begun(&self) -> usize {
        self.combiner.batch().begun.load(Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn consecutive_batches_are_one_round_trip_each() {
    const BATCHES: usize = 10;
    let far = Far::start(QueueDiscipline::Unordered).await;
    let trips = far.fewest_trips(BATCHES, 1).await;
    assert_eq!(trips, 1 + BATCHES as u64, "the lock once, and a statement for each");
}

/// Two callers by turns: each takes its ticket while the other one is served.
#[tokio::test(flavor = "multi_thread")]
async fn in_fair_order_they_are_too() {
    const CALLS: usize = 10;
    let far = Far::start(QueueDiscipline::Fair).await;
    let trips = far.fewest_trips(2, CALLS).await;
    assert_eq!(trips, 1 + 2 * CALLS as u64, "the lock once, and a statement for each");
}
