//! Purchases by the load job on one core, and by `wrk` on the same core. The servers have all other cores, so that the
//! driver is what a slow driver slows down.

use anyhow::{Result, ensure};
use futures::FutureExt;
use testkit::RedisServer;

use super::spent::Ticks;
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
    // A product for each of the two: the load job wants one that nobody has bought.
    let stage = Stage::start(&round, Shape { products: 2, ..USUAL }).await?;
    let processes = stage.replicas.iter().map(super::stage::Replica::pid);
    let processes = processes.chain(stage.redis.iter().map(RedisServer::pid));
    for process in processes.chain(stage.postgres.as_ref().map(testkit::Postgres::pid)) {
        keep(process, &cores.servers)?;
    }
    // Connections, caches and plans are warm before the first load, too.
    let warm_up = wrk(&stage, &cores, std::time::Duration::from_secs(1), "warm-up").await?;
    warm_up.ensure_nothing_refused()?;
    let mut figures = Vec::new();
    let wrk_first = round.number.is_multiple_of(2);
    if wrk_first {
        figures.extend(by_wrk(&stage, &cores, &round).await?);
    }
    figures.extend(by_load_job(&stage, &cores, &round).await?);
    if !wrk_first {
        figures.extend(by_wrk(&stage, &cores, &round).await?);
    }
    Ok(figures.into())
}

async fn wrk(
    stage: &Stage,
    cores: &Cores,
    lasting: std::time::Duration,
    run: &str,
) -> Result<super::wrk::Report> {
    let ports: Vec<u16> = stage.replicas.iter().map(|replica| replica.port).collect();
    let load = Load {
        connections: CONNECTIONS,
        lasting,
        scheme: "http",
        ports: &ports,
        tokens: &stage.tokens_file(),
        asks: super::wrk::Asks::Purchase,
        products: &stage.products[..1],
        run,
        repeats: super::wrk::Repeats::None,
        core: Some(cores.driver),
    };
    load.run(stage.folder()).await
}

async fn by_wrk(stage: &Stage, cores: &Cores, round: &Round) -> Result<Vec<(&'static str, f64)>> {
    let earlier = Ticks::until_now(stage)?;
    let report = wrk(stage, cores, round.lasting, "wrk").await?;
    let spent = Ticks::until_now(stage)?.since(earlier);
    stage.settle().await?;
    report.ensure_nothing_refused()?;
    let per_second = report.rate(report.accepted());
    eprintln!("  wrk_purchases: {per_second:.0}/s");
    Ok(vec![
        ("wrk_purchases", per_second),
        ("wrk_core_time", spent.by_the_driver(report.accepted())),
    ])
}

async fn by_load_job(
    stage: &Stage,
    cores: &Cores,
    round: &Round,
) -> Result<Vec<(&'static str, f64)>> {
    let users = USERS_A_SECOND * round.lasting.as_secs().max(1);
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
    let earlier = Ticks::until_now(stage)?;
    let verdict =
        load_program::run(&round.load, Some(cores.driver), stage.folder(), &scenario, &target)
            .await?;
    let spent = Ticks::until_now(stage)?.since(earlier);
    ensure!(u64::from(verdict.users) == users, "{} of {users} users came", verdict.users);
    let per_second = f64::from(verdict.users) / verdict.elapsed_seconds;
    let retried = verdict.requests - verdict.users;
    eprintln!("  load_job_purchases: {per_second:.0}/s, {retried} attempts repeated");
    Ok(vec![("load_job_purchases", per_second), ("load_job_core_time", spent.by_the_driver(users))])
}
