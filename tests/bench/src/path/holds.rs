//! A hundred thousand unpaid orders whose holds end at one moment, while buyers buy the same product.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use futures::FutureExt;
use sqlx::PgPool;
use tokio::time::sleep;

use super::ledger::Ledger;
use super::run::WARM_UP;
use super::stage::{Stage, USUAL};
use super::wrk::{Asks, Keys};
use crate::figures::{Measured, Round, Row, Section, Target, Unit};

pub(super) const SECTION: Section = Section {
    title: "100,000 holds that end at one moment, while 512 connections buy the same product",
    rows: &[
        Row::Judged("holds_ended_after", Unit::Millis, Target::AtMost(10_000.0)),
        Row::Figure("purchases_before_holds_end", Unit::PerSecond),
        Row::Figure("purchases_while_holds_end", Unit::PerSecond),
        Row::Ratio(
            "purchases_while_holds_end",
            "purchases_before_holds_end",
            Some(Target::AtLeast(0.80)),
        ),
    ],
    round: |round| measure(round).boxed(),
};

const CONNECTIONS: u32 = 512;
const HOLDS: u32 = 100_000;
/// Longer than all that is measured.
const LOAD: Duration = Duration::from_mins(1);
const BEFORE: Duration = Duration::from_secs(4);
/// The holds are made, and the load begins, in less than this.
const BEGUN: Duration = Duration::from_secs(12);
/// Ends the round.
const GIVEN_UP: Duration = Duration::from_secs(30);
/// The look at the holds that are left costs some milliseconds.
const POLL: Duration = Duration::from_millis(250);
/// Counted once an order is committed, unlike the sizes of batches.
const SOLD: (&str, &[&str]) = ("flashsale_purchases_total", &["outcome=\"sold\""]);
const ANSWERS: &str = "flashsale_http_requests_total";

/// Orders of product `$1`, `$2` of them, that hold their units until `$3`. They were placed one after the other, so their
/// ids are in order of time, as those of the app.
const HOLD: &str = "WITH held AS (\
     INSERT INTO orders (id, product_id, buyer, quantity, fence, state, expires_at_ms) \
     SELECT (lpad(to_hex(n), 12, '0') || '7' || substr(md5(n::TEXT), 1, 3) || '8' \
       || substr(md5(n::TEXT), 4, 15))::UUID, $1, 'held-' || n, 1, 1, 'pending', $3 \
     FROM generate_series(1, $2) n) \
     UPDATE stock SET available = available - $2 WHERE product_id = $1";
const SOME_HELD: &str = "SELECT EXISTS (SELECT FROM orders WHERE state = 'pending' AND expires_at_ms IS NOT NULL AND line = 0)";
/// Units that are not in the stock, and those of orders that are not over.
const TAKEN: &str = "SELECT (SELECT sum(declared - available)::BIGINT FROM stock), \
     (SELECT sum(quantity)::BIGINT FROM orders WHERE state NOT IN ('expired', 'cancelled'))";

async fn measure(round: Round) -> Result<Measured> {
    let stage = Stage::start(&round, USUAL).await?;
    let Ledger::Postgres(database) = &stage.ledger else { bail!("holds are put into PostgreSQL") };
    let end = SystemTime::now() + BEGUN + WARM_UP + BEFORE;
    let end_ms = i64::try_from(end.duration_since(UNIX_EPOCH)?.as_millis())?;
    let hold = sqlx::query(HOLD).bind(&stage.products[0]).bind(i64::from(HOLDS)).bind(end_ms);
    hold.execute(database).await?;
    sqlx::raw_sql("VACUUM ANALYZE orders").execute(database).await?;
    let warm_up = stage.wrk(CONNECTIONS, WARM_UP, Asks::Purchase, "warm-up", Keys::Numbered);
    warm_up.await?.ensure_nothing_refused()?;
    let load = stage.wrk(CONNECTIONS, LOAD, Asks::Purchase, "holds", Keys::Numbered);
    let watched = watch(&stage, database, end);
    // What is measured is over before the load, so the load need not be waited for.
    let figures = tokio::select! {
        report = load => bail!("the load ended first: {report:?}"),
        figures = watched => figures?,
    };
    taken(&stage, database).await?;
    Ok(figures.into())
}

/// `end` is the end of the holds.
async fn watch(
    stage: &Stage,
    database: &PgPool,
    end: SystemTime,
) -> Result<Vec<(&'static str, f64)>> {
    // The load has begun.
    sleep(Duration::from_secs(1)).await;
    let before = rate(stage, async || {
        let left = end.duration_since(SystemTime::now()).unwrap_or_default();
        ensure!(left >= BEFORE / 2, "the holds were made too late: they end in {left:?}");
        sleep(left).await;
        Ok(())
    })
    .await?;
    let since = Instant::now();
    let beside = rate(stage, async || {
        while sqlx::query_scalar(SOME_HELD).fetch_one(database).await? {
            ensure!(since.elapsed() < GIVEN_UP, "some holds did not end within {GIVEN_UP:?}");
            sleep(POLL).await;
        }
        Ok(())
    })
    .await?;
    let after = since.elapsed().as_secs_f64() * 1e3;
    eprintln!(
        "  holds_ended_after: {after:.0} ms; purchases {before:.0}/s, meanwhile {beside:.0}/s"
    );
    Ok(vec![
        ("holds_ended_after", after),
        ("purchases_before_holds_end", before),
        ("purchases_while_holds_end", beside),
    ])
}

/// Purchases a second while something takes its time. There is stock for all, so nobody may be refused.
async fn rate(stage: &Stage, meanwhile: impl AsyncFnOnce() -> Result<()>) -> Result<f64> {
    let earlier = refused(stage).await?;
    let (began, before) = (Instant::now(), stage.metric(SOLD.0, SOLD.1).await?);
    meanwhile().await?;
    let sold = stage.metric(SOLD.0, SOLD.1).await? - before;
    let per_second = sold / began.elapsed().as_secs_f64();
    let refused = refused(stage).await? - earlier;
    ensure!(sold > 0.0 && refused == 0.0, "{sold} purchases were sold, and {refused} refused");
    Ok(per_second)
}

/// Purchases that were answered with a status above 399. The load is not waited for, so `wrk` does not tell.
async fn refused(stage: &Stage) -> Result<f64> {
    let mut refused = 0.0;
    for status in ["status=\"4", "status=\"5"] {
        refused += stage.metric(ANSWERS, &["route=\"/v1/purchases\"", status]).await?;
    }
    Ok(refused)
}

/// Each unit that is not in the stock belongs to one order that is not over.
async fn taken(stage: &Stage, database: &PgPool) -> Result<()> {
    let deadline = Instant::now() + GIVEN_UP;
    loop {
        let (missing, ordered): (i64, i64) =
            sqlx::query_as(TAKEN).fetch_one(database).await.context("cannot read the database")?;
        if missing == ordered {
            return Ok(());
        }
        let products = &stage.products;
        ensure!(
            Instant::now() < deadline,
            "{missing} units of {products:?} are taken, and orders have {ordered}"
        );
        sleep(POLL).await;
    }
}
