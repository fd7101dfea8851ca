//! The first moment of a product that everybody wants: 100,000 buyers, each with a connection of its own, and 100 items.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use serde_json::Value;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::http::{self, Answer, Connection};
use super::stage::{Shape, Stage, USUAL};
use super::wrk;
use crate::figures::{Measured, Round, Row, Section, Target, Unit};
use crate::lock::latencies::Latencies;

pub(super) const SECTION: Section = Section {
    title: "100,000 buyers at one moment, 100 items, one for each, in fair order, 3 replicas: until all have a final answer",
    rows: ROWS,
    round: |round| measure(round).boxed(),
};

const ROWS: &[Row] = &[
    Row::Judged("hundred_thousand_last_answer", Unit::Millis, Target::AtMost(2_500.0)),
    Row::Figure("hundred_thousand_p50", Unit::Millis),
    Row::Judged("hundred_thousand_lost", Unit::Count, Target::AtMost(0.0)),
    // Connections that were refused, or that ended without an answer.
    Row::Judged("hundred_thousand_broken", Unit::Count, Target::AtMost(0.0)),
];

const BUYERS: u32 = 100_000;
const ITEMS: u32 = 100;
/// Addresses that buyers come from: each has some 28,000 ports.
const ADDRESSES: u8 = 20;
const BUYERS_OF_AN_ADDRESS: u32 = 5_000;
/// Of each replica: more than a third of the buyers.
const MAX_CONNECTIONS: u32 = 40_000;
/// Who has no final answer by then is lost.
const PATIENCE: Duration = Duration::from_mins(1);
/// After a connection that could not be opened.
const RECONNECT: Duration = Duration::from_secs(1);

async fn measure(round: Round) -> Result<Measured> {
    // Before the first process, which inherits it.
    wrk::allow_files()?;
    if let Err(error) = wrk::check_files(BUYERS) {
        // The other rows of a run can be measured here.
        eprintln!("  not measured: {error}");
        let failed = ROWS.iter().flat_map(Row::figures).map(|figure| (figure, f64::NAN));
        return Ok(failed.collect::<Vec<_>>().into());
    }
    let shape = Shape {
        replicas: 3,
        order: "Fair",
        stock: ITEMS,
        max_per_buyer: Some(1),
        max_connections: Some(MAX_CONNECTIONS),
        ..USUAL
    };
    let stage = Stage::start(&round, shape).await?;
    let outcomes = all_at_once(open(&stage).await?).await?;
    let figures = sum_up(&outcomes)?;
    let books = stage.settle().await?;
    let (orders, left) = (books.orders, books.available[&stage.products[0]]);
    ensure!(orders == u64::from(ITEMS) && left == 0, "{orders} orders of {ITEMS}, {left} left");
    Ok(figures.into())
}

/// Somebody who wants one item.
struct Buyer {
    address: Ipv4Addr,
    /// Of a replica.
    port: u16,
    greeting: Vec<u8>,
    purchase: Vec<u8>,
}

/// What came of a buyer's purchase.
struct Outcome {
    answer: Answer,
    asked: Instant,
    answered: Instant,
    /// Answers that named a time for another try.
    refused: u32,
    /// Connections that were refused, or that ended without an answer.
    broken: u32,
    /// Stays open until everybody has an answer.
    _connection: Connection,
}

impl Buyer {
    async fn connect(&self) -> Result<Connection> {
        Connection::open_from(self.address, self.port).await
    }

    /// A connection that the app knows before the moment.
    async fn greet(&self) -> Result<Connection> {
        let mut connection = self.connect().await?;
        let Answer { status, body, .. } = connection.ask(&self.greeting).await?;
        ensure!(status == 200, "a connection was answered with {status}: {body}");
        Ok(connection)
    }

    /// Asks until the answer is final: again after the time that a refusal names, and over a new connection after one
    /// that ended without an answer.
    async fn buy(&self, mut connection: Connection) -> Outcome {
        let (asked, mut refused, mut broken) = (Instant::now(), 0, 0);
        loop {
            match connection.ask(&self.purchase).await {
                Ok(Answer { retry_after: Some(pause), .. }) => {
                    refused += 1;
                    sleep(pause).await;
                }
                Ok(answer) => {
                    let answered = Instant::now();
                    return Outcome {
                        answer,
                        asked,
                        answered,
                        refused,
                        broken,
                        _connection: connection,
                    };
                }
                Err(_) => {
                    broken += 1;
                    if let Ok(another) = self.connect().await {
                        connection = another;
                    } else {
                        // The next request over the old one counts this.
                        sleep(RECONNECT).await;
                    }
                }
            }
        }
    }
}

/// All buyers with their connections. Those of an address come one after the other.
async fn open(stage: &Stage) -> Result<Vec<(Buyer, Connection)>> {
    let mut groups = JoinSet::new();
    for number in 1..=ADDRESSES {
        let group = buyers(stage, Ipv4Addr::new(127, 0, 1, number))?;
        groups.spawn(async move {
            let mut open = Vec::with_capacity(group.len());
            for buyer in group {
                let connection = buyer.greet().await?;
                open.push((buyer, connection));
            }
            anyhow::Ok(open)
        });
    }
    let mut crowd = Vec::new();
    while let Some(open) = groups.join_next().await {
        crowd.extend(open??);
    }
    Ok(crowd)
}

