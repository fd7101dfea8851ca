//! A client keeps its lock from one batch to the next, over real Redis processes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{client_without_timeouts, delete, nodes_with, policy, until};
use redlock::{
    Batch, Combiner, CombinerConfig, Entry, ExtendError, Lease, Policy, Redlock, ResourceBatch,
};
use testkit::RedisServer;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// What a batch of one item does under its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Leaves the token behind as the value.
    Write,
    /// Extends the lease.
    Extend,
    /// Must be tried again, once.
    Again,
}

/// The token of the batch, and what became of an extension.
type Worked = (u64, Result<(), ExtendError>);

/// Waits for a permit before each batch.
struct Waiting {
    begun: AtomicUsize,
    again: AtomicUsize,
    permits: Semaphore,
    policy: Policy,
}

impl Batch for Waiting {
    type Item = Work;
    type Output = Worked;

    fn policy(&self, _resource: &str, _item: &Work) -> Policy {
        self.policy
    }

    async fn execute(
        &self,
        resource: &str,
        lease: Lease,
        entries: Vec<Entry<Work, Worked>>,
    ) -> Vec<Entry<Work, Worked>> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.permits.acquire().await.unwrap().forget();
        let does = |work| entries.iter().any(|entry| entry.item == work);
        let extended =
            if does(Work::Extend) { lease.extend(self.policy.lease_time).await } else { Ok(()) };
        let token = lease.token();
        let is_again = does(Work::Again) && self.again.fetch_add(1, Ordering::SeqCst) == 0;
        lease.release_in_background(&[(resource, token.to_string())]);
        if is_again {
            return entries;
        }
        for entry in entries {
            entry.reply((token, extended.clone()));
        }
        Vec::new()
    }
}

struct Fixture {
    nodes: Vec<RedisServer>,
    redlock: Redlock,
    combiner: Arc<Combiner<Waiting>>,
}

/// Leases outlast every test, so that only a release ends them.
fn endless() -> Policy {
    policy(Duration::from_secs(20), Duration::from_mins(5))
}

impl Fixture {
    async fn start(policy: Policy) -> Self {
        let nodes = RedisServer::start_many(5).unwrap();
        let redlock = client_without_timeouts(&nodes).await;
        let waiting = Waiting {
            begun: AtomicUsize::new(0),
            again: AtomicUsize::new(0),
            permits: Semaphore::new(0),
            policy,
        };
        let one = CombinerConfig { batch: 1, ..CombinerConfig::default() };
        let combiner = Arc::new(Combiner::new(redlock.clone(), waiting, one));
        Self { nodes, redlock, combiner }
    }

    fn submit(&self, work: Work) -> JoinHandle<Worked> {
        let combiner = Arc::clone(&self.combiner);
        tokio::spawn(async move { combiner.submit("x", work).await.unwrap() })
    }

    /// Submits two items, so that the lease of the first batch is renewed on all nodes.
    async fn renewed(&self, works: [Work; 2]) -> [JoinHandle<Worked>; 2] {
        let first = self.submit(works[0]);
        self.begun(1).await;
        let second = self.submit(works[1]);
        self.nodes_at("2", 5).await;
        [first, second]
    }

    async fn begun(&self, batches: usize) {
        let begun = || self.combiner.batch().begun.load(Ordering::SeqCst) == batches;
        until("the batch has begun", begun).await;
    }

    /// Waits until `nodes` nodes have granted this token.
    async fn nodes_at(&self, token: &str, nodes: usize) {
        let granted = || nodes_with(&self.nodes, "fence:x", Some(token)) == nodes;
        until("the token is granted", granted).await;
    }

    async fn no_node_is_locked(&self) {
        until("nobody holds the lock", || nodes_with(&self.nodes, "lock:x", None) == 5).await;
    }

    fn permit(&self, batches: usize) {
        self.combiner.batch().permits.add_permits(batches);
    }
}

#[tokio::test]
async fn a_batch_that_nobody_follows_renews_nothing() {
    let fixture = Fixture::start(endless()).await;
    fixture.permit(3);
    for token in 1..=3 {
        assert_eq!(fixture.submit(Work::Write).await.unwrap(), (token, Ok(())));
    }
    fixture.no_node_is_locked().await;
    for node in &fixture.nodes {
        assert_eq!(node.calls("evalsha").unwrap(), 6, "an acquisition and a release each");
    }
}

