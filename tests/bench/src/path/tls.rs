//! Buyers over TLS: connections that stay, and a crowd of new ones.

use anyhow::{Context, Result};
use futures::FutureExt;
use testkit::RedisServer;

use super::loads::{self, Loaded};
use super::stage::{Shape, Stage, USUAL};
use crate::figures::{Measured, Round, Row, Section, Target, Unit};
use crate::load_program;

const TLS_512: Loaded = Loaded::new("purchases_tls", 512, OVER_TLS);
const OVER_TLS: Shape = Shape { tls: true, ..USUAL };

pub(super) const SECTION: Section = Section {
    title: "Over TLS: 512 connections that stay; 10,000 users in a second, each with a connection of its own, 100 items",
    rows: &[
        Row::Figure("purchases_tls", Unit::PerSecond),
        Row::Ratio("purchases_tls", "purchases_512", Some(Target::AtLeast(0.85))),
        Row::Judged("tls_crowd_last_answer", Unit::Millis, Target::AtMost(5_000.0)),
    ],
    round: |round| measure(round).boxed(),
};

/// They come within a second: with the load tool on the same cores, its handshakes are in the figure.
const USERS: u32 = 10_000;

async fn measure(round: Round) -> Result<Measured> {
    let mut measured = loads::measure(round.clone(), &[&TLS_512]).await?;
    measured.figures.push(("tls_crowd_last_answer", crowd(&round).await?));
    Ok(measured)
}

/// Milliseconds from the first user to the last final answer.
async fn crowd(round: &Round) -> Result<f64> {
    let stage = Stage::start(round, Shape { stock: 100, ..OVER_TLS }).await?;
    let scenario = format!(
        "name: tls\ndescription: a crowd over TLS\nusers: {USERS}\nusers_per_second: {USERS}\n\
         seconds: 1\nquantity: 1\nstock: 100\nnodes: {}\n\
         pause_seconds: {{min: 0.1, max: 0.2}}\nmax_tries: 100\nanswer_timeout_seconds: 60\n\
         deadline_seconds: 300\n",
        stage.redis.len(),
    );
    let replica = stage.replicas.first().context("no replica")?;
    let files = stage.tls.as_ref().context("no certificate")?;
    let target = load_program::Target {
        url: format!("https://localhost:{}", replica.port),
        ca_file: Some(files.path("ca.crt")),
        metrics_url: format!("http://127.0.0.1:{}/metrics", replica.metrics),
        redis: stage.redis.iter().map(RedisServer::address).collect(),
        database_url: &stage.database_url,
        secret: &stage.secret,
        product: &stage.products[0],
    };
    let verdict = load_program::run(&round.load, None, stage.folder(), &scenario, &target).await?;
    let millis = verdict.elapsed_seconds * 1e3;
    eprintln!("  tls_crowd_last_answer: {millis:.0} ms, {} users", verdict.users);
    Ok(millis)
}
