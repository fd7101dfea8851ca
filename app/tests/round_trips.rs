//! Purchases over a network, in round trips: a vote of the nodes, and a statement.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::{
    Direction, Link, Packet, PacketFault, Postgres, Proxy, RedisServer, RoundTrips, Way,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::common::{Database, SaleSpec, TestSale};

const ONE_WAY: Duration = Duration::from_millis(5);
const TRIES: usize = 9;
const LIMIT: usize = TRIES + 1;
/// A buyer whose first statement is held for a while.
const EARLY: &str = "early";
/// With `Atomic`: how long the node's replies are on their way.
const REPLY: Duration = Duration::from_millis(30);
const FIRST: &str = "the first buyer";
const SECOND: &str = "the second buyer";

/// A sale whose nodes, and PostgreSQL, are a network away.
struct FarSale {
    sale: TestSale,
    trips: RoundTrips,
    nodes: Vec<RedisServer>,
    /// The statement for [`EARLY`] has reached PostgreSQL.
    early: CancellationToken,
    _proxies: Vec<Proxy>,
    _postgres: Option<Arc<Postgres>>,
}

impl FarSale {
    async fn start(database: Database, order: &str) -> Self {
        let trips = RoundTrips::default();
        let nodes = RedisServer::start_many(5).unwrap();
        let mut proxies = Vec::new();
        let pass = |_: Packet<'_>| PacketFault::None;
        let early = CancellationToken::new();
        for node in &nodes {
            let proxy = Proxy::start_counted(node.address(), trips.clone(), pass).await.unwrap();
            proxies.push(proxy);
        }
        let addresses: Vec<&str> = proxies.iter().map(Proxy::address).collect();
        let mut settings =
            vec![("REDIS_NODES", addresses.join(",")), ("LOCK_ORDER", order.to_owned())];
        let mut server = None;
        if database == Database::Postgres {
            let postgres = Postgres::shared().unwrap();
            let url = postgres.new_database().unwrap();
            let hold = hold_the_first(early.clone());
            let proxy =
                Proxy::start_counted(postgres.address(), trips.clone(), hold).await.unwrap();
            settings.push(("DATABASE_URL", url.replace(&postgres.address(), proxy.address())));
            proxies.push(proxy);
            server = Some(postgres);
        }
        let products = json!([
            {"id": "any", "name": "Console", "stock": 1_000},
            {"id": "limited", "name": "Console", "stock": 1_000, "max_per_buyer": LIMIT},
        ]);
        let spec = SaleSpec { nodes: 0, products, settings, ..SaleSpec::on(Database::Sqlite) };
        let sale = TestSale::start(spec).await;
        for proxy in &proxies {
            proxy.set(Link::both(Way::Slow(ONE_WAY)));
        }
        Self { sale, trips, nodes, early, _proxies: proxies, _postgres: server }
    }

    /// The round trips of a purchase: the fewest of some, as a third of them has. Others have a task of the replica beside them.
    async fn purchases(
        &self,
        product: &str,
        keys: impl Fn(usize) -> Option<String>,
        status: u16,
    ) -> u64 {
        let buyer = self.sale.buyer("ann");
        let mut counts = Vec::new();
        for number in 0..TRIES {
            self.trips.quiet(6 * ONE_WAY).await;
            let before = self.trips.count();
            let answer = buyer.buy(product, 1, keys(number).as_deref()).await;
            counts.push(self.trips.count() - before);
            assert_eq!(answer.status, status, "{answer:?}");
        }
        counts.sort_unstable();
        eprintln!("{product}: {counts:?}");
        assert_eq!(counts[0], counts[TRIES / 3], "{counts:?}");
        counts[0]
    }

