//! What fair order costs: the same callers at once, in the order they asked and in any.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::FutureExt;
use redlock::{Combiner, CombinerConfig, QueueDiscipline, Redlock};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::latencies::Latencies;
use super::nodes::{Nodes, patient};
use super::purchases::Serving;
use crate::figures::{Measured, Row, Section, Target, Unit};

pub(super) const COMBINED: Section = Section {
    title: "Fair: callers of one item each, at once through the Combiners of three clients, all served",
    rows: &[
        Row::Figure("combined_fair_100", Unit::Millis),
        Row::Figure("combined_unordered_100", Unit::Millis),
        Row::Ratio("combined_fair_100", "combined_unordered_100", Some(Target::AtMost(1.1))),
        Row::Figure("combined_fair_10000", Unit::Millis),
        Row::Figure("combined_unordered_10000", Unit::Millis),
        Row::Ratio("combined_fair_10000", "combined_unordered_10000", Some(Target::AtMost(1.1))),
    ],
    round: |round| combined(round.number).boxed(),
};

pub(super) const DIRECT: Section = Section {
    title: "Fair: callers of acquire, at once over three clients, one lock each, all served",
    rows: &[
        Row::Figure("direct_fair_100", Unit::Millis),
        Row::Figure("direct_unordered_100", Unit::Millis),
        Row::Ratio("direct_fair_100", "direct_unordered_100", Some(Target::AtMost(1.1))),
        Row::Figure("direct_fair_10000", Unit::Millis),
        Row::Figure("direct_unordered_10000", Unit::Millis),
        Row::Ratio("direct_fair_10000", "direct_unordered_10000", Some(Target::AtMost(1.1))),
    ],
    round: |round| direct(round.number).boxed(),
};

const CLIENTS: usize = 3;
/// Each crowd waits until the notices of the last one have arrived.
const BETWEEN_CROWDS: Duration = Duration::from_millis(5);

async fn combined(round: u32) -> Result<Measured> {
    let nodes = Nodes::start()?;
    let clients = nodes.clients(CLIENTS).await?;
    let mut measured = Vec::new();
    for (callers, crowds, fair_name, unordered_name) in [
        (100, 50, "combined_fair_100", "combined_unordered_100"),
        (10_000, 7, "combined_fair_10000", "combined_unordered_10000"),
    ] {
        let fair = combiners(&clients, QueueDiscipline::Fair);
        let unordered = combiners(&clients, QueueDiscipline::Unordered);
        let (mut by_fair, mut by_unordered) = (Latencies::new()?, Latencies::new()?);
        for crowd in round..round + 2 * crowds {
            if crowd % 2 == 0 {
                by_fair.add(submit(&fair, "fair", callers).await?)?;
            } else {
                by_unordered.add(submit(&unordered, "unordered", callers).await?)?;
            }
            sleep(BETWEEN_CROWDS).await;
        }
        measured.push((fair_name, by_fair.millis(50.0)));
        measured.push((unordered_name, by_unordered.millis(50.0)));
    }
    Ok(measured.into())
}

type Combiners = Vec<Arc<Combiner<Serving>>>;

fn combiners(clients: &[Redlock], discipline: QueueDiscipline) -> Combiners {
    let combiner = |client: &Redlock| {
        let serving = Serving { policy: patient(discipline) };
        Arc::new(Combiner::new(client.clone(), serving, CombinerConfig::default()))
    };
    clients.iter().map(combiner).collect()
}

async fn submit(combiners: &Combiners, resource: &'static str, callers: usize) -> Result<Duration> {
    let started = Instant::now();
    let mut crowd = JoinSet::new();
    for combiner in combiners.iter().cycle().take(callers) {
        let combiner = Arc::clone(combiner);
        crowd.spawn(async move { combiner.submit(resource, ()).await });
    }
    while let Some(served) = crowd.join_next().await {
        served??;
    }
    Ok(started.elapsed())
}

async fn direct(round: u32) -> Result<Measured> {
    let nodes = Nodes::start()?;
    let clients = nodes.clients(CLIENTS).await?;
    let mut measured = Vec::new();
    for (callers, crowds, fair_name, unordered_name) in [
        (100, 5, "direct_fair_100", "direct_unordered_100"),
        (10_000, 1, "direct_fair_10000", "direct_unordered_10000"),
    ] {
        let (mut by_fair, mut by_unordered) = (Latencies::new()?, Latencies::new()?);
        for crowd in round..round + 2 * crowds {
            if crowd % 2 == 0 {
                by_fair.add(acquire(&clients, "fair", QueueDiscipline::Fair, callers).await?)?;
            } else {
                by_unordered.add(
                    acquire(&clients, "unordered", QueueDiscipline::Unordered, callers).await?,
                )?;
            }
            sleep(BETWEEN_CROWDS).await;
        }
        measured.push((fair_name, by_fair.millis(50.0)));
        measured.push((unordered_name, by_unordered.millis(50.0)));
    }
    Ok(measured.into())
}

async fn acquire(
    clients: &[Redlock],
    resource: &'static str,
    discipline: QueueDiscipline,
    callers: usize,
) -> Result<Duration> {
    let started = Instant::now();
    let mut crowd = JoinSet::new();
    for client in clients.iter().cycle().take(callers) {
        let client = client.clone();
        crowd.spawn(async move {
            client.acquire(resource, patient(discipline)).await?.release().await;
            anyhow::Ok(())
        });
    }
    while let Some(served) = crowd.join_next().await {
        served??;
    }
    Ok(started.elapsed())
}