#[tokio::test]
async fn the_next_batch_has_a_lease_and_a_token_of_its_own_and_the_last_one_frees_the_lock() {
    let fixture = Fixture::start(endless()).await;
    let other = client_without_timeouts(&fixture.nodes).await;
    let mut value = other.published("x");
    let [first, second] = fixture.renewed([Work::Write; 2]).await;
    fixture.permit(1);
    assert_eq!(first.await.unwrap(), (1, Ok(())));
    value.wait_for(|value| value.token == 1).await.unwrap();
    assert_eq!(value.borrow().value.as_deref(), Some("1"), "as every release announces it");
    fixture.begun(2).await;
    assert_eq!(nodes_with(&fixture.nodes, "lock:x", None), 0, "the lock was not freed in between");
    fixture.permit(1);
    assert_eq!(second.await.unwrap(), (2, Ok(())));
    fixture.no_node_is_locked().await;
    value.wait_for(|value| value.token == 2).await.unwrap();
    for node in &fixture.nodes {
        assert_eq!(node.calls("evalsha").unwrap(), 4, "acquired, renewed, released twice");
    }
}

/// The holder has callers all the time, and hands the lock over nevertheless.
#[tokio::test]
async fn a_client_that_waits_gets_the_lock_after_the_batch_under_way_and_one_more() {
    let fixture = Fixture::start(endless()).await;
    let other = client_without_timeouts(&fixture.nodes).await;
    let [first, second] = fixture.renewed([Work::Write; 2]).await;
    let waiter = tokio::spawn(async move { other.acquire("x", endless()).await.unwrap() });
    let is_queued = |node: &RedisServer| node.command("EXISTS queue:x").unwrap().starts_with(":1");
    until("it waits on all nodes", || fixture.nodes.iter().all(is_queued)).await;
    fixture.permit(1);
    fixture.begun(2).await;
    let third = fixture.submit(Work::Write);
    let asked = |node: &RedisServer| node.calls("zcount").unwrap() == 2;
    until("the second batch asked for a renewal", || fixture.nodes.iter().all(asked)).await;
    fixture.permit(1);
    let lease = waiter.await.unwrap();
    assert_eq!((first.await.unwrap().0, second.await.unwrap().0), (1, 2));
    assert!(lease.token() > 2, "{}", lease.token());
    assert_eq!(fixture.combiner.batch().begun.load(Ordering::SeqCst), 2);
    let token = lease.token();
    lease.release().await;
    fixture.permit(1);
    assert!(third.await.unwrap().0 > token);
}

/// Three of five nodes refuse. The lease in use counts on the other two until its batch ends.
#[tokio::test]
async fn a_minority_that_renewed_keeps_the_lock_until_the_batch_ends_and_no_longer() {
    let fixture = Fixture::start(endless()).await;
    let first = fixture.submit(Work::Write);
    fixture.begun(1).await;
    until("all hold the lock", || nodes_with(&fixture.nodes, "lock:x", None) == 0).await;
    for node in &fixture.nodes[..3] {
        delete(node, "lock:x").await;
    }
    let second = fixture.submit(Work::Write);
    fixture.nodes_at("2", 2).await;
    // Behind the votes on each connection.
    let barrier = fixture.redlock.acquire("y", endless()).await.unwrap();
    barrier.release_everywhere(&[]).await;
    for node in &fixture.nodes {
        let calls = node.calls("evalsha").unwrap();
        assert_eq!(calls, 4, "acquired, asked to renew, and the same for the other resource");
    }
    assert_eq!(nodes_with(&fixture.nodes, "lock:x", None), 3);
    fixture.permit(2);
    assert_eq!(first.await.unwrap().0, 1);
    assert_eq!(second.await.unwrap().0, 3, "acquired anew");
    fixture.no_node_is_locked().await;
}

#[tokio::test]
async fn a_lease_that_is_being_renewed_can_be_extended_and_only_without_a_break() {
    let fixture = Fixture::start(endless()).await;
    let [first, second] = fixture.renewed([Work::Extend; 2]).await;
    fixture.permit(1);
    assert_eq!(first.await.unwrap(), (1, Ok(())));
    let third = fixture.submit(Work::Write);
    fixture.nodes_at("3", 5).await;
    for node in &fixture.nodes[..3] {
        delete(node, "lock:x").await;
    }
    fixture.permit(2);
    let lost = ExtendError::NoQuorum { extended: 2, nodes: 5, quorum: 3 };
    assert_eq!(second.await.unwrap(), (2, Err(lost)), "a node that gave the lock up is no witness");
    assert_eq!(third.await.unwrap().0, 3);
}

