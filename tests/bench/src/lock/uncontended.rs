//! Acquire and release with nobody else there: what the lock adds to its messages.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::FutureExt;
use redlock::{QueueDiscipline, Redlock};
use rslock::LockManager;

use super::latencies::Latencies;
use super::nodes::{Nodes, patient};
use super::raw::Raw;
use crate::figures::{Measured, Row, Section, Target, Unit};

pub(super) const SECTION: Section = Section {
    title: "Uncontended: acquire + release over five nodes",
    rows: &[
        Row::Figure("acquire_release_p50", Unit::Micros),
        Row::Figure("raw_lock_unlock_p50", Unit::Micros),
        Row::Ratio("acquire_release_p50", "raw_lock_unlock_p50", Some(Target::AtMost(1.5))),
        Row::Figure("acquire_release_p99", Unit::Micros),
        Row::Figure("raw_lock_unlock_p99", Unit::Micros),
        Row::Figure("rslock_lock_unlock_p50", Unit::Micros),
        Row::Ratio("rslock_lock_unlock_p50", "raw_lock_unlock_p50", None),
    ],
    round: |round| measure(round.number).boxed(),
};

/// Turns are short, so that a disturbance from outside meets all sides.
const TURNS: u32 = 20;
const A_TURN: u32 = 200;
const LEASE: Duration = Duration::from_secs(10);

async fn measure(round: u32) -> Result<Measured> {
    let nodes = Nodes::start()?;
    let redlock = nodes.client().await?;
    let mut raw = Raw::connect(&nodes.addresses()).await?;
    let urls = nodes.addresses().into_iter().map(|address| format!("redis://{address}"));
    let rslock = LockManager::new(urls.collect());
    let (mut by_us, mut by_raw, mut by_rslock) =
        (Latencies::new()?, Latencies::new()?, Latencies::new()?);
    for turn in round..round + 3 * TURNS {
        match turn % 3 {
            0 => acquire_release(&redlock, &mut by_us).await?,
            1 => raw_lock_unlock(&mut raw, &mut by_raw).await?,
            _ => lock_unlock(&rslock, &mut by_rslock).await?,
        }
    }
    Ok(vec![
        ("acquire_release_p50", by_us.micros(50.0)),
        ("acquire_release_p99", by_us.micros(99.0)),
        ("raw_lock_unlock_p50", by_raw.micros(50.0)),
        ("raw_lock_unlock_p99", by_raw.micros(99.0)),
        ("rslock_lock_unlock_p50", by_rslock.micros(50.0)),
    ]
    .into())
}

async fn acquire_release(redlock: &Redlock, latencies: &mut Latencies) -> Result<()> {
    for _ in 0..A_TURN {
        let started = Instant::now();
        redlock.acquire("uncontended", patient(QueueDiscipline::Unordered)).await?.release().await;
        latencies.add(started.elapsed())?;
    }
    Ok(())
}

async fn raw_lock_unlock(raw: &mut Raw, latencies: &mut Latencies) -> Result<()> {
    for number in 0..A_TURN {
        // As other locks have it: each hold has an owner of its own.
        let owner = format!("raw-{number}");
        let set = raw.set("lock:raw", &owner).await?;
        let deleted = raw.delete("lock:raw", &owner).await?;
        latencies.add(set + deleted)?;
    }
    Ok(())
}

async fn lock_unlock(rslock: &LockManager, latencies: &mut Latencies) -> Result<()> {
    for _ in 0..A_TURN {
        let started = Instant::now();
        rslock.lock("rslock", LEASE).await?.release().await;
        latencies.add(started.elapsed())?;
    }
    Ok(())
}
