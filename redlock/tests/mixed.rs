//! Fair callers beside unordered callers.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{client, policy};
use redlock::{Policy, QueueDiscipline, Redlock};
use testkit::RedisServer;

/// The longest wait of a caller. Who is passed over is so for as long as the others go on.
const WAIT: Duration = Duration::from_secs(20);
const LEASE: Duration = Duration::from_secs(2);

fn policy_with(discipline: QueueDiscipline) -> Policy {
    Policy { discipline, ..policy(WAIT, LEASE) }
}

/// Acquires and releases without a pause until `stop`. Returns how often.
async fn work(redlock: Redlock, discipline: QueueDiscipline, stop: Arc<AtomicBool>) -> usize {
    let mut served = 0;
    while !stop.load(Ordering::Relaxed) {
        let lease = redlock.acquire("x", policy_with(discipline)).await;
        assert!(lease.is_ok(), "{discipline:?} after {served}: {lease:?}");
        served += 1;
        lease.unwrap().release().await;
    }
    served
}

/// Two clients whose callers use one discipline without a pause, and one client whose callers use the
/// other discipline one by one.
async fn mixed(busy: QueueDiscipline, single: QueueDiscipline, tickets: u64, tokens: u64) {
    let nodes = RedisServer::start_many(5).unwrap();
    for node in &nodes {
        node.command(&format!("SET ticket:x {tickets}")).unwrap();
        node.command(&format!("SET fence:x {tokens}")).unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut busy_workers = Vec::new();
    for _ in 0..2 {
        let redlock = client(&nodes).await;
        for _ in 0..3 {
            busy_workers.push(tokio::spawn(work(redlock.clone(), busy, Arc::clone(&stop))));
        }
    }
    let redlock = client(&nodes).await;
    for served in 0..20 {
        let lease = redlock.acquire("x", policy_with(single)).await;
        assert!(lease.is_ok(), "{single:?} after {served}: {lease:?}");
        lease.unwrap().release().await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut served = 0;
    for worker in busy_workers {
        served += worker.await.unwrap();
    }
    assert!(served > 20, "{busy:?} had {served} leases beside 20");
}

#[tokio::test(flavor = "multi_thread")]
async fn fair_and_unordered_callers_do_not_starve_each_other() {
    for (tickets, tokens) in [(20_000, 500), (70, 4_000)] {
        mixed(QueueDiscipline::Unordered, QueueDiscipline::Fair, tickets, tokens).await;
        mixed(QueueDiscipline::Fair, QueueDiscipline::Unordered, tickets, tokens).await;
    }
}
