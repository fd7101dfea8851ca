//! What combining is worth: the same callers of one replica, who buy one item after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::FutureExt;
use redlock::{Batch, Combiner, CombinerConfig, Entry, Lease, Policy, QueueDiscipline, Redlock};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::nodes::{Nodes, patient};
use super::raw::Raw;
use crate::figures::{Measured, Row, Section, Unit};

pub(super) const SECTION: Section = Section {
    title: "64 callers of one client who take one item after the other, each under the lock",
    rows: &[
        Row::Figure("combiner", Unit::PerSecond),
        Row::Figure("combiner_fair", Unit::PerSecond),
        Row::Figure("lock_for_each", Unit::PerSecond),
        Row::Ratio("combiner", "lock_for_each", None),
        Row::Figure("set_nx_and_sleep", Unit::PerSecond),
        Row::Ratio("combiner", "set_nx_and_sleep", None),
    ],
    round: |round| measure(round.number).boxed(),
};

const CALLERS: usize = 64;
const LASTING: Duration = Duration::from_secs(1);
/// A caller of the naive lock tries again after up to this long, at random.
const RETRY: Duration = Duration::from_millis(5);

/// Answers everybody and does nothing else, so that only the lock is measured. As a sale does it,
/// the release is on its way before the answers.
pub(super) struct Serving {
    pub(super) policy: Policy,
}

impl Batch for Serving {
    type Item = ();
    type Output = ();

    fn policy(&self, _resource: &str, _item: &()) -> Policy {
        self.policy
    }

    async fn execute(
        &self,
        resource: &str,
        lease: Lease,
        entries: Vec<Entry<(), ()>>,
    ) -> Vec<Entry<(), ()>> {
        lease.release_in_background(&[(resource, entries.len().to_string())]);
        for entry in entries {
            entry.reply(());
        }
        Vec::new()
    }
}

async fn measure(round: u32) -> Result<Measured> {
    let mut measured = Vec::new();
    for turn in round..round + 4 {
        let nodes = Nodes::start()?;
        measured.push(match turn % 4 {
            0 => ("combiner", combine(nodes.client().await?, QueueDiscipline::Unordered).await?),
            1 => ("combiner_fair", combine(nodes.client().await?, QueueDiscipline::Fair).await?),
            2 => ("lock_for_each", lock_for_each(nodes.client().await?).await?),
            _ => ("set_nx_and_sleep", set_nx_and_sleep(&nodes).await?),
        });
    }
    Ok(measured.into())
}

/// Runs the callers until the time is over; items a second.
async fn callers<F>(caller: impl Fn(usize, Instant) -> F) -> Result<f64>
where
    F: Future<Output = Result<u32>> + Send + 'static,
{
    let started = Instant::now();
    let mut crowd = JoinSet::new();
    for number in 0..CALLERS {
        crowd.spawn(caller(number, started + LASTING));
    }
    let mut items = 0;
    while let Some(taken) = crowd.join_next().await {
        items += taken??;
    }
    Ok(f64::from(items) / started.elapsed().as_secs_f64())
}

async fn combine(client: Redlock, discipline: QueueDiscipline) -> Result<f64> {
    let serving = Serving { policy: patient(discipline) };
    let combiner = Arc::new(Combiner::new(client, serving, CombinerConfig::default()));
    callers(|_, until| {
        let combiner = Arc::clone(&combiner);
        async move {
            let mut items = 0;
            while Instant::now() < until {
                combiner.submit("combined", ()).await?;
                items += 1;
            }
            Ok(items)
        }
    })
    .await
}

async fn lock_for_each(client: Redlock) -> Result<f64> {
    callers(|_, until| {
        let client = client.clone();
        async move {
            let mut items = 0;
            while Instant::now() < until {
                let lease = client.acquire("each", patient(QueueDiscipline::Unordered)).await?;
                lease.release().await;
                items += 1;
            }
            Ok(items)
        }
    })
    .await
}

/// What is usually written: one node, `SET NX PX`, and a sleep when it is held.
async fn set_nx_and_sleep(nodes: &Nodes) -> Result<f64> {
    let raw = Raw::connect(&nodes.addresses()).await?;
    callers(|number, until| {
        let mut raw = raw.clone();
        async move {
            let (mut items, owner) = (0, number.to_string());
            while Instant::now() < until {
                if raw.set_on_one("naive", &owner).await? {
                    raw.delete_on_one("naive", &owner).await?;
                    items += 1;
                } else {
                    sleep(RETRY.mul_f64(rand::random())).await;
                }
            }
            Ok(items)
        }
    })
    .await
}
