//! Acquire and release while nodes are frozen (SIGSTOP): their connections stay open, and nothing
//! answers.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::FutureExt;
use redlock::{QueueDiscipline, Redlock};

use super::latencies::Latencies;
use super::nodes::{Nodes, patient};
use crate::figures::{Measured, Row, Section, Unit};

pub(super) const SECTION: Section = Section {
    title: "Frozen nodes (SIGSTOP): acquire + release, from the moment they freeze",
    rows: &[
        Row::Figure("healthy_p99", Unit::Micros),
        Row::Figure("one_stopped_p99", Unit::Micros),
        Row::Ratio("one_stopped_p99", "healthy_p99", None),
        Row::Figure("two_stopped_p99", Unit::Micros),
        Row::Ratio("two_stopped_p99", "healthy_p99", None),
        Row::Figure("healthy_max", Unit::Millis),
        Row::Figure("one_stopped_max", Unit::Millis),
        Row::Figure("two_stopped_max", Unit::Millis),
    ],
    round: |_round| measure().boxed(),
};

/// Longer than it takes a client to notice and to give the connection up.
const PHASE: Duration = Duration::from_millis(2500);
/// The first calls of a client are not what is measured.
const WARM_UP: Duration = Duration::from_millis(200);

async fn measure() -> Result<Measured> {
    let nodes = Nodes::start()?;
    let redlock = nodes.client().await?;
    acquire_release(&redlock, WARM_UP).await?;
    let healthy = acquire_release(&redlock, PHASE).await?;
    nodes.0[0].pause()?;
    let one = acquire_release(&redlock, PHASE).await?;
    nodes.0[1].pause()?;
    let two = acquire_release(&redlock, PHASE).await?;
    // They end with SIGKILL, which a frozen process obeys.
    Ok(vec![
        ("healthy_p99", healthy.micros(99.0)),
        ("one_stopped_p99", one.micros(99.0)),
        ("two_stopped_p99", two.micros(99.0)),
        ("healthy_max", healthy.millis(100.0)),
        ("one_stopped_max", one.millis(100.0)),
        ("two_stopped_max", two.millis(100.0)),
    ]
    .into())
}

async fn acquire_release(redlock: &Redlock, lasting: Duration) -> Result<Latencies> {
    let mut latencies = Latencies::new()?;
    let until = Instant::now() + lasting;
    while Instant::now() < until {
        let started = Instant::now();
        redlock.acquire("frozen", patient(QueueDiscipline::Unordered)).await?.release().await;
        latencies.add(started.elapsed())?;
    }
    Ok(latencies)
}