    async fn check(&self, expected: u64) {
        for product in ["any", "limited"] {
            let key = |number| Some(format!("{product}-{number}"));
            assert_eq!(self.purchases(product, |_| None, 201).await, expected, "no key");
            if product == "any" {
                assert_eq!(self.purchases(product, key, 201).await, expected, "a new key");
                assert_eq!(self.purchases(product, key, 201).await, expected, "a known key");
            }
        }
        let first = |_| Some("first".to_owned());
        // One is left, and then none.
        assert_eq!(self.purchases("limited", first, 201).await, expected, "a known key");
        assert_eq!(self.purchases("limited", |_| None, 409).await, expected, "at the limit");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_alone_is_a_vote_and_a_statement() {
    for order in ["Unordered", "Fair"] {
        FarSale::start(Database::Postgres, order).await.check(2).await;
    }
}

/// Whether a packet to a store names this buyer.
fn names(packet: Packet<'_>, buyer: &str) -> bool {
    packet.direction == Direction::ToServer
        && packet.bytes.windows(buyer.len()).any(|bytes| bytes == buyer.as_bytes())
}

/// Holds the first statement for [`EARLY`] back, long enough for other buyers to come meanwhile.
fn hold_the_first(seen: CancellationToken) -> impl Fn(Packet<'_>) -> PacketFault + Send + Sync {
    move |packet| {
        if names(packet, EARLY) && !seen.is_cancelled() {
            seen.cancel();
            return PacketFault::Delay(40 * ONE_WAY);
        }
        PacketFault::None
    }
}

/// The others come while the statement for the first buyer is under way. That a renewed batch is one round trip is
/// counted in `redlock/tests/renew_far.rs`.
#[tokio::test(flavor = "multi_thread")]
async fn a_sale_far_away_renews_its_lock_for_buyers_who_wait() {
    const PURCHASES: usize = 12;
    let far = FarSale::start(Database::Postgres, "Unordered").await;
    let buyers = [EARLY, "a", "b", "c"].map(|name| {
        let (buyer, far) = (far.sale.buyer(name), &far);
        async move {
            if name != EARLY {
                far.early.cancelled().await;
            }
            for _ in 0..PURCHASES {
                assert_eq!(buyer.buy("any", 1, None).await.status, 201);
            }
        }
    });
    futures::future::join_all(buyers).await;
    for node in &far.nodes {
        // Only a renewal counts the slots that wait.
        assert!(node.calls("zcount").unwrap() > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_it_is_a_vote() {
    FarSale::start(Database::Sqlite, "Unordered").await.check(1).await;
}

/// When a message that names this buyer reaches the node.
async fn arrival(came: &mut mpsc::UnboundedReceiver<(&'static str, Instant)>, of: &str) -> Instant {
    loop {
        let (buyer, at) = came.recv().await.unwrap();
        if buyer == of {
            return at;
        }
    }
}

/// Purchases of two products are two small messages on one connection, the second one sent while the first one has no
/// reply. The proxy's kernel keeps the acknowledgement of the first one back until that reply, so with Nagle's algorithm
/// the second one would come with it.
#[tokio::test(flavor = "multi_thread")]
async fn with_atomic_no_small_message_waits_for_an_acknowledgement() {
    let settings =
        vec![("STRATEGY", "Atomic".to_owned()), ("LOCK_TIMEOUT_SECONDS", "1".to_owned())];
    let products = json!([
        {"id": "a", "name": "Console", "stock": 100},
        {"id": "b", "name": "Game", "stock": 100},
    ]);
    let spec =
        SaleSpec { nodes: 1, replicas: 0, products, settings, ..SaleSpec::on(Database::Sqlite) };
    let mut sale = TestSale::start(spec).await;
    let (sender, mut came) = mpsc::unbounded_channel();
    let watch = move |packet: Packet<'_>| {
        for buyer in [FIRST, SECOND] {
            if names(packet, buyer) {
                let _ = sender.send((buyer, Instant::now()));
            }
        }
        PacketFault::None
    };
    let proxy = Proxy::start_with(sale.nodes[0].address(), watch).await.unwrap();
    proxy.set(Link { to_server: Way::Slow(Duration::ZERO), to_client: Way::Slow(REPLY) });
    sale.settings.insert("REDIS_NODES", proxy.address().to_owned());
    sale.add_replica().await;
    sale.await_ready(0).await;
    let (first, second) = (sale.buyer(FIRST), sale.buyer(SECOND));
    let mut shortest = Duration::MAX;
    for _ in 0..TRIES {
        // The orders of the try before are recorded, so no other message waits for its reply.
        proxy.round_trips().quiet(4 * REPLY).await;
        while came.try_recv().is_ok() {}
        let gap = async {
            let before = arrival(&mut came, FIRST).await;
            let (answer, at) = tokio::join!(second.buy("b", 1, None), arrival(&mut came, SECOND));
            assert_eq!(answer.status, 201, "{answer:?}");
            at - before
        };
        let (answer, gap) = tokio::join!(first.buy("a", 1, None), gap);
        assert_eq!(answer.status, 201, "{answer:?}");
        shortest = shortest.min(gap);
    }
    assert!(shortest < REPLY * 2 / 3, "{shortest:?}");
}
