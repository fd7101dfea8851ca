//! What the metrics of a purchase cost, as a part of the app's processor time for it. Each duration is counted once for
//! two forms, the classic and the native histogram.
//!
//! Measured by the time that threads run, so a busy machine changes little.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use flashsale_app::metrics::Metrics;
use futures::FutureExt;
use ledger::Order;
use nix::time::{ClockId, clock_gettime};
use redlock::{AcquireOutcome, Observer as _};
use sale::{Observer as _, Receipt};
use uuid::Uuid;

use super::stage::{Stage, USUAL};
use crate::figures::{Measured, Round, Row, Section, Target, Unit};

pub(super) const SECTION: Section = Section {
    title: "Metrics: a duration, all of a purchase, and these as a part of the app's time for a purchase",
    rows: &[
        Row::Figure("duration_observed", Unit::Nanos),
        Row::Figure("duration_observed_by_two", Unit::Nanos),
        Row::Figure("purchase_observed", Unit::Nanos),
        Row::Figure("purchase_observed_by_two", Unit::Nanos),
        Row::Judged("durations_of_a_purchase", Unit::Percent, Target::AtMost(1.0)),
        Row::Figure("metrics_of_a_purchase", Unit::Percent),
    ],
    round: |round| measure(round).boxed(),
};

const TIMES: u32 = 2_000_000;
const WARM_UP: u32 = 100_000;
/// The routes that the API has, about.
const ROUTES: [&str; 24] = [
    "/docs",
    "/openapi.json",
    "/v1/admin/overview",
    "/v1/auth/login",
    "/v1/auth/me",
    "/v1/auth/signup",
    "/v1/coupons",
    "/v1/coupons/{id}",
    "/v1/coupons/{id}/issue",
    "/v1/events",
    "/v1/orders",
    "/v1/orders/{id}",
    "/v1/orders/{id}/cancel",
    "/v1/orders/{id}/payment",
    "/v1/products",
    "/v1/products/{id}",
    "/v1/products/{id}/events",
    "/v1/products/{id}/restock",
    "/v1/products/{id}/stock",
    "/v1/purchases",
    "/v1/sale",
    "/v1/stocks",
    "/v1/stocks/locks/{key}",
    "/v1/stocks/locks/{key}/fair",
];
/// Durations of a batch: the wait, the hold and a vote of each node.
const OF_A_BATCH: f64 = 7.0;

async fn measure(round: Round) -> Result<Measured> {
    let metrics = Arc::new(Metrics::new()?);
    metrics.know_responses(ROUTES.map(|route| ("POST", route, "200")));
    let durations = {
        let metrics = Arc::clone(&metrics);
        move |turn: u32| metrics.lock().released(took(turn))
    };
    let receipt = receipt();
    let purchase = {
        let metrics = Arc::clone(&metrics);
        move |turn: u32| {
            metrics.purchase(Ok(&receipt));
            metrics.http("POST", Some("/v1/purchases"), "201", took(turn));
        }
    };
    metrics.lock().acquired(AcquireOutcome::Acquired, Duration::ZERO, 1);
    let (duration, duration_by_two) = each(&durations)?;
    let (purchase, purchase_by_two) = each(&purchase)?;

    let stage = Stage::start(&round, USUAL).await?;
    let sold = stage.purchases("purchases_observed", 512, round.lasting).await?;
    let part = |name: &str| {
        let found = sold.cost.iter().find(|(part, _)| *part == name).map(|(_, value)| *value);
        found.with_context(|| format!("no {name}"))
    };
    let (app_nanos, batch) = (part("app_us")? * 1e3, part("batch")?);
    // One duration for the answer, and its part of those of its batch, in the worse case of two threads.
    let durations = duration_by_two * (1.0 + OF_A_BATCH / batch);
    let all = purchase_by_two + duration_by_two * OF_A_BATCH / batch;
    Ok(vec![
        ("duration_observed", duration),
        ("duration_observed_by_two", duration_by_two),
        ("purchase_observed", purchase),
        ("purchase_observed_by_two", purchase_by_two),
        ("durations_of_a_purchase", durations / app_nanos * 100.0),
        ("metrics_of_a_purchase", all / app_nanos * 100.0),
    ]
    .into())
}

/// Some milliseconds, in several buckets.
fn took(turn: u32) -> Duration {
    Duration::from_micros(1_000 + u64::from(turn % 4_096))
}

fn receipt() -> Receipt {
    let order = Order {
        id: Uuid::now_v7(),
        product_id: "1".to_owned(),
        buyer: "ann".to_owned(),
        quantity: 1,
        idempotency_key: None,
        lines: 1,
        unit_price: None,
        limit_key: None,
    };
    Receipt { order, replayed: false }
}

/// Nanoseconds of a thread's time for each call: alone, and beside another thread that does the same.
fn each(call: &(impl Fn(u32) + Sync)) -> Result<(f64, f64)> {
    let alone = thread_time(call)?;
    let together = std::thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(|| thread_time(call)));
        let times = threads.map(std::thread::ScopedJoinHandle::join);
        let mut sum = 0.0;
        for time in times {
            sum += time.map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        anyhow::Ok(sum / 2.0)
    })?;
    Ok((alone, together))
}

fn thread_time(call: &impl Fn(u32)) -> Result<f64> {
    let now = || anyhow::Ok(Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?));
    (0..WARM_UP).for_each(call);
    let began = now()?;
    for turn in 0..TIMES {
        call(black_box(turn));
    }
    Ok(now()?.saturating_sub(began).as_secs_f64() * 1e9 / f64::from(TIMES))
}
