//! The lock and rslock with eight contenders, each with a client of its own, as replicas have.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::FutureExt;
use redlock::{QueueDiscipline, Redlock};
use rslock::LockManager;
use tokio::task::JoinSet;

use super::latencies::Latencies;
use super::nodes::{Nodes, patient};
use crate::figures::{Measured, Row, Section, Unit};

pub(super) const SECTION: Section = Section {
    title: "Eight clients that want one lock again and again",
    rows: &[
        Row::Figure("contended", Unit::PerSecond),
        Row::Figure("contended_wait_p50", Unit::Millis),
        Row::Figure("contended_wait_p99", Unit::Millis),
        Row::Figure("contended_fair", Unit::PerSecond),
        Row::Figure("contended_fair_wait_p50", Unit::Millis),
        Row::Figure("contended_fair_wait_p99", Unit::Millis),
        Row::Figure("rslock_contended", Unit::PerSecond),
        Row::Figure("rslock_contended_wait_p50", Unit::Millis),
        Row::Figure("rslock_contended_wait_p99", Unit::Millis),
        Row::Ratio("contended", "rslock_contended", None),
    ],
    round: |round| measure(round.number).boxed(),
};

const CONTENDERS: usize = 8;
const LASTING: Duration = Duration::from_secs(2);
const LEASE: Duration = Duration::from_secs(10);

async fn measure(round: u32) -> Result<Measured> {
    let mut measured = Vec::new();
    for turn in round..round + 3 {
        // Fresh ones each time, so that the clients before are gone.
        let nodes = Nodes::start()?;
        let (names, waits) = match turn % 3 {
            0 => (
                ["contended", "contended_wait_p50", "contended_wait_p99"],
                contend(nodes.clients(CONTENDERS).await?, QueueDiscipline::Unordered).await?,
            ),
            1 => (
                ["contended_fair", "contended_fair_wait_p50", "contended_fair_wait_p99"],
                contend(nodes.clients(CONTENDERS).await?, QueueDiscipline::Fair).await?,
            ),
            _ => (
                ["rslock_contended", "rslock_contended_wait_p50", "rslock_contended_wait_p99"],
                contend_by_rslock(&nodes).await?,
            ),
        };
        let [rate, p50, p99] = names;
        measured.push((rate, waits.count() / LASTING.as_secs_f64()));
        measured.push((p50, waits.millis(50.0)));
        measured.push((p99, waits.millis(99.0)));
    }
    Ok(measured.into())
}

async fn contend(clients: Vec<Redlock>, discipline: QueueDiscipline) -> Result<Latencies> {
    let until = Instant::now() + LASTING;
    let mut contenders = JoinSet::new();
    for client in clients {
        contenders.spawn(async move {
            let mut waits = Latencies::new()?;
            while let asked = Instant::now()
                && asked < until
            {
                let lease = client.acquire("contended", patient(discipline)).await?;
                waits.add(asked.elapsed())?;
                lease.release().await;
            }
            Ok(waits)
        });
    }
    all(contenders).await
}

/// With its own settings: up to 200 ms at random before it tries again.
async fn contend_by_rslock(nodes: &Nodes) -> Result<Latencies> {
    let urls = || nodes.addresses().into_iter().map(|address| format!("redis://{address}"));
    let until = Instant::now() + LASTING;
    let mut contenders = JoinSet::new();
    for _ in 0..CONTENDERS {
        let manager = LockManager::new(urls().collect());
        contenders.spawn(async move {
            let mut waits = Latencies::new()?;
            while let asked = Instant::now()
                && asked < until
            {
                let lock = manager.acquire("contended", LEASE).await?;
                waits.add(asked.elapsed())?;
                lock.release().await;
            }
            Ok(waits)
        });
    }
    all(contenders).await
}

async fn all(mut contenders: JoinSet<Result<Latencies>>) -> Result<Latencies> {
    let mut waits = Latencies::new()?;
    while let Some(of_one) = contenders.join_next().await {
        waits.merge(&of_one??)?;
    }
    Ok(waits)
}
