//! Purchases by the load job on one core, and by `wrk` on the same core. The servers have all other cores, so that the
//! driver is what a slow driver slows down.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use futures::FutureExt;
use testkit::RedisServer;
use uuid::Uuid;

use super::stage::{Shape, Stage, USUAL};
use super::wrk::Load;
use crate::cores::{Cores, keep};
use crate::figures::{Measured, Round, Row, Section, Target, Unit};
use crate::load_program;

/// See [`crate::load`].
pub const SECTION: Section = Section {
    title: "Purchases by the load job and by wrk, each on one core, 512 connections",
    rows: &[
        Row::Figure("wrk_purchases", Unit::PerSecond),
        Row::Figure("load_job_purchases", Unit::PerSecond),
        Row::Ratio("load_job_purchases", "wrk_purchases", Some(Target::AtLeast(1.0))),
        Row::Figure("wrk_core_time", Unit::Micros),
        Row::Figure("load_job_core_time", Unit::Micros),
    ],
    round: |round| measure(round).boxed(),
};

const CONNECTIONS: u32 = 512;
/// Users of the load job for each second that a load lasts: each buys once.
const USERS_A_SECOND: u64 = 20_000;

async fn measure(round: Round) -> Result<Measured> {
    let cores = Cores::divide()?;
    let users = USERS_A_SECOND * round.lasting.as_secs().max(1);
    // A product for each of the two: the load job wants one that nobody has bought.
    let stage = Stage::start(&round, Shape { products: 2, ..USUAL }).await?;
    let tokens = tokens_like_those_of_the_load_job(&stage, users)?;
    let processes = stage.replicas.iter().map(super::stage::Replica::pid);
    let processes = processes.chain(stage.redis.iter().map(RedisServer::pid));
    for process in processes.chain(stage.postgres.as_ref().map(testkit::Postgres::pid)) {
        keep(process, &cores.servers)?;
    }
    // Connections, caches and plans are warm before the first load, too.
    let warm_up =
        wrk(&stage, &cores, &tokens, std::time::Duration::from_secs(1), "warm-up").await?;
    warm_up.ensure_nothing_refused()?;
    let mut measured = Measured::default();
    let wrk_first = round.number.is_multiple_of(2);
    if wrk_first {
        by_wrk(&stage, &cores, &round, &tokens, &mut measured).await?;
    }
    by_load_job(&stage, &cores, &round, users, &mut measured).await?;
    if !wrk_first {
        by_wrk(&stage, &cores, &round, &tokens, &mut measured).await?;
    }
    Ok(measured)
}

/// A file of tokens for `wrk`, twice as many as the load job has users, with names as long: a replica remembers tokens that
/// come again, and verifies the others.
fn tokens_like_those_of_the_load_job(stage: &Stage, users: u64) -> Result<PathBuf> {
    let run = Uuid::new_v4().simple();
    let token = |user| stage.sign(&format!("wrk--{run}-{user}"));
    let tokens = (0..2 * users).map(token).collect::<Result<Vec<_>>>()?;
    let file = stage.folder().join("tokens-of-users");
    std::fs::write(&file, tokens.join("\n"))?;
    Ok(file)
}

async fn wrk(
    stage: &Stage,
    cores: &Cores,
    tokens: &Path,
    lasting: std::time::Duration,
    run: &str,
) -> Result<super::wrk::Report> {
    let ports: Vec<u16> = stage.replicas.iter().map(|replica| replica.port).collect();
    let load = Load {
        connections: CONNECTIONS,
        lasting,
        scheme: "http",
        ports: &ports,
        tokens,
        asks: super::wrk::Asks::Purchase,
        products: &stage.products[..1],
        run,
        keys: super::wrk::Keys::Uuids,
        core: Some(cores.driver),
    };
    load.run(stage.folder()).await
}

async fn by_wrk(
    stage: &Stage,
    cores: &Cores,
    round: &Round,
    tokens: &Path,
    measured: &mut Measured,
) -> Result<()> {
    let earlier = stage.spent().await?;
    let report = wrk(stage, cores, tokens, round.lasting, "wrk").await?;
    let spent = stage.spent().await?.since(earlier);
    stage.settle().await?;
    report.ensure_nothing_refused()?;
    let per_second = report.rate(report.accepted());
    eprintln!("  wrk_purchases: {per_second:.0}/s");
    measured.figures.extend([
        ("wrk_purchases", per_second),
        ("wrk_core_time", spent.ticks.by_the_driver(report.accepted())),
    ]);
    measured.costs.push(("wrk_purchases", spent.each(report.accepted())?));
    Ok(())
}

async fn by_load_job(
    stage: &Stage,
    cores: &Cores,
    round: &Round,
    users: u64,
    measured: &mut Measured,
) -> Result<()> {
    let scenario = format!(
        "name: bench\ndescription: as many purchases as one core drives\nusers: {users}\n\
         connections: {CONNECTIONS}\nquantity: 1\nstock: {}\nnodes: {}\n\
         pause_seconds: {{min: 0.1, max: 0.2}}\nmax_tries: 100\nanswer_timeout_seconds: 60\n\
         deadline_seconds: 300\n",
        super::stage::ENDLESS,
        stage.redis.len(),
    );
    let replica = &stage.replicas[0];
    let target = load_program::Target {
        url: format!("http://127.0.0.1:{}", replica.port),
        ca_file: None,
        metrics_url: format!("http://127.0.0.1:{}/metrics", replica.metrics),
        redis: stage.redis.iter().map(RedisServer::address).collect(),
        database_url: &stage.database_url,
        secret: &stage.secret,
        product: &stage.products[1],
    };
    let earlier = stage.spent().await?;
    let verdict =
        load_program::run(&round.load, Some(cores.driver), stage.folder(), &scenario, &target)
            .await?;
    let spent = stage.spent().await?.since(earlier);
    ensure!(u64::from(verdict.users) == users, "{} of {users} users came", verdict.users);
    let per_second = f64::from(verdict.users) / verdict.elapsed_seconds;
    let retried = verdict.requests - verdict.users;
    eprintln!("  load_job_purchases: {per_second:.0}/s, {retried} attempts repeated");
    measured.figures.extend([
        ("load_job_purchases", per_second),
        ("load_job_core_time", spent.ticks.by_the_driver(users)),
    ]);
    measured.costs.push(("load_job_purchases", spent.each(users)?));
    Ok(())
}
