//! What lies between the replicas and their stores: nothing, or proxies that take the time of a network.

use std::time::Duration;

use anyhow::Result;
use testkit::{Link, PacketFault, Postgres, Proxy, RoundTrips, Way};

/// Where the replicas find the stores.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) nodes: Vec<String>,
    pub(super) database_url: String,
    /// Of all proxies.
    pub(super) round_trips: RoundTrips,
    /// They end with it.
    _proxies: Vec<Proxy>,
}

impl Network {
    /// A proxy before each node and before PostgreSQL, if there is a network; zero: the proxies alone.
    pub(super) async fn start(
        round_trip: Option<Duration>,
        nodes: &[String],
        postgres: Option<&Postgres>,
        database_url: &str,
    ) -> Result<Self> {
        let round_trips = RoundTrips::default();
        let (mut nodes, mut database_url) = (nodes.to_vec(), database_url.to_owned());
        let mut proxies = Vec::new();
        if let Some(round_trip) = round_trip {
            for address in &mut nodes {
                let proxy = proxy(address, round_trip, &round_trips).await?;
                proxy.address().clone_into(address);
                proxies.push(proxy);
            }
            if let Some(address) = postgres.map(Postgres::address) {
                let proxy = proxy(&address, round_trip, &round_trips).await?;
                database_url = database_url.replace(&address, proxy.address());
                proxies.push(proxy);
            }
        }
        Ok(Self { nodes, database_url, round_trips, _proxies: proxies })
    }
}

async fn proxy(address: &str, round_trip: Duration, counted: &RoundTrips) -> Result<Proxy> {
    let pass = |_: testkit::Packet<'_>| PacketFault::None;
    let proxy = Proxy::start_counted(address.to_owned(), counted.clone(), pass).await?;
    if !round_trip.is_zero() {
        proxy.set(Link::both(Way::Slow(round_trip / 2)));
    }
    Ok(proxy)
}
