//! A TCP proxy before one server, through which a network takes its time or fails: either direction
//! can be held back or delayed, for the connections that are open and for new ones, and single packets
//! can be delayed, split or lost.
//!
//! A delay is of what is sent, however much it is: throughput stays. A delayed client waits for its
//! acknowledgements too: the proxy's kernel keeps them back until there is a reply to carry them, or for
//! 40 ms. (It cannot delay them by a given time.) How far a delay is off is measured by
//! [`crate::raw_round_trips`].

mod round_trips;
mod timer;

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use round_trips::Connection;
use timer::Timer;

pub use round_trips::RoundTrips;

/// What becomes of what is sent in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Way {
    /// It arrives.
    #[default]
    Open,
    /// It arrives this much later.
    Slow(Duration),
    /// Nothing arrives until the way is open again; then all of it does, in order, as TCP repeats
    /// what a partition swallowed. Connections stay open meanwhile, and their ends get no error.
    Cut,
}

/// Both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Link {
    /// From the client to the server.
    pub to_server: Way,
    /// From the server to the client.
    pub to_client: Way,
}

impl Link {
    /// Both directions alike.
    #[must_use]
    pub fn both(way: Way) -> Self {
        Self { to_server: way, to_client: way }
    }
}

/// What the forwarding tasks follow.
#[derive(Debug, Clone, Copy)]
struct State {
    link: Link,
    /// Connections that were accepted before this one are cut for good.
    oldest_alive: u64,
    accepted: u64,
}

impl State {
    fn way(&self, direction: Direction, connection: u64) -> Way {
        match direction {
            _ if connection < self.oldest_alive => Way::Cut,
            Direction::ToServer => self.link.to_server,
            Direction::ToClient => self.link.to_client,
        }
    }
}

/// Where a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

/// What one read of a socket gave.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// Connections count from 0, in the order in which they were accepted.
    pub connection: u64,
    /// Where it goes.
    pub direction: Direction,
    /// What it carries.
    pub bytes: &'a [u8],
}

/// What becomes of one packet. Those behind it on its connection and direction wait for it, as TCP
/// has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketFault {
    /// It arrives.
    None,
    /// It arrives this much later.
    Delay(Duration),
    /// One half of it arrives, and the other half this much later.
    Split(Duration),
    /// It never arrives, and neither does anything behind it. Neither end gets an error.
    Stall,
    /// It never arrives, and both ends see their connection closed.
    Close,
}

/// Decides about packets, at the time at which they would arrive.
type PacketFaults = dyn Fn(Packet<'_>) -> PacketFault + Send + Sync;

/// A running proxy; dropping it closes its connections.
pub struct Proxy {
    address: String,
    round_trips: RoundTrips,
    state: watch::Sender<State>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free loopback port for connections to `target` (`host:port`).
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(target: String) -> Result<Self> {
        Self::start_with(target, |_| PacketFault::None).await
    }

    /// As [`Proxy::start`], with faults of single packets.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start_with(
        target: String,
        faults: impl Fn(Packet<'_>) -> PacketFault + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::start_counted(target, RoundTrips::default(), faults).await
    }

    /// As [`Proxy::start_with`], counted together with other proxies.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start_counted(
        target: String,
        round_trips: RoundTrips,
        faults: impl Fn(Packet<'_>) -> PacketFault + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free loopback port")?;
        let address = listener.local_addr()?.to_string();
        let state =
            watch::Sender::new(State { link: Link::default(), oldest_alive: 0, accepted: 0 });
        let network = (state.clone(), round_trips.clone());
        let accepting = tokio::spawn(accept(listener, target, network, Arc::new(faults)));
        Ok(Self { address, round_trips, state, accepting })
    }

    /// Where clients connect: `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The round trips through this proxy, and those that it is counted with.
    #[must_use]
    pub fn round_trips(&self) -> &RoundTrips {
        &self.round_trips
    }

    /// Changes the network from now on, for what is under way as well.
    pub fn set(&self, link: Link) {
        self.state.send_modify(|state| state.link = link);
    }

    /// Cuts the connections there are for good; new ones work.
    pub fn stall_connections(&self) {
        self.state.send_modify(|state| state.oldest_alive = state.accepted);
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: String,
    (state, round_trips): (watch::Sender<State>, RoundTrips),
    faults: Arc<PacketFaults>,
) {
    while let Ok((client, _)) = listener.accept().await {
        let mut connection = 0;
        state.send_modify(|state| {
            connection = state.accepted;
            state.accepted += 1;
        });
        let (target, state, faults) = (target.clone(), state.subscribe(), Arc::clone(&faults));
        let counted = Connection::new(round_trips.clone());
        tokio::spawn(async move {
            // A server that is away refuses: the client's connection ends.
            let Ok(server) = TcpStream::connect(target).await else { return };
            // Small messages in both directions: waiting for more would cost 40 ms each.
            if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
                return;
            }
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            let path =
                |direction| Path { connection, direction, faults: &*faults, counted: &counted };
            let there = forward(from_client, to_server, path(Direction::ToServer), &state);
            let back = forward(from_server, to_client, path(Direction::ToClient), &state);
            // Ends with its proxy.
            let mut ended = state.clone();
            tokio::select! {
                _ = async { tokio::try_join!(there, back) } => {}
                _ = ended.wait_for(|_| false) => {}
            }
        });
    }
}

/// One direction of one connection.
#[derive(Clone, Copy)]
struct Path<'a> {
    connection: u64,
    direction: Direction,
    faults: &'a PacketFaults,
    counted: &'a Connection,
}

