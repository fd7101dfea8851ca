//! Callers in fair order beside callers in any order.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{client, policy};
use redlock::{Order, Policy, Redlock};
use testkit::RedisServer;

/// Nobody may wait longer.
const WAIT: Duration = Duration::from_secs(2);
const LEASE: Duration = Duration::from_secs(2);

fn in_order(order: Order) -> Policy {
    Policy { order, ..policy(WAIT, LEASE) }
}

/// Acquires and releases without a pause until it is told to stop; how often.
async fn work(redlock: Redlock, order: Order, stop: Arc<AtomicBool>) -> usize {
    let mut served = 0;
    while !stop.load(Ordering::Relaxed) {
        let lease = redlock.acquire("x", in_order(order)).await;
        assert!(lease.is_ok(), "{order:?} after {served}: {lease:?}");
        served += 1;
        lease.unwrap().release().await;
    }
    served
}

/// Two replicas whose callers come in one order without a pause, and two whose callers come one by
/// one in the other.
async fn mixed(busy: Order, single: Order, tickets: u64, tokens: u64) {
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
        let lease = redlock.acquire("x", in_order(single)).await;
        assert!(lease.is_ok(), "{single:?} after {served}: {lease:?}");
        lease.unwrap().release().await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut served = 0;
    for worker in busy_workers {
        served += worker.await.unwrap();
    }
    assert!(served > 20, "{busy:?} had {served} turns beside 20");
}

#[tokio::test(flavor = "multi_thread")]
async fn fair_callers_and_callers_in_any_order_do_not_starve_each_other() {
    for (tickets, tokens) in [(20_000, 500), (70, 4_000)] {
        mixed(Order::Unordered, Order::Fair, tickets, tokens).await;
        mixed(Order::Fair, Order::Unordered, tickets, tokens).await;
    }
}
