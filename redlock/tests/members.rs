//! Which nodes vote: after a restart, and while the membership changes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{LEASE, client, config, connected, node, nodes_with, patient, policy, set, until};
use redlock::{AcquireError, ChangeError, Config, NodeConfig, Redlock};
use testkit::RedisServer;

fn configs(nodes: &[RedisServer]) -> Vec<NodeConfig> {
    nodes.iter().map(node).collect()
}

#[tokio::test]
async fn a_node_that_lost_its_data_votes_after_the_longest_lease_with_the_counters_of_the_others() {
    let mut nodes = RedisServer::start_many(5).unwrap();
    let redlock = client(&nodes).await;
    for _ in 0..7 {
        redlock.acquire("x", patient()).await.unwrap().release().await;
    }
    let restarted = Instant::now();
    nodes[0].restart_empty().unwrap();
    until("it is excluded", || redlock.connected() == (4, 5)).await;
    redlock.acquire("x", patient()).await.unwrap().release().await;
    until("it votes again", || redlock.connected() == (5, 5)).await;
    assert!(restarted.elapsed() >= LEASE);
    let fence: u64 = nodes[0].get("fence:x").unwrap().unwrap().parse().unwrap();
    assert!(fence >= 7, "{fence}");
}

#[tokio::test]
async fn a_lease_that_a_majority_forgot_is_not_given_to_another_before_its_end() {
    let mut nodes = RedisServer::start_many(5).unwrap();
    let (holder, other) = (client(&nodes).await, client(&nodes).await);
    let lease = holder.acquire("x", patient()).await.unwrap();
    for node in &mut nodes[..3] {
        node.restart_empty().unwrap();
    }
    let next = other.acquire("x", patient()).await.unwrap();
    assert_eq!(lease.remaining(), Duration::ZERO, "the lease was over");
    assert!(next.token() > lease.token(), "two nodes and the clients remember");
}

#[tokio::test]
async fn nodes_that_restart_with_their_data_leap_over_what_they_may_have_forgotten() {
    let mut nodes = RedisServer::start_many(5).unwrap();
    let redlock = client(&nodes).await;
    let token = {
        let lease = redlock.acquire("x", patient()).await.unwrap();
        let token = lease.token();
        lease.release().await;
        token
    };
    drop(redlock);
    nodes[3].kill().unwrap();
    nodes[4].kill().unwrap();
    for node in &mut nodes[..3] {
        node.restart().unwrap();
    }
    let fresh = Redlock::start(&config(&nodes)).unwrap();
    let lease = fresh.acquire("x", patient()).await.unwrap();
    assert!(lease.token() > token + 1_000_000, "{} after {token}", lease.token());
}

#[tokio::test]
async fn a_node_that_lost_its_data_waits_for_a_majority_to_learn_from() {
    let mut nodes = RedisServer::start_many(5).unwrap();
    let redlock = client(&nodes).await;
    redlock.acquire("x", patient()).await.unwrap().release().await;
    nodes[0].kill().unwrap();
    nodes[1].kill().unwrap();
    nodes[2].restart_empty().unwrap();
    let wait = policy(LEASE * 2, LEASE);
    let error = redlock.acquire("x", wait).await.unwrap_err();
    assert_eq!(error, AcquireError::QuorumUnavailable { reachable: 2, nodes: 5, quorum: 3 });
    nodes[0].restart().unwrap();
    assert!(redlock.acquire("x", patient()).await.unwrap().token() > 1);
}

#[tokio::test]
async fn a_client_that_finds_all_nodes_blank_uses_them_at_once() {
    let nodes = RedisServer::start_many(5).unwrap();
    let long = Config { longest_lease: Duration::from_mins(5), ..config(&nodes) };
    let redlock = connected(&long).await;
    redlock.acquire("x", patient()).await.unwrap().release().await;
    // A later client finds them admitted.
    connected(&long).await.acquire("x", patient()).await.unwrap().release().await;
}