impl Path<'_> {
    /// The round trip of a packet that is sent now.
    fn sent(self) -> u64 {
        match self.direction {
            Direction::ToServer => self.counted.request(),
            Direction::ToClient => self.counted.reply(),
        }
    }

    fn arrives(self, trip: u64) {
        match self.direction {
            Direction::ToServer => self.counted.request_arrives(trip),
            Direction::ToClient => self.counted.reply_arrives(trip),
        }
    }
}

/// What is under way.
struct InFlight {
    sent: Instant,
    round_trip: u64,
    bytes: Vec<u8>,
}

/// A packet was lost, and its connection with it.
struct Closed;

/// Reads at once, so that each packet knows when it came; writes when the way lets it.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: impl AsyncWriteExt + Unpin,
    path: Path<'_>,
    state: &watch::Receiver<State>,
) -> Result<(), Closed> {
    let (sender, mut packets) = mpsc::unbounded_channel();
    let ways = state.clone();
    let reading = async move {
        let mut buffer = vec![0; 65536];
        loop {
            if matches!(ways.borrow().way(path.direction, path.connection), Way::Slow(_)) {
                // Until the next packet; the kernel forgets it.
                let _ = SockRef::from(from.as_ref()).set_tcp_quickack(false);
            }
            let Ok(read @ 1..) = from.read(&mut buffer).await else { return Ok(()) };
            let (sent, round_trip) = (Instant::now(), path.sent());
            let bytes = buffer[..read].to_vec();
            if sender.send(InFlight { sent, round_trip, bytes }).is_err() {
                return Ok(());
            }
        }
    };
    let mut state = state.clone();
    let writing = async move {
        let timer = Timer::new().map_err(|_error| Closed)?;
        while let Some(InFlight { sent, round_trip, bytes }) = packets.recv().await {
            if !passed(&mut state, path, sent, &timer).await {
                return Ok(());
            }
            path.arrives(round_trip);
            if !deliver(&mut to, path, sent, &bytes).await? {
                return Ok(());
            }
        }
        // The end of the connection travels as its last packet.
        if passed(&mut state, path, Instant::now(), &timer).await {
            let _ = to.shutdown().await;
        }
        Ok(())
    };
    tokio::try_join!(reading, writing).map(drop)
}

/// Writes one packet, or what its fault leaves of it; false when the receiver is gone.
async fn deliver(
    to: &mut (impl AsyncWriteExt + Unpin),
    path: Path<'_>,
    came: Instant,
    bytes: &[u8],
) -> Result<bool, Closed> {
    let Path { connection, direction, faults, .. } = path;
    match faults(Packet { connection, direction, bytes }) {
        PacketFault::None => {}
        PacketFault::Delay(delay) => sleep_until(came + delay).await,
        PacketFault::Split(delay) => {
            let (first, second) = bytes.split_at(bytes.len() / 2);
            if to.write_all(first).await.is_err() {
                return Ok(false);
            }
            sleep(delay).await;
            return Ok(to.write_all(second).await.is_ok());
        }
        PacketFault::Stall => std::future::pending().await,
        PacketFault::Close => return Err(Closed),
    }
    Ok(to.write_all(bytes).await.is_ok())
}

/// Waits until what came then may go on; false when the proxy has ended.
async fn passed(
    state: &mut watch::Receiver<State>,
    path: Path<'_>,
    came: Instant,
    timer: &Timer,
) -> bool {
    loop {
        let way = state.borrow_and_update().way(path.direction, path.connection);
        match way {
            Way::Open => return true,
            Way::Slow(delay) => return timer.until((came + delay).into_std()).await.is_ok(),
            Way::Cut => {
                if state.changed().await.is_err() {
                    return false;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
