//! Stores that are a network away. The proxies that stand for the network say what they take themselves.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::FutureExt;
use sqlx::{Connection as _, PgConnection};
use testkit::{Link, Way, raw_round_trips};

use super::http::{self, Connection};
use super::limits;
use super::loads::{self, FAR, FAR_512, Loaded, NEAR, NEAR_512, PROXIED_512};
use super::stage::{ENDLESS, Shape, Stage, USUAL};
use crate::figures::{Measured, Round, Row, Section, Target, Unit};
use crate::lock::latencies::Latencies;
use crate::lock::raw::Raw;

const FAR_LIMITED_512: Loaded = Loaded::new(
    "purchases_limited_2_5_ms_away",
    512,
    Shape { round_trip: Some(FAR), max_per_buyer: Some(ENDLESS), ..USUAL },
);

pub(super) const SECTION: Section = Section {
    title: "Redis and PostgreSQL 1 ms and 2.5 ms away (a round trip), 512 connections",
    rows: &[
        Row::Figure("purchases_proxied", Unit::PerSecond),
        Row::Ratio("purchases_proxied", "purchases_512", None),
        Row::Figure("raw_round_trip_1_ms", Unit::Micros),
        Row::Figure("purchases_1_ms_away", Unit::PerSecond),
        Row::Ratio("purchases_1_ms_away", "purchases_512", Some(Target::AtLeast(0.9))),
        Row::Ratio("purchases_1_ms_away", "purchases_proxied", Some(Target::AtLeast(0.9))),
        Row::Figure("raw_round_trip_2_5_ms", Unit::Micros),
        Row::Figure("purchases_2_5_ms_away", Unit::PerSecond),
        Row::Ratio("purchases_2_5_ms_away", "purchases_512", Some(Target::AtLeast(0.85))),
        Row::Ratio("purchases_2_5_ms_away", "purchases_proxied", Some(Target::AtLeast(0.85))),
        Row::Figure("purchases_limited_2_5_ms_away", Unit::PerSecond),
        Row::Ratio(
            "purchases_limited_2_5_ms_away",
            "purchases_2_5_ms_away",
            Some(Target::AtLeast(0.95)),
        ),
    ],
    round: |round| measure(round).boxed(),
};

async fn measure(round: Round) -> Result<Measured> {
    let mut figures =
        vec![("raw_round_trip_1_ms", raw(NEAR).await?), ("raw_round_trip_2_5_ms", raw(FAR).await?)];
    let sold =
        loads::measure(round, &[&PROXIED_512, &NEAR_512, &FAR_512, &FAR_LIMITED_512]).await?;
    figures.extend(sold.figures);
    Ok(Measured { figures, ..sold })
}

/// The median of raw round trips through such a proxy, in microseconds.
async fn raw(round_trip: Duration) -> Result<f64> {
    let times = raw_round_trips(Link::both(Way::Slow(round_trip / 2)), 500).await?;
    Ok(times[times.len() / 2].as_secs_f64() * 1e6)
}

pub(super) const ALONE: Section = Section {
    title: "A purchase alone, Redis and PostgreSQL 2.5 ms away; without a commit, in raw round trips",
    rows: &[
        Row::Figure("far_raw_round_trip", Unit::Micros),
        Row::Figure("far_raw_majority", Unit::Micros),
        Row::Figure("far_raw_statement", Unit::Micros),
        Row::Figure("far_one_commit_p50", Unit::Micros),
        Row::Figure("far_alone_p50", Unit::Micros),
        Row::Judged("far_alone_round_trips", Unit::Count, Target::AtMost(2.3)),
        Row::Figure("far_alone_limited_p50", Unit::Micros),
        Row::Judged("far_alone_limited_round_trips", Unit::Count, Target::AtMost(2.3)),
        Row::Figure("far_alone_known_key_p50", Unit::Micros),
        Row::Judged("far_alone_known_key_round_trips", Unit::Count, Target::AtMost(2.3)),
        Row::Figure("far_alone_limited_known_key_p50", Unit::Micros),
        Row::Judged("far_alone_limited_known_key_round_trips", Unit::Count, Target::AtMost(2.3)),
        // The same, counted by the proxies.
        Row::Judged("far_alone_counted", Unit::Count, Target::AtMost(2.0)),
        Row::Judged("far_alone_limited_counted", Unit::Count, Target::AtMost(2.0)),
    ],
    round: |round| alone(round).boxed(),
};

/// At ordinary lengths of a load.
const PURCHASES: u32 = 200;
const WARM_UP: u32 = 50;

