//! The worker that sells to whoever is there when it gets the lock.

use std::time::Instant;

use tokio::sync::mpsc::Receiver;

use super::worker::{Entries, Worker, earliest, refuse_expired};
use super::{Batch, Entry};

/// Ends when its combiner does.
pub(super) async fn run<B: Batch>(
    worker: Worker<B>,
    mut arrivals: Receiver<Entry<B::Item, B::Output>>,
) {
    let mut waiting: Entries<B> = Vec::new();
    loop {
        if waiting.is_empty() && arrivals.recv_many(&mut waiting, 1).await == 0 {
            return;
        }
        // No longer than the caller who has waited longest may.
        let deadline = earliest(&waiting).unwrap_or_else(Instant::now);
        let policy = worker.policy_until(deadline);
        let acquired = worker.redlock.acquire(&worker.resource, policy).await;
        while waiting.len() < worker.config.batch {
            let Ok(entry) = arrivals.try_recv() else { break };
            waiting.push(entry);
        }
        match acquired {
            Ok(lease) => {
                waiting.retain(Entry::claim);
                if !waiting.is_empty() {
                    waiting = worker.execute(lease, waiting).await;
                }
            }
            Err(error) => {
                waiting.retain(|entry| !entry.is_abandoned());
                refuse_expired(&mut waiting, &error);
            }
        }
    }
}
