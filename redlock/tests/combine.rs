//! Combining over real Redis processes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{client, patient, policy, until};
use redlock::{AcquireError, Batch, Combiner, CombinerConfig, Entry, Lease, Policy, SubmitError};
use testkit::RedisServer;
use tokio::sync::Semaphore;

/// Counts up; each caller gets the number before its own. Waits for a permit before each batch.
struct Counting {
    next: AtomicUsize,
    batches: AtomicUsize,
    permits: Arc<Semaphore>,
    policy: Policy,
}

type Counted = Entry<&'static str, usize>;

impl Batch for Counting {
    type Item = &'static str;
    type Output = usize;

    fn policy(&self, _resource: &str) -> Policy {
        self.policy
    }

    async fn execute(&self, _: &str, lease: Lease, mut entries: Vec<Counted>) -> Vec<Counted> {
        self.batches.fetch_add(1, Ordering::SeqCst);
        self.permits.acquire().await.unwrap().forget();
        assert!(entries.iter().all(|entry| entry.item != "panic"), "asked to");
        lease.release().await;
        let again = entries.iter().position(|entry| entry.item == "again");
        if let Some(position) = again {
            for entry in &mut entries {
                entry.item = "";
            }
            return entries.split_off(position);
        }
        for entry in entries {
            entry.reply(self.next.fetch_add(1, Ordering::SeqCst));
        }
        Vec::new()
    }
}

struct Fixture {
    nodes: Vec<RedisServer>,
    combiner: Arc<Combiner<Counting>>,
    permits: Arc<Semaphore>,
}

async fn fixture(config: CombinerConfig, policy: Policy) -> Fixture {
    let nodes = RedisServer::start_many(5).unwrap();
    let permits = Arc::new(Semaphore::new(0));
    let counting = Counting {
        next: AtomicUsize::new(0),
        batches: AtomicUsize::new(0),
        permits: Arc::clone(&permits),
        policy,
    };
    let combiner = Arc::new(Combiner::new(client(&nodes).await, counting, config));
    Fixture { nodes, combiner, permits }
}

impl Fixture {
    fn submit(&self, item: &'static str) -> tokio::task::JoinHandle<Result<usize, SubmitError>> {
        let combiner = Arc::clone(&self.combiner);
        tokio::spawn(async move { combiner.submit("x", item).await })
    }

    async fn batches_begun(&self, count: usize) {
        until("the batch has begun", || {
            self.combiner.batch().batches.load(Ordering::SeqCst) == count
        })
        .await;
    }
}

#[tokio::test]
async fn the_next_batch_collects_while_one_executes() {
    let fixture = fixture(CombinerConfig::default(), patient()).await;
    let first = fixture.submit("");
    fixture.batches_begun(1).await;
    let mut waiting: Vec<_> = (0..500).map(|_| fixture.submit("")).collect();
    until("all are queued", || fixture.combiner.queued("x") == 500).await;
    fixture.permits.add_permits(2);
    assert_eq!(first.await.unwrap(), Ok(0));
    for (position, waiter) in waiting.drain(..).enumerate() {
        assert_eq!(waiter.await.unwrap(), Ok(position + 1), "in order of arrival");
    }
    fixture.batches_begun(2).await;
}

#[tokio::test]
async fn beyond_the_queue_callers_are_refused_at_once() {
    let fixture = fixture(CombinerConfig { queue: 2, batch: 1 }, patient()).await;
    let first = fixture.submit("");
    fixture.batches_begun(1).await;
    let waiting = [fixture.submit(""), fixture.submit("")];
    until("the queue is full", || fixture.combiner.queued("x") == 2).await;
    let refused = fixture.combiner.submit("x", "").await;
    assert!(matches!(refused, Err(SubmitError::Overloaded { .. })), "{refused:?}");
    fixture.permits.add_permits(3);
    assert_eq!(first.await.unwrap(), Ok(0));
    for waiter in waiting {
        waiter.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_before_its_batch_is_not_executed() {
    let fixture = fixture(CombinerConfig::default(), patient()).await;
    let first = fixture.submit("");
    fixture.batches_begun(1).await;
    let gone = fixture.submit("");
    until("it is queued", || fixture.combiner.queued("x") == 1).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    let last = fixture.submit("");
    fixture.permits.add_permits(2);
    assert_eq!(first.await.unwrap(), Ok(0));
    assert_eq!(last.await.unwrap(), Ok(1));
}

#[tokio::test]
async fn a_panic_costs_its_batch_only() {
    let fixture = fixture(CombinerConfig::default(), patient()).await;
    fixture.permits.add_permits(2);
    assert_eq!(fixture.submit("panic").await.unwrap(), Err(SubmitError::Abandoned));
    assert_eq!(fixture.submit("").await.unwrap(), Ok(0));
}

#[tokio::test]
async fn entries_given_back_are_tried_again() {
    let fixture = fixture(CombinerConfig::default(), patient()).await;
    fixture.permits.add_permits(2);
    assert_eq!(fixture.submit("again").await.unwrap(), Ok(0));
    fixture.batches_begun(2).await;
}

#[tokio::test]
async fn a_batch_that_is_long_does_not_keep_the_next_callers_past_their_wait() {
    let short = policy(Duration::from_millis(200), Duration::from_secs(20));
    let fixture = fixture(CombinerConfig::default(), short).await;
    let first = fixture.submit("");
    fixture.batches_begun(1).await;
    let error = fixture.submit("").await.unwrap().unwrap_err();
    assert!(matches!(error, SubmitError::Lock(AcquireError::Timeout { .. })), "{error}");
    fixture.permits.add_permits(2);
    assert_eq!(first.await.unwrap(), Ok(0), "a caller whose batch has begun gets its result");
    assert_eq!(fixture.submit("").await.unwrap(), Ok(1), "who was refused was not executed");
}

#[tokio::test]
async fn without_a_quorum_every_caller_is_told_within_its_wait() {
    let short = policy(Duration::from_millis(200), Duration::from_secs(5));
    let mut fixture = fixture(CombinerConfig::default(), short).await;
    for node in &mut fixture.nodes[..3] {
        node.kill().unwrap();
    }
    let callers: Vec<_> = (0..20).map(|_| fixture.submit("")).collect();
    for caller in callers {
        let error = caller.await.unwrap().unwrap_err();
        let lost = AcquireError::QuorumUnavailable { reachable: 2, nodes: 5, quorum: 3 };
        assert_eq!(error, SubmitError::Lock(lost));
    }
    assert_eq!(fixture.combiner.batch().batches.load(Ordering::SeqCst), 0);
}