/// The names of one kind of purchase.
struct Names {
    p50: &'static str,
    round_trips: &'static str,
    known_p50: &'static str,
    known_round_trips: &'static str,
    counted: &'static str,
}

const ANY: Names = Names {
    p50: "far_alone_p50",
    round_trips: "far_alone_round_trips",
    known_p50: "far_alone_known_key_p50",
    known_round_trips: "far_alone_known_key_round_trips",
    counted: "far_alone_counted",
};
const LIMITED: Names = Names {
    p50: "far_alone_limited_p50",
    round_trips: "far_alone_limited_round_trips",
    known_p50: "far_alone_limited_known_key_p50",
    known_round_trips: "far_alone_limited_known_key_round_trips",
    counted: "far_alone_limited_counted",
};

async fn alone(round: Round) -> Result<Measured> {
    let (raw, mut commit) = (raw(FAR).await?, 0.0);
    let mut figures = vec![("far_raw_round_trip", raw)];
    for (names, max_per_buyer) in [(ANY, None), (LIMITED, Some(ENDLESS))] {
        let stage =
            Stage::start(&round, Shape { round_trip: Some(FAR), max_per_buyer, ..USUAL }).await?;
        if max_per_buyer.is_none() {
            commit = one_commit(&stage).await?;
            figures.extend([
                ("far_one_commit_p50", commit),
                ("far_raw_majority", raw_majority(&stage).await?),
                ("far_raw_statement", raw_statement(&stage).await?),
            ]);
        }
        let (new, counted) = purchases(&stage).await?;
        let (known, _) = purchases(&stage).await?;
        let trips = |latencies: &Latencies| (latencies.micros(50.0) - commit) / raw;
        figures.extend([
            (names.p50, new.micros(50.0)),
            (names.round_trips, trips(&new)),
            (names.known_p50, known.micros(50.0)),
            (names.known_round_trips, trips(&known)),
            (names.counted, counted),
        ]);
        eprintln!("  {}: {:.0} us, {counted} round trips", names.p50, new.micros(50.0));
        stage.settle().await?;
    }
    Ok(figures.into())
}

/// A message that does nothing, to all nodes at once, until a majority has answered.
async fn raw_majority(stage: &Stage) -> Result<f64> {
    let mut nodes = Raw::connect(&stage.network.nodes).await?;
    let mut times = Latencies::new()?;
    for _ in 0..PURCHASES {
        times.add(nodes.ping_majority().await?)?;
    }
    Ok(times.micros(50.0))
}

/// A statement that does nothing.
async fn raw_statement(stage: &Stage) -> Result<f64> {
    let mut database = PgConnection::connect(&stage.network.database_url).await?;
    let mut times = Latencies::new()?;
    for _ in 0..PURCHASES {
        let started = Instant::now();
        sqlx::query("SELECT 1").execute(&mut database).await?;
        times.add(started.elapsed())?;
    }
    Ok(times.micros(50.0))
}

/// A commit of one row without the network.
async fn one_commit(stage: &Stage) -> Result<f64> {
    let mut database = PgConnection::connect(&stage.another_database()?).await?;
    limits::prepare(&mut database).await?;
    let mut commits = Latencies::new()?;
    for _ in 0..PURCHASES {
        let started = Instant::now();
        limits::insert(&mut database, 1).await?;
        commits.add(started.elapsed())?;
    }
    Ok(commits.micros(50.0))
}

/// One after the other, each with a key of its own, the same ones with every call; and the median of
/// their round trips as the proxies count them.
async fn purchases(stage: &Stage) -> Result<(Latencies, f64)> {
    let mut buyer = Connection::open(stage.replicas[0].port).await?;
    let (mut times, mut counts) = (Latencies::new()?, Vec::new());
    for turn in 0..WARM_UP + PURCHASES {
        let token = &stage.tokens[usize::try_from(turn)?];
        let request = http::purchase(&stage.products[0], token, &format!("far-{turn}"));
        // The purchase before has returned its connection.
        let trips = &stage.network.round_trips;
        trips.quiet(2 * FAR).await;
        let (before, started) = (trips.count(), Instant::now());
        let answer = buyer.ask(&request).await?;
        let took = started.elapsed();
        ensure!(answer.status == 201, "answered with {}: {}", answer.status, answer.body);
        if turn >= WARM_UP {
            times.add(took)?;
            counts.push(trips.count() - before);
        }
    }
    counts.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    Ok((times, counts[counts.len() / 2] as f64))
}
