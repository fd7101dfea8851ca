//! Leases that are extended, lost, or declared by a domain, over real Redis processes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::time::Duration;

use common::{LEASE, client, client_without_timeouts, delete, nodes_with, patient, policy, until};
use redlock::{AcquireError, Domain, ExtendError, Policy, QueueDiscipline};
use testkit::RedisServer;

const SHORT: Duration = Duration::from_secs(1);

fn short() -> Policy {
    Policy { lease_time: SHORT, ..patient() }
}

#[tokio::test]
async fn an_extended_lease_outlives_its_time_and_keeps_its_token() {
    let nodes = RedisServer::start_many(5).unwrap();
    let holder = client_without_timeouts(&nodes).await;
    let waiter = client_without_timeouts(&nodes).await;
    let lease = holder.acquire("x", short()).await.unwrap();
    let token = lease.token();
    lease.keep_extended();
    let longer = policy(SHORT * 3, LEASE);
    let error = waiter.acquire("x", longer).await.unwrap_err();
    assert!(matches!(error, AcquireError::Timeout { .. }), "{error}");
    assert!(!lease.lost().is_cancelled());
    assert_eq!(lease.token(), token);
    lease.release().await;
    assert!(waiter.acquire("x", longer).await.is_ok(), "nothing extends it after its release");
}

#[tokio::test]
async fn without_extension_it_does_not() {
    let nodes = RedisServer::start_many(5).unwrap();
    let (holder, waiter) = (client(&nodes).await, client(&nodes).await);
    let lease = holder.acquire("x", short()).await.unwrap();
    assert!(waiter.acquire("x", policy(SHORT * 10, LEASE)).await.is_ok());
    assert_eq!(lease.extend(SHORT).await, Err(ExtendError::Expired));
}

#[tokio::test]
async fn a_lease_that_cannot_be_extended_says_so_before_the_nodes_give_it_up() {
    let nodes = RedisServer::start_many(5).unwrap();
    let redlock = client(&nodes).await;
    let lease = redlock.acquire("x", short()).await.unwrap();
    lease.keep_extended();
    let lost = lease.lost();
    until("all nodes hold the lock", || nodes_with(&nodes, "lock:x", None) == 0).await;
    for node in &nodes[..3] {
        node.pause().unwrap();
    }
    lost.cancelled().await;
    assert!(nodes[3].get("lock:x").unwrap().is_some(), "the node that extended it still holds it");
    assert_eq!(lease.remaining(), Duration::ZERO);
    for node in &nodes[..3] {
        node.resume().unwrap();
    }
}

#[tokio::test]
async fn an_extension_never_restores_a_lock_that_a_node_gave_up() {
    let nodes = RedisServer::start_many(5).unwrap();
    let redlock = client_without_timeouts(&nodes).await;
    let lease = redlock.acquire("x", policy(LEASE, LEASE * 10)).await.unwrap();
    until("all nodes hold the lock", || nodes_with(&nodes, "lock:x", None) == 0).await;
    for node in &nodes[..2] {
        delete(node, "lock:x").await;
    }
    lease.extend(LEASE * 20).await.unwrap();
    assert_eq!(nodes_with(&nodes, "lock:x", None), 2, "not set again");
    delete(&nodes[2], "lock:x").await;
    let error = lease.extend(LEASE * 30).await.unwrap_err();
    assert_eq!(error, ExtendError::NoQuorum { extended: 2, nodes: 5, quorum: 3 });
}

#[tokio::test]
async fn a_released_lease_is_not_lost() {
    let nodes = RedisServer::start_many(1).unwrap();
    let redlock = client(&nodes).await;
    let lease = redlock.acquire("x", short()).await.unwrap();
    let lost = lease.lost();
    lease.release().await;
    let waited = tokio::time::timeout(SHORT * 2, lost.cancelled()).await;
    assert!(waited.is_err(), "it never fires");
}

#[tokio::test]
async fn a_lease_longer_than_the_longest_is_refused() {
    let nodes = RedisServer::start_many(1).unwrap();
    let redlock = client(&nodes).await;
    let too_long = policy(LEASE, LEASE * 2);
    let error = redlock.acquire("x", too_long).await.unwrap_err();
    assert_eq!(error, AcquireError::LeaseTooLong { lease_time: LEASE * 2, longest: LEASE });
}

#[tokio::test]
async fn a_lease_that_is_over_before_it_is_won_ends_with_the_wait() {
    let nodes = RedisServer::start_many(1).unwrap();
    let redlock = client(&nodes).await;
    let useless = policy(Duration::from_millis(50), Duration::from_millis(1));
    let acquired = tokio::time::timeout(Duration::from_secs(20), redlock.acquire("x", useless));
    let error = acquired.await.unwrap().unwrap_err();
    assert!(matches!(error, AcquireError::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn domains_lock_by_prefix_and_key_each_with_its_policy() {
    let nodes = RedisServer::start_many(5).unwrap();
    let redlock = client(&nodes).await;
    let impatient = policy(Duration::from_millis(30), LEASE);
    let coupons = Domain::new("coupon:issue").lease_time(LEASE).discipline(QueueDiscipline::Fair);
    let stock = Domain::new("lock:product").lease_time(LEASE).with("7", impatient);
    let coupon = coupons.acquire(&redlock, "7").await.unwrap();
    let products = stock.acquire_all(&redlock, &["8", "7"]).await.unwrap();
    assert_eq!(products.tokens()[0].0, "lock:product:7");
    coupon.keep_extended();
    products.keep_extended();
    let error = stock.acquire(&redlock, "7").await.unwrap_err();
    assert!(matches!(error, AcquireError::Timeout { .. }), "{error}");
    until("both are seen on the nodes", || {
        nodes_with(&nodes, "lock:coupon:issue:7", None) == 0
            && nodes_with(&nodes, "lock:lock:product:8", None) == 0
    })
    .await;
    coupon.release().await;
    products.release().await;
}

#[tokio::test]
async fn a_section_ends_without_its_caller_and_leaves_no_lock() {
    let nodes = RedisServer::start_many(5).unwrap();
    let redlock = client_without_timeouts(&nodes).await;
    let orders = Domain::new("order").lease_time(LEASE * 10);
    let (began, begins) = tokio::sync::oneshot::channel();
    let (end, ends) = tokio::sync::oneshot::channel::<()>();
    let (ended, seen) = tokio::sync::oneshot::channel();
    let caller = tokio::spawn({
        let (orders, redlock) = (orders.clone(), redlock.clone());
        async move {
            let section = async move |lease: redlock::LeaseContext| {
                began.send(lease.token).unwrap();
                ends.await.unwrap();
                ended.send(()).unwrap();
            };
            orders.run(&redlock, "1", section).await
        }
    });
    assert_eq!(begins.await.unwrap(), 1);
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    end.send(()).unwrap();
    seen.await.unwrap();
    let token = orders.run(&redlock, "1", async |lease| lease.token).await.unwrap();
    assert_eq!(token, 2);
    let panicked = orders.run(&redlock, "1", async |_| assert!(false, "the section fails")).await;
    assert_eq!(panicked, Err(AcquireError::Interrupted));
    until("no node holds the lock", || nodes_with(&nodes, "lock:order:1", None) == 5).await;
}