#[tokio::test]
async fn a_batch_that_returns_entries_asks_for_a_new_token() {
    let fixture = Fixture::start(endless()).await;
    let [first, second] = fixture.renewed([Work::Again, Work::Write]).await;
    // The store has a token of another client.
    fixture.redlock.observe_token("x", 100);
    fixture.permit(3);
    assert!(first.await.unwrap().0 > 100, "not the renewed lease");
    assert!(second.await.unwrap().0 > 100);
}

/// A renewed lease ends like any other, and the next token is above its own.
#[tokio::test]
async fn a_late_holder_of_a_renewed_lease_has_a_token_below_the_next_one() {
    let fixture = Fixture::start(policy(Duration::from_secs(20), Duration::from_secs(3))).await;
    let [_first, second] = fixture.renewed([Work::Write; 2]).await;
    fixture.permit(1);
    fixture.begun(2).await;
    let other = client_without_timeouts(&fixture.nodes).await;
    let lease = other.acquire("x", endless()).await.unwrap();
    assert!(!second.is_finished(), "the renewed lease ended under its batch");
    let (mut fence, token) = (0, lease.token());
    let mut store = |token: u64| {
        let is_stored = token > fence;
        fence = fence.max(token);
        is_stored
    };
    assert!(store(token));
    // Of the nodes that granted it: where the late one's lock ended last, it may have been refused.
    let holding = |owner: &str| nodes_with(&fixture.nodes, "lock:x", Some(owner));
    let mut owners = fixture.nodes.iter().filter_map(|node| node.get("lock:x").unwrap());
    let owner = owners.find(|owner| holding(owner) >= 3).unwrap();
    let granted = holding(&owner);
    fixture.permit(1);
    let (late, _) = second.await.unwrap();
    assert_eq!(late, 2);
    assert!(!store(late), "the fence refuses the late one");
    assert!(holding(&owner) >= granted, "its release frees no other lock");
    lease.release().await;
}

/// Replies with the number of resources in the batch.
struct Counting {
    begun: AtomicUsize,
    permits: Semaphore,
}

impl Batch for Counting {
    type Item = ();
    type Output = usize;
    const MAX_RESOURCES: usize = 2;

    fn policy(&self, _resource: &str, _item: &()) -> Policy {
        endless()
    }

    async fn execute(&self, _: &str, _: Lease, _: Vec<Entry<(), usize>>) -> Vec<Entry<(), usize>> {
        unreachable!("it executes together")
    }

    async fn execute_together(
        &self,
        lease: Lease,
        batches: Vec<ResourceBatch<Self>>,
    ) -> Vec<ResourceBatch<Self>> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.permits.acquire().await.unwrap().forget();
        lease.release_in_background(&[]);
        let count = batches.len();
        for entry in batches.into_iter().flat_map(|batch| batch.entries) {
            entry.reply(count);
        }
        Vec::new()
    }
}

#[tokio::test]
async fn callers_of_another_resource_are_not_kept_waiting() {
    let nodes = RedisServer::start_many(5).unwrap();
    let counting = Counting { begun: AtomicUsize::new(0), permits: Semaphore::new(0) };
    let redlock = client_without_timeouts(&nodes).await;
    let combiner = Arc::new(Combiner::new(redlock, counting, CombinerConfig::default()));
    let submit = |resource: &'static str| {
        let combiner = Arc::clone(&combiner);
        tokio::spawn(async move { combiner.submit(resource, ()).await.unwrap() })
    };
    let first = submit("a");
    until("it has begun", || combiner.batch().begun.load(Ordering::SeqCst) == 1).await;
    let second = submit("a");
    until("it is renewed", || nodes_with(&nodes, "fence:a", Some("2")) == 5).await;
    let other = submit("b");
    until("it waits", || combiner.queued("b") == 1).await;
    combiner.batch().permits.add_permits(2);
    let served = (first.await.unwrap(), second.await.unwrap(), other.await.unwrap());
    assert_eq!(served, (1, 2, 2), "the next batch is for both");
}