/// Clients that acquire, check and release until the sale ends.
struct Sale {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Sale {
    async fn start(nodes: &[RedisServer]) -> Self {
        let (stop, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (held, last) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut tasks = Vec::new();
        for _ in 0..3 {
            let redlock = client(nodes).await;
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            let (held, last) = (Arc::clone(&held), Arc::clone(&last));
            tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let lease = redlock.acquire("x", patient()).await.unwrap();
                    assert!(!held.swap(true, Ordering::SeqCst), "two holders");
                    let before = last.swap(lease.token(), Ordering::SeqCst);
                    assert!(before < lease.token(), "token {} after {before}", lease.token());
                    tokio::task::yield_now().await;
                    held.store(false, Ordering::SeqCst);
                    served.fetch_add(1, Ordering::SeqCst);
                    lease.release().await;
                }
            }));
        }
        Self { stop, served, tasks }
    }

    async fn continues(&self) {
        let before = self.served.load(Ordering::SeqCst);
        until("it continues", || self.served.load(Ordering::SeqCst) > before + 10).await;
    }

    async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_added_replaced_and_removed_while_the_lock_is_in_use() {
    let mut nodes = RedisServer::start_many(3).unwrap();
    let sale = Sale::start(&nodes).await;
    sale.continues().await;
    let admin = client(&nodes).await;

    nodes.extend(RedisServer::start_many(2).unwrap());
    admin.change_members(&configs(&nodes)).await.unwrap();
    sale.continues().await;
    assert_eq!(admin.connected(), (5, 5), "added");

    // A majority is replaced, and the new nodes know the tokens.
    nodes.extend(RedisServer::start_many(3).unwrap());
    let replaced: Vec<RedisServer> = nodes.drain(..3).collect();
    admin.change_members(&configs(&nodes)).await.unwrap();
    drop(replaced);
    sale.continues().await;

    let removed: Vec<RedisServer> = nodes.drain(3..).collect();
    admin.change_members(&configs(&nodes)).await.unwrap();
    drop(removed);
    sale.continues().await;
    assert_eq!(admin.connected(), (3, 3), "removed");
    until("the last is free or held by them", || nodes_with(&nodes, "lock:x", None) <= 3).await;
    sale.end().await;

    let newcomer = Redlock::start(&config(&nodes)).unwrap();
    assert!(newcomer.acquire("x", patient()).await.is_ok());
}

#[tokio::test]
async fn a_client_configured_with_the_old_nodes_finds_the_new_ones() {
    let old = RedisServer::start_many(3).unwrap();
    let new = RedisServer::start_many(3).unwrap();
    let admin = client(&old).await;
    let token = admin.acquire("x", patient()).await.unwrap().token();
    admin.change_members(&configs(&new)).await.unwrap();
    let late = Redlock::start(&config(&old)).unwrap();
    let lease = late.acquire("x", patient()).await.unwrap();
    assert!(lease.token() > token);
    lease.keep_extended();
    // Not all of them: one may have been connected to after the vote.
    until("the new nodes hold it", || nodes_with(&new, "lock:x", None) <= 1).await;
    assert_eq!(nodes_with(&old, "lock:x", None), 3);
}

#[tokio::test]
async fn a_change_whose_lock_others_have_got_since_is_refused_by_the_nodes() {
    let old = RedisServer::start_many(3).unwrap();
    let new = RedisServer::start_many(3).unwrap();
    let slow = client(&old).await;
    let change = tokio::spawn(async move { slow.change_members(&configs(&new)).await });
    until("it has begun", || nodes_with(&old, "fence:redlock:membership", None) == 0).await;
    // The present holder of the lock may write another membership.
    for node in &old {
        set(node, "fence:redlock:membership", "1000").await;
    }
    assert_eq!(change.await.unwrap(), Err(ChangeError::NoQuorum));
}

#[tokio::test]
async fn a_change_without_a_majority_of_the_new_nodes_breaks_nothing_and_can_be_ended() {
    let old = RedisServer::start_many(3).unwrap();
    let mut new = RedisServer::start_many(3).unwrap();
    let admin = client(&old).await;
    new[0].kill().unwrap();
    new[1].kill().unwrap();
    let error = admin.change_members(&configs(&new)).await.unwrap_err();
    assert_eq!(error, ChangeError::NoQuorum);
    let other = client(&old).await;
    assert!(other.acquire("x", patient()).await.is_ok(), "others continue with the old nodes");
    new[0].restart().unwrap();
    admin.change_members(&configs(&new)).await.unwrap();
    let lease = other.acquire("x", patient()).await.unwrap();
    lease.release().await;
    assert_eq!(admin.connected().1, 3);
}
