//! The lock over real Redis processes: exclusion, tokens, faults, published values.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::{
    LEASE, client, client_with_long_leases, client_without_timeouts, config, delete, nodes_with,
    patient, policy, set, until,
};
use redlock::{AcquireError, REMOVED, Redlock};
use testkit::RedisServer;

#[tokio::test]
async fn a_lease_is_seen_on_every_node_and_gone_after_release() {
    for count in [1, 5] {
        let nodes = RedisServer::start_many(count).unwrap();
        let redlock = client(&nodes).await;
        let lease = redlock.acquire("stock:1", patient()).await.unwrap();
        assert!(lease.remaining() > LEASE / 2);
        lease.keep_extended();
        until("all nodes hold the lock", || nodes_with(&nodes, "lock:stock:1", None) == 0).await;
        lease.release_everywhere(&[("stock:1", "42".to_owned())]).await;
        assert_eq!(nodes_with(&nodes, "lock:stock:1", None), count);
        assert_eq!(nodes_with(&nodes, "stock:1", Some("42")), count);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn holders_exclude_each_other_and_tokens_rise_in_real_time() {
    let nodes = RedisServer::start_many(5).unwrap();
    let (held, last) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let redlock = client(&nodes).await;
        for _ in 0..2 {
            let (redlock, held, last) = (redlock.clone(), Arc::clone(&held), Arc::clone(&last));
            tasks.push(tokio::spawn(async move {
                for _ in 0..25 {
                    let lease = redlock.acquire("x", patient()).await.unwrap();
                    assert!(!held.swap(true, Ordering::SeqCst), "two holders");
                    let before = last.swap(lease.token(), Ordering::SeqCst);
                    assert!(before < lease.token(), "token {} after {before}", lease.token());
                    tokio::task::yield_now().await;
                    held.store(false, Ordering::SeqCst);
                    lease.release().await;
                }
            }));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_resources_in_any_order_never_deadlock() {
    let nodes = RedisServer::start_many(5).unwrap();
    let orders: [&[&str]; 3] = [&["a", "b", "c"], &["c", "b", "a"], &["b", "c"]];
    let mut tasks = Vec::new();
    for resources in orders {
        let redlock = client(&nodes).await;
        tasks.push(tokio::spawn(async move {
            for _ in 0..20 {
                let lease = redlock.acquire_all(resources, patient()).await.unwrap();
                assert_eq!(lease.tokens().len(), resources.len());
                assert!(lease.tokens().is_sorted());
                lease.release().await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    until("no node holds the lock", || nodes_with(&nodes, "lock:b", None) == 5).await;
}

#[tokio::test]
async fn a_waiter_gets_a_timeout_at_the_end_of_its_wait() {
    let nodes = RedisServer::start_many(1).unwrap();
    let (holder, waiter) = (client(&nodes).await, client(&nodes).await);
    let _lease = holder.acquire("x", patient()).await.unwrap();
    let short = policy(Duration::from_millis(50), LEASE);
    let error = waiter.acquire("x", short).await.unwrap_err();
    assert!(matches!(error, AcquireError::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn a_holder_that_vanishes_is_succeeded_when_its_lease_ends() {
    let nodes = RedisServer::start_many(5).unwrap();
    let waiter = client(&nodes).await;
    let vanished = client(&nodes).await;
    let lease = vanished
        .acquire("x", policy(Duration::from_secs(20), Duration::from_millis(300)))
        .await
        .unwrap();
    let token = lease.token();
    std::mem::forget(lease);
    let next = waiter.acquire("x", patient()).await.unwrap();
    assert!(next.token() > token);
}

#[tokio::test]
async fn dropping_a_lease_frees_it() {
    let nodes = RedisServer::start_many(5).unwrap();
    let redlock = client(&nodes).await;
    drop(redlock.acquire("x", patient()).await.unwrap());
    until("the lock is free", || nodes_with(&nodes, "lock:x", None) == 5).await;
}

#[tokio::test]
async fn a_lease_may_outlive_the_client_it_came_from() {
    let nodes = RedisServer::start_many(5).unwrap();
    let lease = client(&nodes).await.acquire("x", patient()).await.unwrap();
    lease.release_everywhere(&[]).await;
    assert_eq!(nodes_with(&nodes, "lock:x", None), 5);
}

#[tokio::test]
async fn a_late_release_frees_nobody_elses_lock() {
    let nodes = RedisServer::start_many(5).unwrap();
    let (late, next) = (client(&nodes).await, client(&nodes).await);
    let short = policy(Duration::from_secs(20), Duration::from_millis(100));
    let expired = late.acquire("x", short).await.unwrap();
    let held = next.acquire("x", patient()).await.unwrap();
    expired.release().await;
    assert!(nodes_with(&nodes, "lock:x", None) <= 2, "a quorum still holds");
    held.release().await;
}

#[tokio::test]
async fn a_late_holder_does_not_revert_a_value() {
    let nodes = RedisServer::start_many(5).unwrap();
    let (late, next) = (client(&nodes).await, client(&nodes).await);
    let short = policy(Duration::from_secs(20), Duration::from_millis(100));
    let expired = late.acquire("stock:1", short).await.unwrap();
    let held = next.acquire("stock:1", patient()).await.unwrap();
    held.release_everywhere(&[("stock:1", "1".to_owned())]).await;
    expired.release_everywhere(&[("stock:1", "2".to_owned())]).await;
    assert_eq!(nodes_with(&nodes, "stock:1", Some("1")), 5);
}

#[tokio::test]
async fn a_value_that_is_removed_is_on_no_node_and_a_late_holder_does_not_bring_it_back() {
    let mut nodes = RedisServer::start_many(5).unwrap();
    let (late, next) = (client(&nodes).await, client(&nodes).await);
    let mut published = late.published("stock:1");
    let first = next.acquire("stock:1", patient()).await.unwrap();
    first.release_everywhere(&[("stock:1", "5".to_owned())]).await;
    let short = policy(Duration::from_secs(20), Duration::from_millis(100));
    let expired = late.acquire("stock:1", short).await.unwrap();
    let held = next.acquire("stock:1", patient()).await.unwrap();
    nodes[4].kill().unwrap();
    held.release_everywhere(&[("stock:1", REMOVED.to_owned())]).await;
    expired.release_everywhere(&[("stock:1", "4".to_owned())]).await;
    assert_eq!(nodes_with(&nodes[..4], "stock:1", None), 4);
    published.wait_for(|news| news.value.as_deref() == Some(REMOVED)).await.unwrap();
    nodes[4].restart().unwrap();
    until("the node that was away removes it", || nodes_with(&nodes, "stock:1", None) == 5).await;
}

#[tokio::test]
async fn other_clients_receive_the_value_that_a_holder_leaves() {
    let nodes = RedisServer::start_many(5).unwrap();
    let (holder, listener) = (client(&nodes).await, client(&nodes).await);
    let mut published = listener.published("stock:1");
    let lease = holder.acquire("stock:1", patient()).await.unwrap();
    let token = lease.token();
    lease.release_with(&[("stock:1", "7".to_owned())]).await;
    let news = published.wait_for(|news| news.value.is_some()).await.unwrap();
    assert_eq!((news.token, news.value.as_deref()), (token, Some("7")));
}

#[tokio::test]
async fn a_release_without_other_subscribers_is_not_published() {
    let nodes = RedisServer::start_many(1).unwrap();
    let holder = client(&nodes).await;
    let leave = async |value: &str| {
        let lease = holder.acquire("stock:1", patient()).await.unwrap();
        lease.release_everywhere(&[("stock:1", value.to_owned())]).await;
    };
    leave("7").await;
    assert_eq!(nodes[0].calls("publish").unwrap(), 0);
    assert_eq!(holder.published("stock:1").borrow().value.as_deref(), Some("7"));
    let _listener = client(&nodes).await;
    leave("6").await;
    assert_eq!(nodes[0].calls("publish").unwrap(), 1);
}

#[tokio::test]
async fn more_resources_than_lua_passes_to_a_call_are_held_and_released_together() {
    let nodes = RedisServer::start_many(1).unwrap();
    let holder = client_without_timeouts(&nodes).await;
    let other = client_without_timeouts(&nodes).await;
    let names: Vec<String> = (0..4500).map(|number| format!("stock:{number:04}")).collect();
    let resources: Vec<&str> = names.iter().map(String::as_str).collect();
    let long = policy(Duration::from_secs(20), Duration::from_mins(5));
    let lease = holder.acquire_all(&resources, long).await.unwrap();
    let soon = policy(Duration::from_millis(50), LEASE);
    for resource in ["stock:0000", "stock:4499"] {
        let refused = other.acquire(resource, soon).await.unwrap_err();
        assert!(matches!(refused, AcquireError::Timeout { .. }), "{refused}");
    }
    let token = lease.token();
    let values: Vec<_> = resources.iter().map(|name| (*name, name.to_string())).collect();
    lease.release_everywhere(&values).await;
    for name in [&names[0], &names[4499]] {
        assert_eq!(nodes[0].get(name).unwrap().as_deref(), Some(&**name));
        assert_eq!(nodes[0].get(&format!("lock:{name}")).unwrap(), None);
        assert_eq!(nodes[0].get(&format!("fence:{name}")).unwrap(), Some(token.to_string()));
    }
    assert!(other.acquire_all(&resources, long).await.unwrap().tokens()[4499].1 > token);
}

#[tokio::test]
async fn works_without_two_of_five_and_fails_clearly_without_three() {
    let mut nodes = RedisServer::start_many(5).unwrap();
    let redlock = client(&nodes).await;
    let wait = policy(Duration::from_millis(300), LEASE);
    let mut last = 0;
    for node in &mut nodes[1..=2] {
        node.kill().unwrap();
        let lease = redlock.acquire("x", patient()).await.unwrap();
        assert!(lease.token() > last);
        last = lease.token();
        lease.release().await;
    }
    nodes[3].kill().unwrap();
    until("the loss is noticed", || !redlock.has_quorum()).await;
    let error = redlock.acquire("x", wait).await.unwrap_err();
    assert_eq!(error, AcquireError::QuorumUnavailable { reachable: 2, nodes: 5, quorum: 3 });
    until("a lost vote leaves nothing", || nodes[0].get("lock:x").unwrap().is_none()).await;

    nodes[3].restart().unwrap();
    let lease = redlock.acquire("x", patient()).await.unwrap();
    assert!(lease.token() > last, "it recovers by itself, with a higher token");
}

#[tokio::test]
async fn two_frozen_nodes_do_not_stop_it_and_keep_no_lock_after() {
    let nodes = RedisServer::start_many(5).unwrap();
    let redlock = client_with_long_leases(&nodes).await;
    nodes[0].pause().unwrap();
    nodes[1].pause().unwrap();
    let long = policy(Duration::from_secs(20), Duration::from_mins(5));
    for _ in 0..3 {
        redlock.acquire("x", long).await.unwrap().release().await;
    }
    nodes[0].resume().unwrap();
    nodes[1].resume().unwrap();
    until("no node holds the lock", || nodes_with(&nodes, "lock:x", None) == 5).await;
}

#[tokio::test]
async fn a_release_is_repeated_for_a_node_that_was_lost_before() {
    let nodes = RedisServer::start_many(5).unwrap();
    let redlock = client_with_long_leases(&nodes).await;
    nodes[0].pause().unwrap();
    // The lease outlasts the test, so only the release can end it.
    let long = policy(Duration::from_secs(20), Duration::from_mins(5));
    let lease = redlock.acquire("x", long).await.unwrap();
    until("the loss is noticed", || redlock.connected().0 == 4).await;
    lease.release().await;
    nodes[0].resume().unwrap();
    until("it is back", || redlock.connected().0 == 5).await;
    until("it holds no lock", || nodes[0].get("lock:x").unwrap().is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_majority_that_froze_keeps_no_lock_when_it_is_back() {
    let nodes = RedisServer::start_many(5).unwrap();
    let redlock = client_with_long_leases(&nodes).await;
    for node in &nodes[..3] {
        node.pause().unwrap();
    }
    let long = policy(Duration::from_millis(300), Duration::from_mins(5));
    let trying = tokio::spawn({
        let redlock = redlock.clone();
        async move {
            while redlock.connected().0 > 2 {
                let error = redlock.acquire("x", long).await.unwrap_err();
                assert!(matches!(error, AcquireError::QuorumUnavailable { .. }), "{error}");
            }
        }
    });
    trying.await.unwrap();
    for node in &nodes[..3] {
        node.resume().unwrap();
    }
    redlock.acquire("x", patient()).await.unwrap().release().await;
    until("no node holds the lock", || nodes_with(&nodes, "lock:x", None) == 5).await;
}

#[tokio::test]
async fn an_acquisition_that_is_dropped_leaves_no_lock() {
    let nodes = RedisServer::start_many(5).unwrap();
    let redlock = client_with_long_leases(&nodes).await;
    let long = policy(Duration::from_secs(20), Duration::from_mins(5));
    for round in 0..100 {
        let limit = Duration::from_micros(20 * round);
        let acquired = tokio::time::timeout(limit, redlock.acquire("x", long)).await;
        drop(acquired);
    }
    until("no node holds the lock", || nodes_with(&nodes, "lock:x", None) == 5).await;
}

#[tokio::test]
async fn a_dead_node_does_not_cost_the_next_holder_a_round() {
    let mut nodes = RedisServer::start_many(5).unwrap();
    let redlock = client_without_timeouts(&nodes).await;
    nodes[0].kill().unwrap();
    until("the loss is noticed", || redlock.connected().0 == 4).await;
    let before = nodes[2].calls("evalsha").unwrap();
    for _ in 0..50 {
        redlock.acquire("x", patient()).await.unwrap().release_in_background(&[]);
    }
    until("the last is free", || nodes_with(&nodes[1..], "lock:x", None) == 4).await;
    assert_eq!(nodes[2].calls("evalsha").unwrap() - before, 100, "one to acquire, one to release");
}

#[tokio::test]
async fn a_node_that_lost_its_data_gets_the_values_back() {
    let mut nodes = RedisServer::start_many(5).unwrap();
    let redlock = client(&nodes).await;
    let lease = redlock.acquire("stock:1", patient()).await.unwrap();
    lease.release_with(&[("stock:1", "9".to_owned())]).await;
    nodes[4].restart_empty().unwrap();
    until("the value is back", || nodes[4].get("stock:1").unwrap().as_deref() == Some("9")).await;
    assert!(redlock.acquire("stock:1", patient()).await.is_ok());
}

#[tokio::test]
async fn a_release_grants_a_token_above_the_floor_of_a_node_without_a_fence() {
    let nodes = RedisServer::start_many(1).unwrap();
    let redlock = client_without_timeouts(&nodes).await;
    let lease = redlock.acquire("x", patient()).await.unwrap();
    lease.keep_extended();
    let next = tokio::spawn({
        let redlock = redlock.clone();
        async move { redlock.acquire("x", patient()).await.unwrap().token() }
    });
    let asked = || nodes[0].command("EXISTS queue-requests:x").unwrap().starts_with(":1");
    until("the next waits", asked).await;
    set(&nodes[0], "redlock:floor", "100").await;
    delete(&nodes[0], "fence:x").await;
    lease.release().await;
    assert_eq!(next.await.unwrap(), 101);
}

#[tokio::test]
async fn a_proposal_exceeds_the_token_of_the_guarded_store() {
    let nodes = RedisServer::start_many(5).unwrap();
    let redlock = client_without_timeouts(&nodes).await;
    redlock.observe_token("x", 1000);
    assert_eq!(redlock.acquire("x", patient()).await.unwrap().token(), 1001);
}

#[tokio::test]
async fn a_configuration_that_can_never_work_is_refused() {
    let empty = Redlock::start(&config(&[])).unwrap_err();
    assert_eq!(empty, AcquireError::NoNodes);
    let mut wrong = config(&[]);
    wrong.nodes.push(redlock::NodeConfig { address: "http://x".to_owned(), password: None });
    let error = Redlock::start(&wrong).unwrap_err();
    assert!(matches!(error, AcquireError::BadNode { index: 0, .. }), "{error}");
}
