//! Sales of millions of orders: how soon `Atomic` sells again after its node lost everything, and how
//! much memory a replica takes when buyers repeat their keys at sell-out.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::FutureExt;
use tokio::time::sleep;

use super::http::{self, Connection};
use super::ledger::{order_buyer, order_id};
use super::stage::{Shape, Stage, USUAL};
use crate::figures::{Measured, Round, Row, Section, Target, Unit};
use crate::lock::latencies::Latencies;

pub(super) const RECOVERY: Section = Section {
    title: "Atomic, 2 units for a buyer: until it sells again after its node lost everything",
    rows: &[
        Row::Figure("recovery_0_orders", Unit::Millis),
        Row::Judged("recovery_3000000_orders", Unit::Millis, Target::AtMost(5000.0)),
    ],
    round: |round| recovery(round).boxed(),
};

pub(super) const SOLD_OUT: Section = Section {
    title: "4 products sold out, 1,000,000 orders each: keys are repeated, orders cancelled",
    rows: &[
        Row::Judged("replica_memory_sold_out", Unit::Megabytes, Target::AtMost(96.0)),
        Row::Judged("key_at_sold_out_p99", Unit::Millis, Target::AtMost(50.0)),
        Row::Figure("key_at_sold_out_worst", Unit::Millis),
    ],
    round: |round| sold_out(round).boxed(),
};

const PRODUCTS: usize = 4;
const ORDERS: u32 = 1_000_000;
/// Of each product.
const CANCELS: u32 = 6;
const RECOVERY_TIMEOUT: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(5);
/// How long keys are asked for after all is sold out.
const WATCHED: Duration = Duration::from_secs(10);

async fn recovery(round: Round) -> Result<Measured> {
    let shape = Shape { strategy: "Atomic", nodes: 1, max_per_buyer: Some(2), ..USUAL };
    let mut figures = Vec::new();
    for (figure, orders) in [("recovery_0_orders", 0), ("recovery_3000000_orders", 3 * ORDERS)] {
        let stage = Stage::start(&round, shape).await?;
        stage.ledger.fill(&stage.products[0], orders).await?;
        let time = time_to_recover(&stage).await?.as_secs_f64() * 1e3;
        eprintln!("  {figure}: {time:.0} ms");
        figures.push((figure, time));
    }
    Ok(figures.into())
}

async fn time_to_recover(stage: &Stage) -> Result<Duration> {
    let mut buyer = Connection::open(stage.replicas[0].port).await?;
    let mut attempts = 0..;
    let (product, token) = (&stage.products[0], &stage.tokens[0]);
    let mut request = || {
        let attempt: u32 = attempts.next().unwrap_or_default();
        http::purchase(product, token, &format!("recovery-{attempt}"))
    };
    let before = buyer.ask(&request()).await?;
    ensure!(before.status == 201, "answered with {}: {}", before.status, before.body);
    // So that what was sold is recorded, and is not what it waits for.
    stage.settle().await?;
    stage.redis[0].command("FLUSHALL")?;
    let lost = Instant::now();
    loop {
        let answer = buyer.ask(&request()).await?;
        if answer.status == 201 {
            return Ok(lost.elapsed());
        }
        let waited = lost.elapsed();
        ensure!(waited < RECOVERY_TIMEOUT, "after {waited:?} still {}", answer.body);
        sleep(POLL).await;
    }
}

async fn sold_out(round: Round) -> Result<Measured> {
    let shape = Shape { products: PRODUCTS, stock: ORDERS, ..USUAL };
    let stage = Stage::start(&round, shape).await?;
    for product in &stage.products {
        stage.ledger.fill(product, ORDERS).await?;
    }
    let mut buyer = Connection::open(stage.replicas[0].port).await?;
    let mut times = Latencies::new()?;
    for product in &stage.products {
        for number in 1..=CANCELS {
            let token = stage.sign(&order_buyer(number))?;
            // A key that was used, one that was not, then the units come back and are sold again.
            let used = http::purchase(product, &token, &format!("filled-{product}-{number}"));
            let new = http::purchase(product, &token, &format!("new-{product}-{number}"));
            let cancelled = http::cancel(&order_id(product, number), &token);
            let again = http::purchase(product, &token, &format!("again-{product}-{number}"));
            let asked = [(used, 201), (new, 409), (cancelled, 200), (again, 201)];
            for (request, status) in asked {
                let asked = Instant::now();
                let answer = buyer.ask(&request).await?;
                times.add(asked.elapsed())?;
                let said = &answer.body;
                ensure!(answer.status == status, "{} instead of {status}: {said}", answer.status);
            }
        }
    }
    // What is refused may be looked up in the background.
    let until = Instant::now() + WATCHED;
    for number in 0.. {
        let product = &stage.products[number % PRODUCTS];
        let new = http::purchase(product, &stage.tokens[0], &format!("late-{number}"));
        let asked = Instant::now();
        let answer = buyer.ask(&new).await?;
        times.add(asked.elapsed())?;
        ensure!(answer.status == 409, "{}: {}", answer.status, answer.body);
        if asked > until {
            break;
        }
        sleep(POLL).await;
    }
    let memory = stage.replicas[0].peak_memory()?;
    let (p99, worst) = (times.millis(99.0), times.millis(100.0));
    eprintln!("  replica_memory_sold_out: {memory:.0} MB; P99 {p99:.1} ms, worst {worst:.1} ms");
    Ok(vec![
        ("replica_memory_sold_out", memory),
        ("key_at_sold_out_p99", p99),
        ("key_at_sold_out_worst", worst),
    ]
    .into())
}
