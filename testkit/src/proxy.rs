//! A TCP proxy before one server, through which a network fails: either direction can be held
//! back or delayed, for the connections that are open and for new ones.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// What becomes of what is sent in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Way {
    /// It arrives.
    #[default]
    Open,
    /// It arrives this much later.
    Slow(Duration),
    /// Nothing arrives until the way is open again; then all of it does, in order, as TCP repeats
    /// what a partition swallowed. Connections stay open meanwhile, their ends are not told either.
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

#[derive(Debug, Clone, Copy)]
enum Direction {
    ToServer,
    ToClient,
}

/// A running proxy; dropping it closes its connections.
#[derive(Debug)]
pub struct Proxy {
    address: String,
    state: watch::Sender<State>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free loopback port for connections to `target` (`host:port`).
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(target: String) -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free loopback port")?;
        let address = listener.local_addr()?.to_string();
        let state =
            watch::Sender::new(State { link: Link::default(), oldest_alive: 0, accepted: 0 });
        let accepting = tokio::spawn(accept(listener, target, state.clone()));
        Ok(Self { address, state, accepting })
    }

    /// Where clients connect: `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
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

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: String, state: watch::Sender<State>) {
    while let Ok((client, _)) = listener.accept().await {
        let mut connection = 0;
        state.send_modify(|state| {
            connection = state.accepted;
            state.accepted += 1;
        });
        let (target, state) = (target.clone(), state.subscribe());
        tokio::spawn(async move {
            // A server that is away refuses: the client is told by the end of its connection.
            let Ok(server) = TcpStream::connect(target).await else { return };
            // Small messages in both directions: waiting for more would cost 40 ms each.
            if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
                return;
            }
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            let there = forward(from_client, to_server, Direction::ToServer, connection, &state);
            let back = forward(from_server, to_client, Direction::ToClient, connection, &state);
            // Ends with its proxy.
            let mut ended = state.clone();
            tokio::select! {
                _ = async { tokio::join!(there, back) } => {}
                _ = ended.wait_for(|_| false) => {}
            }
        });
    }
}

/// Reads at once, so that each piece knows when it came; writes when the way lets it.
async fn forward(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    direction: Direction,
    connection: u64,
    state: &watch::Receiver<State>,
) {
    let (sender, mut pieces) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let reading = async move {
        let mut buffer = vec![0; 65536];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            if sender.send((Instant::now(), buffer[..read].to_vec())).is_err() {
                return;
            }
        }
    };
    let mut state = state.clone();
    let writing = async move {
        while let Some((came, piece)) = pieces.recv().await {
            if !passed(&mut state, direction, connection, came).await {
                return;
            }
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        // The end of the connection travels as its last piece.
        if passed(&mut state, direction, connection, Instant::now()).await {
            let _ = to.shutdown().await;
        }
    };
    tokio::join!(reading, writing);
}

/// Waits until what came then may go on; false when the proxy has ended.
async fn passed(
    state: &mut watch::Receiver<State>,
    direction: Direction,
    connection: u64,
    came: Instant,
) -> bool {
    loop {
        let way = state.borrow_and_update().way(direction, connection);
        match way {
            Way::Open => return true,
            Way::Slow(delay) => {
                sleep_until(came + delay).await;
                return true;
            }
            Way::Cut => {
                if state.changed().await.is_err() {
                    return false;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
}
