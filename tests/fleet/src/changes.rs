//! The time from a change of a sale to the change of its Deployment.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use kube::Client;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::sync::oneshot;

use crate::cluster::Cluster;
use crate::names::Name;

/// Changes at a time: a person, or a pipeline, not the whole fleet at once.
const AT_ONCE: usize = 4;

/// By namespace and name: the awaited number of replicas, and who awaits it.
type Awaited = HashMap<(String, String), (i32, oneshot::Sender<Instant>)>;

/// Sales whose change is awaited.
#[derive(Default)]
pub struct Changes(Mutex<Awaited>);

impl Changes {
    /// A Deployment has this number of replicas.
    pub fn saw(&self, namespace: &str, name: &str, replicas: i32) {
        let key = (namespace.to_owned(), name.to_owned());
        let mut all = self.lock();
        if all.get(&key).is_some_and(|(wanted, _)| *wanted == replicas)
            && let Some((_, sender)) = all.remove(&key)
        {
            // Nobody waits any more after the deadline.
            let _ = sender.send(Instant::now());
        }
    }

    fn expect(&self, Name { namespace, name }: &Name, replicas: i32) -> oneshot::Receiver<Instant> {
        let (sender, receiver) = oneshot::channel();
        self.lock().insert((namespace.clone(), name.clone()), (replicas, sender));
        receiver
    }

    fn lock(&self) -> MutexGuard<'_, Awaited> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Latencies in milliseconds.
pub struct Latencies(Vec<f64>);

impl Latencies {
    fn of(mut all: Vec<f64>) -> Self {
        all.sort_by(f64::total_cmp);
        Self(all)
    }

    /// The lowest latency that `percent` of all changes do not exceed.
    pub fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or(f64::NAN)
    }
}

/// Changes the replicas of the sales in turn, and measures each change.
pub async fn measure(
    cluster: &Cluster,
    changes: &Changes,
    names: &[Name],
    number: u32,
) -> Result<Latencies> {
    let client = cluster.admin()?;
    let lanes = lanes(usize::try_from(number)?, names.len()).into_iter().map(|turns| {
        let client = client.clone();
        async move {
            let mut latencies = Vec::new();
            for turn in turns {
                let round = i32::try_from(turn / names.len()).unwrap_or_default();
                let name = names[turn % names.len()].clone();
                latencies.push(one(client.clone(), changes, name, 4 + round).await?);
            }
            anyhow::Ok(latencies)
        }
    });
    Ok(Latencies::of(try_join_all(lanes).await?.concat()))
}

/// The changes that follow each other, for each of those that run at a time. All of one sale follow each other: each waits
/// for the number of replicas that it set.
fn lanes(changes: usize, sales: usize) -> Vec<Vec<usize>> {
    let mut lanes = vec![Vec::new(); AT_ONCE.min(sales)];
    let count = lanes.len();
    for turn in 0..changes {
        lanes[turn % sales % count].push(turn);
    }
    lanes
}

async fn one(client: Client, changes: &Changes, name: Name, replicas: i32) -> Result<f64> {
    let change = changes.expect(&name, replicas);
    let api = Cluster::sales_in(&client, &name.namespace);
    let patch = Patch::Merge(json!({ "spec": { "app": { "replicas": replicas } } }));
    let begin = Instant::now();
    api.patch(&name.name, &PatchParams::default(), &patch).await?;
    let seen = tokio::time::timeout(Duration::from_mins(1), change).await;
    let seen = seen.with_context(|| format!("{name:?}: its Deployment does not change"))??;
    Ok(seen.duration_since(begin).as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_one_sale_never_run_at_a_time() {
        for (sales, at_once) in [(1, 1), (3, 3), (6, AT_ONCE), (500, AT_ONCE)] {
            let lanes = lanes(20, sales);
            assert_eq!(lanes.len(), at_once);
            let mut lane_of = HashMap::new();
            for (lane, turns) in lanes.iter().enumerate() {
                assert!(turns.is_sorted());
                assert!(
                    turns.iter().all(|turn| *lane_of.entry(turn % sales).or_insert(lane) == lane)
                );
            }
            let mut all = lanes.concat();
            all.sort_unstable();
            assert_eq!(all, (0..20).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_percentile_is_a_measured_value() {
        let all = Latencies::of((1..=200).rev().map(f64::from).collect());
        assert_eq!((all.percentile(50), all.percentile(99)), (100.0, 198.0));
        let one = Latencies::of(vec![7.0]);
        assert_eq!((one.percentile(1), one.percentile(99)), (7.0, 7.0));
    }
}
