//! One buyer and nobody else: what a purchase takes beyond its lock and its commit.

use std::time::Instant;

use anyhow::{Result, ensure};
use futures::FutureExt;
use sqlx::{Connection as _, PgConnection};
use testkit::RedisServer;

use super::http::{self, Connection};
use super::limits;
use super::stage::{Stage, USUAL};
use crate::figures::{Measured, Round, Row, Section, Target, Unit};
use crate::lock::latencies::Latencies;
use crate::lock::raw::Raw;

pub(super) const SECTION: Section = Section {
    title: "A purchase alone; L4 is a raw lock + unlock of the same five nodes",
    rows: &[
        Row::Figure("purchase_alone_p50", Unit::Micros),
        Row::Figure("l4_raw_lock_unlock_p50", Unit::Micros),
        Row::Figure("one_commit_p50", Unit::Micros),
        Row::Figure("l4_and_one_commit", Unit::Micros),
        Row::Ratio("purchase_alone_p50", "l4_and_one_commit", Some(Target::AtMost(3.0))),
        Row::Figure("purchase_alone_p99", Unit::Micros),
    ],
    round: |round| measure(round).boxed(),
};

/// At ordinary lengths of a load.
const PURCHASES: u32 = 500;
const WARM_UP: u32 = 50;

async fn measure(round: Round) -> Result<Measured> {
    let stage = Stage::start(&round, USUAL).await?;
    let nodes: Vec<String> = stage.redis.iter().map(RedisServer::address).collect();
    let mut raw = Raw::connect(&nodes).await?;
    let mut database = PgConnection::connect(&stage.another_database()?).await?;
    limits::prepare(&mut database).await?;
    let mut buyer = Connection::open(stage.replicas[0].port).await?;
    let (mut purchases, mut locks, mut commits) =
        (Latencies::new()?, Latencies::new()?, Latencies::new()?);
    // One after the other, so that the purchase before is over when the next begins.
    for turn in 0..WARM_UP + PURCHASES {
        if turn == WARM_UP {
            (purchases, locks, commits) = (Latencies::new()?, Latencies::new()?, Latencies::new()?);
        }
        let token = &stage.tokens[usize::try_from(turn)?];
        let request = http::purchase(&stage.products[0], token, &format!("alone-{turn}"));
        let started = Instant::now();
        let answer = buyer.ask(&request).await?;
        purchases.add(started.elapsed())?;
        ensure!(answer.status == 201, "answered with {}: {}", answer.status, answer.body);

        let owner = format!("raw-{turn}");
        let set = raw.set("lock:raw", &owner).await?;
        locks.add(set + raw.delete("lock:raw", &owner).await?)?;

        let started = Instant::now();
        limits::insert(&mut database, 1).await?;
        commits.add(started.elapsed())?;
    }
    let books = stage.settle().await?;
    ensure!(books.orders == u64::from(WARM_UP + PURCHASES), "{} orders", books.orders);
    let (alone, lock, commit) = (purchases.micros(50.0), locks.micros(50.0), commits.micros(50.0));
    eprintln!("  purchase_alone_p50: {alone:.0} us; lock {lock:.0} us, commit {commit:.0} us");
    Ok(vec![
        ("purchase_alone_p50", alone),
        ("l4_raw_lock_unlock_p50", lock),
        ("one_commit_p50", commit),
        ("l4_and_one_commit", lock + commit),
        ("purchase_alone_p99", purchases.micros(99.0)),
    ]
    .into())
}
