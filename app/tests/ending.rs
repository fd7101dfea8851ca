//! The end of a replica while clients have connections open to it, on raw sockets: an HTTP client would repeat some
//! requests by itself.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::common::{Database, PATIENCE, SaleSpec, TestSale, eventually};

const CONNECTIONS: usize = 20;
/// Longer than any test.
const LONG: &str = "60";

/// What a client has learned of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answered {
    /// Sold; the connection stays open.
    Sold,
    /// Sold; the answer announced that the connection is closed, and it was.
    SoldLast,
    /// The connection broke before an answer.
    Broken,
}

async fn sale(replicas: usize, drain: &str) -> TestSale {
    let products = json!([{"id": "1", "name": "Console", "stock": 100_000}]);
    let settings = vec![("HTTP_DRAIN_SECONDS", drain.to_owned())];
    let spec =
        SaleSpec { nodes: 1, replicas, products, settings, ..SaleSpec::on(Database::Sqlite) };
    TestSale::start(spec).await
}

/// A client with one connection at a time.
struct Client {
    stream: TcpStream,
    token: String,
}

impl Client {
    async fn connect(sale: &TestSale, replica: usize, buyer: &str) -> Self {
        let address = sale.replicas[replica].api.strip_prefix("http://").unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        Self { stream, token: sale.buyer(buyer).token }
    }

    async fn buy(&mut self) -> Answered {
        let body = json!({"product_id": "1", "quantity": 1}).to_string();
        let request = format!(
            "POST /v1/purchases HTTP/1.1\r\nhost: sale\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        if self.stream.write_all(request.as_bytes()).await.is_err() {
            return Answered::Broken;
        }
        let Some((head, _)) = self.answer().await else { return Answered::Broken };
        assert!(head.starts_with("HTTP/1.1 201"), "{head}");
        if !head.contains("connection: close") {
            return Answered::Sold;
        }
        assert_eq!(self.rest().await, "");
        Answered::SoldLast
    }

    /// Head and body; `None`: the connection ended before.
    async fn answer(&mut self) -> Option<(String, String)> {
        let mut text = String::new();
        loop {
            let mut more = [0; 4096];
            let read = timeout(PATIENCE, self.stream.read(&mut more)).await.unwrap();
            let read = read.ok().filter(|length| *length > 0)?;
            text.push_str(std::str::from_utf8(&more[..read]).unwrap());
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if length.is_some_and(|length| body.len() >= length.parse().unwrap()) {
                return Some((head.to_owned(), body.to_owned()));
            }
        }
    }

    /// Reads until the server closes the connection.
    async fn rest(&mut self) -> String {
        let mut text = String::new();
        timeout(PATIENCE, self.stream.read_to_string(&mut text)).await.unwrap().unwrap();
        text
    }
}

async fn await_unready(sale: &TestSale) {
    eventually("the replica says that it shuts down", async || {
        sale.readiness(0).await.1["reasons"] == json!(["shutting down"])
    })
    .await;
}

/// Purchases on connections that were idle when the replica was told to end.
async fn purchases_after_the_signal(drain: &str) -> Vec<Answered> {
    let mut sale = sale(1, drain).await;
    let mut clients = Vec::new();
    for number in 0..CONNECTIONS {
        let mut client = Client::connect(&sale, 0, &format!("buyer-{number}")).await;
        assert_eq!(client.buy().await, Answered::Sold);
        clients.push(client);
    }
    sale.replicas[0].end();
    if drain == LONG {
        await_unready(&sale).await;
    } else {
        // Without a drain time it ends at once.
        sale.replicas.remove(0).stop().await;
    }
    join_all(clients.iter_mut().map(Client::buy)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_ends_answers_on_open_connections_and_closes_each_after_its_answer() {
    let answered = purchases_after_the_signal(LONG).await;
    assert_eq!(answered, [Answered::SoldLast; CONNECTIONS]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_drain_time_a_client_meets_a_closed_connection() {
    let answered = purchases_after_the_signal("0").await;
    assert_eq!(answered, [Answered::Broken; CONNECTIONS]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_purchase_fails_while_a_replica_ends_under_buyers_at_work() {
    let mut sale = sale(2, "4").await;
    let (sold, moved) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let clients = join_all((0..CONNECTIONS).map(|number| {
        let buyer = format!("buyer-{number}");
        let sale = &sale;
        async move { Client::connect(sale, 0, &buyer).await }
    }))
    .await;
    let others = join_all((0..CONNECTIONS).map(|number| {
        let buyer = format!("buyer-{number}");
        let sale = &sale;
        async move { Client::connect(sale, 1, &buyer).await }
    }))
    .await;
    let ending = sale.replicas.remove(0);
    let buying = join_all(clients.into_iter().zip(others).map(async |(mut client, mut other)| {
        // On until the replica has closed this connection, then a while at the other one.
        loop {
            let answered = client.buy().await;
            assert_ne!(answered, Answered::Broken);
            sold.fetch_add(1, Relaxed);
            if answered == Answered::SoldLast {
                break;
            }
        }
        moved.fetch_add(1, Relaxed);
        for _ in 0..5 {
            assert_eq!(other.buy().await, Answered::Sold);
        }
    }));
    let stopping = async {
        eventually("buyers buy", async || sold.load(Relaxed) >= 2 * CONNECTIONS).await;
        ending.stop().await;
    };
    tokio::join!(buying, stopping);
    assert_eq!(moved.load(Relaxed), CONNECTIONS);
    let units = sold.load(Relaxed) + 5 * CONNECTIONS;
    assert_eq!(sale.sold().await[0]["sold"], units);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_ends_still_accepts_connections() {
    let sale = sale(1, LONG).await;
    sale.replicas[0].end();
    await_unready(&sale).await;
    let mut late = Client::connect(&sale, 0, "late").await;
    assert_eq!(late.buy().await, Answered::SoldLast);
    // It goes on reading what other replicas sold, and does not become ready again by that.
    await_unready(&sale).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn event_streams_end_complete_and_idle_connections_end_with_the_drain_time() {
    const DRAIN: Duration = Duration::from_secs(1);
    let mut sale = sale(1, "1").await;
    let mut silent = Client::connect(&sale, 0, "silent").await;
    let mut listening = Client::connect(&sale, 0, "listening").await;
    let follow = "GET /v1/sale/events HTTP/1.1\r\nhost: sale\r\n\r\n";
    listening.stream.write_all(follow.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    listening.stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");

    let told = Instant::now();
    let replica = sale.replicas.remove(0);
    let (stream, nothing, ()) = tokio::join!(listening.rest(), silent.rest(), replica.stop());
    assert!(told.elapsed() >= DRAIN, "{:?}", told.elapsed());
    assert!(stream.ends_with("\r\n0\r\n\r\n"), "the last chunk is there: {stream}");
    assert_eq!(nothing, "");
}
