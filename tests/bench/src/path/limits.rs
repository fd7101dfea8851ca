//! What one Redis and PostgreSQL could do if nothing else were there.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use redis::{Client, Script};
use sqlx::{Connection, PgConnection};
use tokio::process::Command;
use tokio::task::JoinSet;

use super::stage::{Stage, USUAL};
use crate::figures::{Measured, Round, Row, Section, Unit};

pub(super) const SECTION: Section = Section {
    title: "Limits: L2 check and decrement on one Redis, L3 order rows into PostgreSQL by 256",
    rows: &[
        Row::Figure("l2_check_and_decrement", Unit::PerSecond),
        Row::Ratio("purchases_512", "l2_check_and_decrement", None),
        Row::Figure("l3_order_rows", Unit::PerSecond),
        Row::Ratio("purchases_512", "l3_order_rows", None),
    ],
    round: |round| measure(round).boxed(),
};

const CHECK_AND_DECREMENT: &str = "local left = tonumber(redis.call('GET', KEYS[1])) \
     if left < tonumber(ARGV[1]) then return -1 end \
     return redis.call('DECRBY', KEYS[1], ARGV[1])";
const CLIENTS: u32 = 64;
/// About what one core does in a second.
const CALLS_A_SECOND: u64 = 60_000;
/// One would leave a core idle.
const WRITERS: usize = 2;
const ROWS: i32 = 256;

async fn measure(round: Round) -> Result<Measured> {
    let stage = Stage::start(&round, USUAL).await?;
    let calls = check_and_decrement(&stage, round.lasting).await?;
    eprintln!("  l2_check_and_decrement: {calls:.0}/s");
    let rows = order_rows(&stage.another_database()?, round.lasting).await?;
    eprintln!("  l3_order_rows: {rows:.0}/s");
    Ok(vec![("l2_check_and_decrement", calls), ("l3_order_rows", rows)].into())
}

/// By redis-benchmark, one call at a time on each connection.
async fn check_and_decrement(stage: &Stage, lasting: Duration) -> Result<f64> {
    let address = stage.redis[0].address();
    let mut connection =
        Client::open(format!("redis://{address}"))?.get_multiplexed_async_connection().await?;
    let script = Script::new(CHECK_AND_DECREMENT);
    script.load_async(&mut connection).await?;
    let mut set = redis::cmd("SET");
    set.arg("limit").arg(u32::MAX).query_async::<()>(&mut connection).await?;
    let port = address.rsplit(':').next().context("no port")?;
    let output = Command::new("redis-benchmark")
        .args(["-p", port, "-c", &CLIENTS.to_string(), "--csv"])
        .args(["-n", &(CALLS_A_SECOND * lasting.as_secs().max(1)).to_string()])
        .args(["EVALSHA", script.get_hash(), "1", "limit", "1"])
        .output()
        .await
        .context("cannot start redis-benchmark (Debian: apt-get install redis-tools)")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "redis-benchmark failed: {}\n{said}", output.status);
    requests_a_second(&said).with_context(|| format!("redis-benchmark said\n{said}"))
}

/// The second column of the last line: `"EVALSHA ...","105263.16","0.3",...`.
fn requests_a_second(csv: &str) -> Option<f64> {
    csv.lines().last()?.split("\",\"").nth(1)?.parse().ok()
}

async fn order_rows(url: &str, lasting: Duration) -> Result<f64> {
    let mut prepared = PgConnection::connect(url).await?;
    prepare(&mut prepared).await?;
    let begin = Instant::now();
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let mut database = PgConnection::connect(url).await?;
        writers.spawn(async move {
            let mut rows = 0;
            while begin.elapsed() < lasting {
                insert(&mut database, ROWS).await?;
                rows += ROWS;
            }
            anyhow::Ok(f64::from(rows))
        });
    }
    let mut rows = 0.0;
    while let Some(written) = writers.join_next().await {
        rows += written??;
    }
    Ok(rows / begin.elapsed().as_secs_f64())
}

/// What orders refer to. The server's own durability is checked, because it is what limits.
pub(super) async fn prepare(database: &mut PgConnection) -> Result<()> {
    for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
        let value: String = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SHOW {setting}")))
            .fetch_one(&mut *database)
            .await?;
        ensure!(value == "on", "PostgreSQL's {setting} is {value}");
    }
    sqlx::query("INSERT INTO products (id, name) VALUES ('1', 'Console')")
        .execute(database)
        .await?;
    Ok(())
}

/// Inserts `rows` orders in one statement, committed.
pub(super) async fn insert(database: &mut PgConnection, rows: i32) -> Result<()> {
    let insert = "INSERT INTO orders (id, product_id, buyer, quantity, idempotency_key, fence) \
         SELECT gen_random_uuid(), '1', 'buyer-' || n, 1, gen_random_uuid()::text, 1 \
         FROM generate_series(1, $1) n";
    sqlx::query(insert).bind(rows).execute(database).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_redis_benchmark_prints() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\"\n\"EVALSHA 1 2\",\"105263.16\",\"0.3\"\n";
        assert!((requests_a_second(csv).unwrap() - 105_263.16).abs() < 1e-6);
        assert!(requests_a_second("").is_none());
    }
}
