//! The beginning of a sale: 300 users who press the button at one moment, and 100 items.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::FutureExt;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::http::{self, Connection};
use super::stage::{Shape, Stage, USUAL};
use crate::figures::{Measured, Round, Row, Section, Target, Unit};

pub(super) const SECTION: Section = Section {
    title: "A sale: 300 users at one moment, 100 items (5 of them; median and worst)",
    rows: &[
        Row::Judged("sale_last_answer", Unit::Millis, Target::AtMost(100.0)),
        Row::Figure("sale_last_answer_worst", Unit::Millis),
    ],
    round: |round| measure(round).boxed(),
};

const USERS: usize = 300;
const ITEMS: u32 = 100;
/// Sales in a round, each of a product of its own.
const SALES: usize = 5;

async fn measure(round: Round) -> Result<Measured> {
    let shape = Shape { products: SALES, stock: ITEMS, ..USUAL };
    let stage = Stage::start(&round, shape).await?;
    let mut last_answers = Vec::new();
    for product in &stage.products {
        last_answers.push(sell(&stage, product).await?);
        let books = stage.settle().await?;
        let left = books.available[product];
        ensure!(left == 0, "{left} units of product {product} are left");
    }
    let books = stage.settle().await?;
    let expected = u64::from(ITEMS) * u64::try_from(SALES)?;
    ensure!(books.orders == expected, "{} orders, expected {expected}", books.orders);
    last_answers.sort_unstable();
    let millis = |took: Duration| took.as_secs_f64() * 1e3;
    let (median, worst) = (millis(last_answers[SALES / 2]), millis(last_answers[SALES - 1]));
    eprintln!("  sale_last_answer: {median:.1} ms, worst {worst:.1} ms; {expected} orders");
    Ok(vec![("sale_last_answer", median), ("sale_last_answer_worst", worst)].into())
}

/// From the moment all may ask until the last was answered.
async fn sell(stage: &Stage, product: &str) -> Result<Duration> {
    let request =
        |number, token: &str| http::purchase(product, token, &format!("{product}-{number}"));
    let Answers { bought, last } = all_at_once(stage, USERS, 201, Connect::Before, request).await?;
    ensure!(bought == ITEMS, "{bought} of {USERS} users bought one of {ITEMS} items");
    Ok(last)
}

/// When a buyer's connection is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connect {
    /// Before the moment, and the app has answered on it.
    Before,
    /// At the moment itself.
    WithTheRequest,
}

/// What came of it when all asked at one moment.
pub(super) struct Answers {
    /// Number of users who bought; the others found nothing left.
    pub(super) bought: u32,
    /// How long it took from the moment when the first of them asked until the last was answered.
    pub(super) last: Duration,
}

/// Buyers, each with a connection of its own to one of the replicas, who all send one request, made of
/// their number and token, at one moment. Who bought is answered with this status, everybody else with 409.
pub(super) async fn all_at_once(
    stage: &Stage,
    buyers: usize,
    bought: u16,
    connect: Connect,
    request: impl Fn(usize, &str) -> Vec<u8>,
) -> Result<Answers> {
    let together = Arc::new(Barrier::new(buyers));
    let mut users = JoinSet::new();
    let replicas = stage.replicas.iter().cycle();
    for ((number, token), replica) in stage.tokens.iter().take(buyers).enumerate().zip(replicas) {
        let port = replica.port;
        let early = match connect {
            Connect::Before => Some(connected(port, token).await?),
            Connect::WithTheRequest => None,
        };
        let request = request(number, token);
        let together = Arc::clone(&together);
        users.spawn(async move {
            together.wait().await;
            let asked = Instant::now();
            let mut connection = match early {
                Some(connection) => connection,
                None => Connection::open(port).await?,
            };
            let answer = connection.ask(&request).await?;
            anyhow::Ok((answer, asked..Instant::now()))
        });
    }
    let (mut who_bought, mut times) = (0, Vec::new());
    while let Some(answered) = users.join_next().await {
        let (answer, time) = answered??;
        let is_good = [bought, 409].contains(&answer.status);
        ensure!(is_good, "a buyer was answered with {}: {}", answer.status, answer.body);
        who_bought += u32::from(answer.status == bought);
        times.push(time);
    }
    Ok(Answers { bought: who_bought, last: span(&times) })
}

/// From the earliest start to the latest end.
fn span(times: &[Range<Instant>]) -> Duration {
    let begin = times.iter().map(|time| time.start).min();
    let end = times.iter().map(|time| time.end).max();
    begin.zip(end).map_or(Duration::ZERO, |(begin, end)| end.saturating_duration_since(begin))
}

/// A connection that the app knows before the sale begins.
async fn connected(port: u16, token: &str) -> Result<Connection> {
    let mut connection = Connection::open(port).await?;
    connection.ask(&http::me(token)).await?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_counts_from_the_first_who_asks() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        assert_eq!(span(&[at(9)..at(20), at(2)..at(12), at(5)..at(30)]), at(30) - at(2));
        assert_eq!(span(&[]), Duration::ZERO);
    }
}
