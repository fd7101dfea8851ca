//! Purchases over a network, in round trips: a vote of the nodes, and a statement.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use testkit::{
    Direction, Link, Packet, PacketFault, Postgres, Proxy, RedisServer, RoundTrips, Way,
};
use tokio_util::sync::CancellationToken;

use crate::common::{Database, SaleSpec, TestSale};

const ONE_WAY: Duration = Duration::from_millis(5);
const TRIES: usize = 9;
const LIMIT: usize = TRIES + 1;
/// A buyer whose first statement is held for a while.
const EARLY: &str = "early";

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

/// Holds the first statement for [`EARLY`] back, long enough for other buyers to come meanwhile.
fn hold_the_first(seen: CancellationToken) -> impl Fn(Packet<'_>) -> PacketFault + Send + Sync {
    move |packet| {
        let is_early = packet.bytes.windows(EARLY.len()).any(|bytes| bytes == EARLY.as_bytes());
        if packet.direction == Direction::ToServer && is_early && !seen.is_cancelled() {
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
