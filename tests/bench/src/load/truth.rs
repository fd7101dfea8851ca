//! The load job's P99 against one that is known by construction: a server delays each answer by a known schedule, and
//! users come at known moments.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::FutureExt;
use sqlx::SqlitePool;
use testkit::RedisServer;
use tokio::process::Command;

use crate::figures::{Measured, Round, Row, Section, Target, Unit};
use crate::load_program;
use crate::slow_server::{Schedule, SlowServer};

pub(super) const SPREAD: Section = Section {
    title: "P99 of the load job: a server that delays by 100 to 600 ms",
    rows: &[
        Row::Figure("spread_true_p99", Unit::Millis),
        Row::Figure("spread_load_job_p99", Unit::Millis),
        Row::Judged("spread_p99_off", Unit::Percent, Target::AtMost(2.0)),
    ],
    round: |round| {
        let names = ["spread_true_p99", "spread_load_job_p99", "spread_p99_off"];
        measure(round, spread, names).boxed()
    },
};

pub(super) const STALL: Section = Section {
    title: "P99 of the load job: a server that answers nothing for a second",
    rows: &[
        Row::Figure("stall_true_p99", Unit::Millis),
        Row::Figure("stall_load_job_p99", Unit::Millis),
        Row::Judged("stall_p99_off", Unit::Percent, Target::AtMost(2.0)),
    ],
    round: |round| {
        let names = ["stall_true_p99", "stall_load_job_p99", "stall_p99_off"];
        measure(round, stall, names).boxed()
    },
};

/// One user after the other, whatever happens to the earlier ones.
const USERS: u32 = 1_000;
const BETWEEN: Duration = Duration::from_millis(5);
/// At least 32 bytes; nobody verifies what it signs here.
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// 100 to 599.5 ms, each delay once, in a mixed order: 617 has no divisor in common with 1,000.
fn spread(number: u32, _since: Duration) -> Duration {
    Duration::from_millis(100) + Duration::from_micros(500) * (number * 617 % USERS)
}

/// Who comes from second 2 to second 3 waits for the end of it.
fn stall(_number: u32, since: Duration) -> Duration {
    let (begin, end) = (Duration::from_secs(2), Duration::from_secs(3));
    if (begin..end).contains(&since) { end.saturating_sub(since) } else { Duration::from_millis(5) }
}

/// The nearest rank of what users wait who come at the right moments.
fn true_p99(schedule: Schedule) -> Duration {
    let mut waits: Vec<Duration> =
        (0..USERS).map(|number| schedule(number, BETWEEN * number)).collect();
    waits.sort_unstable();
    let rank = (waits.len() * 99).div_ceil(100);
    waits[rank - 1]
}

async fn measure(round: Round, schedule: Schedule, names: [&'static str; 3]) -> Result<Measured> {
    let folder = tempfile::Builder::new().prefix("flashsale-bench-").tempdir()?;
    let server = SlowServer::start(schedule).await?;
    let redis = RedisServer::start()?;
    redis.command("SET stock:1 0")?;
    let database_url = format!("sqlite://{}", folder.path().join("sale.db").display());
    sold_out_database(&round.app, &database_url).await?;
    let scenario = format!(
        "name: truth\ndescription: users at known moments\nusers: {USERS}\nusers_per_second: {}\n\
         quantity: 1\nstock: 0\nnodes: 1\npause_seconds: {{min: 0.1, max: 0.1}}\nmax_tries: 1\n\
         answer_timeout_seconds: 60\ndeadline_seconds: 60\n",
        BETWEEN.as_secs_f64().recip()
    );
    let target = load_program::Target {
        url: format!("http://127.0.0.1:{}", server.port),
        ca_file: None,
        metrics_url: format!("http://127.0.0.1:{}/metrics", server.port),
        redis: vec![redis.address()],
        database_url: &database_url,
        secret: SECRET,
        product: "1",
    };
    let verdict = load_program::run(&round.load, None, folder.path(), &scenario, &target).await?;
    ensure!(verdict.requests == USERS, "{} requests of {USERS} users", verdict.requests);
    let truth = true_p99(schedule).as_secs_f64() * 1e3;
    let off = (verdict.p99_ms / truth - 1.0).abs() * 100.0;
    eprintln!("  {}: {:.1} ms, in truth {truth:.1} ms", names[1], verdict.p99_ms);
    Ok(vec![(names[0], truth), (names[1], verdict.p99_ms), (names[2], off)].into())
}

/// The app's own tables, with a product that has nothing left.
async fn sold_out_database(app: &Path, url: &str) -> Result<()> {
    let ended = Command::new(app).arg("migrate").env("DATABASE_URL", url).output().await?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "flashsale-app migrate failed: {said}");
    let database = SqlitePool::connect(url).await?;
    for statement in [
        "INSERT INTO products (id, name) VALUES ('1', 'Console')",
        "INSERT INTO stock (product_id, declared, available) VALUES ('1', 0, 0)",
    ] {
        sqlx::query(statement).execute(&database).await?;
    }
    database.close().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_truth_follows_from_the_schedules() {
        // Rank 990 of 1,000 delays, half a millisecond apart.
        assert_eq!(true_p99(spread), Duration::from_micros(594_500));
        // 200 users wait 1,000, 995, 990... ms; ten wait longer than the one of rank 990.
        assert_eq!(true_p99(stall), Duration::from_millis(950));
    }
}
