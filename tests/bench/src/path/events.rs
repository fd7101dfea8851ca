//! What events of orders cost purchases, and how soon a receiver on the same cores has them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use futures::future::try_join_all;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::http::{self, Connection};
use super::stage::{Events, Shape, Stage, USUAL};
use super::wrk::Asks;
use crate::figures::{Measured, Round, Row, Section, Target, Unit};

pub(super) const SECTION: Section = Section {
    title: "Events, 512 connections: none; written, while the receiver is away; the same of orders with holds; written and delivered on the same cores",
    rows: &[
        Row::Figure("purchases_no_events", Unit::PerSecond),
        Row::Figure("purchases_events_written", Unit::PerSecond),
        Row::Ratio("purchases_events_written", "purchases_no_events", Some(Target::AtLeast(0.90))),
        Row::Figure("held_events_written", Unit::PerSecond),
        Row::Ratio("held_events_written", "purchases_no_events", Some(Target::AtLeast(0.90))),
        Row::Figure("purchases_events_delivered", Unit::PerSecond),
        Row::Ratio("purchases_events_delivered", "purchases_no_events", None),
    ],
    round: |round| measure(round).boxed(),
};

pub(super) const DELIVERY: Section = Section {
    title: "Events at 1,000 orders a second: from the change of an order until the receiver has it",
    rows: &[
        Row::Figure("orders_with_events", Unit::PerSecond),
        Row::Judged("event_delivery_p99", Unit::Millis, Target::AtMost(1_000.0)),
    ],
    round: |round| deliver(round).boxed(),
};

const SHAPES: [(&str, Events, Asks); 4] = [
    ("purchases_no_events", Events::None, Asks::Purchase),
    ("purchases_events_written", Events::Away, Asks::Purchase),
    ("held_events_written", Events::Away, Asks::Order),
    ("purchases_events_delivered", Events::Taken, Asks::Purchase),
];

async fn measure(round: Round) -> Result<Measured> {
    let mut measured = Measured::default();
    let mut shapes = SHAPES;
    if !round.number.is_multiple_of(2) {
        shapes.reverse();
    }
    for (figure, events, asks) in shapes {
        let stage = Stage::start(&round, Shape { events, ..USUAL }).await?;
        let sold = stage.sold(figure, 512, round.lasting, asks).await?;
        if events == Events::Taken {
            let delivered = stage.metric(COUNT, &[]).await?;
            eprintln!("  {figure}: {delivered:.0} events delivered by the end of the load");
            ensure!(delivered > 0.0, "no event was delivered");
        }
        measured.figures.push((figure, sold.per_second));
        measured.costs.push((figure, sold.cost));
    }
    Ok(measured)
}

const COUNT: &str = "flashsale_event_delivery_seconds_count";
const BUCKET: &str = "flashsale_event_delivery_seconds_bucket";
/// Bounds of the app's histogram, in seconds.
const BOUNDS: [&str; 13] =
    ["0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "15", "60", "600", "3600"];
/// Buyers, each of whom asks so often.
const BUYERS: usize = 40;
const EVERY: Duration = Duration::from_millis(40);
const DRAIN: Duration = Duration::from_secs(20);

async fn deliver(round: Round) -> Result<Measured> {
    let stage = Stage::start(&round, Shape { events: Events::Taken, ..USUAL }).await?;
    let began = Instant::now();
    let buyers = (0..BUYERS).map(|buyer| buy(&stage, buyer, round.lasting));
    let orders: u32 = try_join_all(buyers).await?.into_iter().sum();
    let per_second = f64::from(orders) / began.elapsed().as_secs_f64();
    ensure!(per_second > 990.0, "only {per_second:.0} orders a second");
    let deadline = Instant::now() + DRAIN;
    while stage.metric(COUNT, &[]).await? < f64::from(orders) {
        ensure!(Instant::now() < deadline, "not all events were delivered");
        sleep(Duration::from_millis(50)).await;
    }
    let p99 = p99_ms(&stage, f64::from(orders)).await?;
    eprintln!("  event_delivery_p99: {p99:.0} ms at {per_second:.0} orders/s, {orders} orders");
    Ok(vec![("orders_with_events", per_second), ("event_delivery_p99", p99)].into())
}

async fn buy(stage: &Stage, buyer: usize, lasting: Duration) -> Result<u32> {
    let mut connection = Connection::open(stage.replicas[0].port).await?;
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (end, mut orders) = (Instant::now() + lasting, 0);
    while Instant::now() < end {
        tick.tick().await;
        let token = &stage.tokens[buyer];
        let request = http::purchase(&stage.products[0], token, &format!("events-{orders}"));
        let answer = connection.ask(&request).await?;
        ensure!(answer.status == 201, "answered with {}: {}", answer.status, answer.body);
        orders += 1;
    }
    Ok(orders)
}

/// Interpolated within a bucket of the app's histogram, as Prometheus does it.
async fn p99_ms(stage: &Stage, count: f64) -> Result<f64> {
    let (mut lower, mut below) = (0.0, 0.0);
    for bound in BOUNDS {
        let upper: f64 = bound.parse()?;
        let within = stage.metric(BUCKET, &[&format!("le=\"{bound}\"")]).await?;
        if within >= 0.99 * count {
            let part = (0.99 * count - below) / (within - below).max(1.0);
            return Ok((lower + (upper - lower) * part) * 1e3);
        }
        (lower, below) = (upper, within);
    }
    None.context("the last bucket has not all events")
}