/// Those who come from this address, to all replicas in turn.
fn buyers(stage: &Stage, address: Ipv4Addr) -> Result<Vec<Buyer>> {
    let product = &stage.products[0];
    let replicas = stage.replicas.iter().cycle();
    let mut buyers = Vec::new();
    for (number, replica) in (0..BUYERS_OF_AN_ADDRESS).zip(replicas) {
        let name = format!("crowd-{address}-{number}");
        let token = stage.sign(&name)?;
        let (greeting, purchase) = (http::me(&token), http::purchase(product, &token, &name));
        buyers.push(Buyer { address, port: replica.port, greeting, purchase });
    }
    Ok(buyers)
}

/// Everybody asks at one moment; the outcomes of those who had a final answer in time.
async fn all_at_once(crowd: Vec<(Buyer, Connection)>) -> Result<Vec<Outcome>> {
    let together = Arc::new(Barrier::new(crowd.len()));
    let mut buyers = JoinSet::new();
    for (buyer, connection) in crowd {
        let together = Arc::clone(&together);
        buyers.spawn(async move {
            together.wait().await;
            buyer.buy(connection).await
        });
    }
    let mut outcomes = Vec::new();
    let all = async {
        while let Some(outcome) = buyers.join_next().await {
            outcomes.push(outcome?);
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, all).await.unwrap_or(Ok(()))?;
    Ok(outcomes)
}

/// The figures, if nobody's answer is lost and every item has one buyer.
fn sum_up(outcomes: &[Outcome]) -> Result<Vec<(&'static str, f64)>> {
    let lost = BUYERS - u32::try_from(outcomes.len())?;
    ensure!(lost == 0, "{lost} of {BUYERS} buyers had no final answer within {PATIENCE:?}");
    let moment = outcomes.iter().map(|outcome| outcome.asked).min().context("nobody asked")?;
    let (mut times, mut longest) = (Latencies::new()?, Duration::ZERO);
    let (mut bought, mut refused, mut broken) = (0, 0, 0);
    for outcome in outcomes {
        let took = outcome.answered.saturating_duration_since(moment);
        times.add(took)?;
        longest = longest.max(took);
        bought += u32::from(is_sold(&outcome.answer)?);
        refused += outcome.refused;
        broken += outcome.broken;
    }
    ensure!(bought == ITEMS, "{bought} of {BUYERS} buyers bought one of {ITEMS} items");
    let (longest, p50) = (longest.as_secs_f64() * 1e3, times.millis(50.0));
    eprintln!(
        "  hundred_thousand_last_answer: {longest:.0} ms, P50 {p50:.0} ms; {refused} answers with \
         Retry-After, {broken} connections broke"
    );
    Ok(vec![
        ("hundred_thousand_last_answer", longest),
        ("hundred_thousand_p50", p50),
        ("hundred_thousand_lost", f64::from(lost)),
        ("hundred_thousand_broken", f64::from(broken)),
    ])
}

/// Whether a final answer is a purchase; the others say that nothing is left, for anybody or for this buyer.
fn is_sold(answer: &Answer) -> Result<bool> {
    let Answer { status, body, .. } = answer;
    if *status == 201 {
        return Ok(true);
    }
    let problem: Value = serde_json::from_str(body).unwrap_or_default();
    let is_final = matches!(problem["code"].as_str(), Some("sold_out" | "limit_reached"));
    ensure!(*status == 409 && is_final, "a buyer was answered with {status}: {body}");
    Ok(false)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const BUSY: &str =
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n";
    const SOLD_OUT: &str = "HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\n{}";

    #[tokio::test]
    async fn a_buyer_asks_again_after_a_refusal_and_after_a_connection_that_ends() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let app = tokio::spawn(async move {
            drop(listener.accept().await.unwrap());
            let (mut stream, peer) = listener.accept().await.unwrap();
            for answer in [BUSY, SOLD_OUT] {
                let mut request = [0; 16];
                let size = stream.read(&mut request).await.unwrap();
                assert_eq!(&request[..size], b"buy");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            peer.ip()
        });
        let address = Ipv4Addr::new(127, 0, 1, 1);
        let buyer = Buyer { address, port, greeting: Vec::new(), purchase: b"buy".to_vec() };
        let outcome = buyer.buy(buyer.connect().await.unwrap()).await;
        assert_eq!((outcome.answer.status, outcome.refused, outcome.broken), (409, 1, 1));
        assert_eq!(app.await.unwrap(), address);
    }

    #[test]
    fn a_final_answer_is_a_purchase_or_says_that_nothing_is_left() {
        let answered = |status, body: &str| {
            is_sold(&Answer { status, retry_after: None, body: body.to_owned() })
        };
        assert!(answered(201, "{}").unwrap());
        assert!(!answered(409, r#"{"code":"sold_out"}"#).unwrap());
        assert!(!answered(409, r#"{"code":"limit_reached"}"#).unwrap());
        assert!(answered(409, r#"{"code":"stock_changed"}"#).is_err());
        assert!(answered(503, r#"{"code":"overloaded"}"#).is_err(), "without Retry-After");
    }

    #[test]
    fn all_addresses_have_as_many_buyers() {
        assert_eq!(u32::from(ADDRESSES) * BUYERS_OF_AN_ADDRESS, BUYERS);
    }
}
