//! Combining over real Redis processes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{LEASE, client, patient, policy, until};
use redlock::{
    AcquireError, Batch, Combiner, CombinerConfig, Entry, Lease, Policy, ResourceBatch, SubmitError,
};
use testkit::RedisServer;
use tokio::sync::Semaphore;

/// An item that waits for [`WAIT`]. All others wait as long as it takes on a busy machine.
const IMPATIENT: &str = "impatient";
const WAIT: Duration = Duration::from_millis(500);

/// Numbers the entries in the order of execution. Waits for a permit before each batch.
struct Counting {
    next: AtomicUsize,
    batches: AtomicUsize,
    permits: Arc<Semaphore>,
}

type Counted = Entry<&'static str, usize>;

impl Batch for Counting {
    type Item = &'static str;
    type Output = usize;

    fn policy(&self, _resource: &str, item: &Self::Item) -> Policy {
        if *item == IMPATIENT { policy(WAIT, LEASE) } else { patient() }
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

async fn fixture(config: CombinerConfig) -> Fixture {
    let nodes = RedisServer::start_many(5).unwrap();
    let permits = Arc::new(Semaphore::new(0));
    let counting = Counting {
        next: AtomicUsize::new(0),
        batches: AtomicUsize::new(0),
        permits: Arc::clone(&permits),
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
    let fixture = fixture(CombinerConfig::default()).await;
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
async fn callers_beyond_the_queue_are_refused_at_once() {
    let fixture = fixture(CombinerConfig { queue: 2, batch: 1 }).await;
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
    let fixture = fixture(CombinerConfig::default()).await;
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
    let fixture = fixture(CombinerConfig::default()).await;
    fixture.permits.add_permits(2);
    assert_eq!(fixture.submit("panic").await.unwrap(), Err(SubmitError::Abandoned));
    assert_eq!(fixture.submit("").await.unwrap(), Ok(0));
}

#[tokio::test]
async fn returned_entries_are_tried_again() {
    let fixture = fixture(CombinerConfig::default()).await;
    fixture.permits.add_permits(2);
    assert_eq!(fixture.submit("again").await.unwrap(), Ok(0));
    fixture.batches_begun(2).await;
}

#[tokio::test]
async fn a_long_batch_does_not_keep_the_next_callers_past_their_wait() {
    let fixture = fixture(CombinerConfig::default()).await;
    let first = fixture.submit("");
    fixture.batches_begun(1).await;
    let error = fixture.submit(IMPATIENT).await.unwrap().unwrap_err();
    assert!(matches!(error, SubmitError::Lock(AcquireError::Timeout { .. })), "{error}");
    fixture.permits.add_permits(2);
    assert_eq!(first.await.unwrap(), Ok(0), "a caller whose batch has begun gets its result");
    assert_eq!(fixture.submit("").await.unwrap(), Ok(1), "the refused item was not executed");
}

#[tokio::test]
async fn without_a_quorum_every_caller_gets_an_error_within_its_wait() {
    let mut fixture = fixture(CombinerConfig::default()).await;
    for node in &mut fixture.nodes[..3] {
        node.kill().unwrap();
    }
    let callers: Vec<_> = (0..20).map(|_| fixture.submit(IMPATIENT)).collect();
    for caller in callers {
        let error = caller.await.unwrap().unwrap_err();
        let lost = AcquireError::QuorumUnavailable { reachable: 2, nodes: 5, quorum: 3 };
        assert_eq!(error, SubmitError::Lock(lost));
    }
    assert_eq!(fixture.combiner.batch().batches.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_caller_who_would_wait_in_vain_is_refused_at_once_until_batches_are_quick_again() {
    let fixture = fixture(CombinerConfig::default()).await;
    for round in 1.. {
        assert!(round < 20, "rounds last longer than the wait, and nobody is refused for it");
        let running = fixture.submit("");
        fixture.batches_begun(round).await;
        let asked = std::time::Instant::now();
        let error = fixture.combiner.submit("x", IMPATIENT).await.unwrap_err();
        let took = asked.elapsed();
        fixture.permits.add_permits(1);
        running.await.unwrap().unwrap();
        match error {
            SubmitError::Overloaded { expected_wait } => {
                assert!(expected_wait > WAIT, "{expected_wait:?}");
                assert!(took < WAIT, "{took:?}");
                break;
            }
            // The round has lasted at least for this wait.
            error => assert!(matches!(error, SubmitError::Lock(AcquireError::Timeout { .. }))),
        }
    }
    fixture.permits.add_permits(1);
    fixture.submit(IMPATIENT).await.unwrap().unwrap();
}

/// Waits for a permit and replies with the number of resources in the batch.
struct Together {
    begun: AtomicUsize,
    permits: Semaphore,
}

impl Batch for Together {
    type Item = ();
    type Output = usize;
    const MAX_RESOURCES: usize = 128;

    fn policy(&self, _resource: &str, _item: &()) -> Policy {
        patient()
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
        assert_eq!(lease.tokens().len(), batches.len());
        lease.release().await;
        let count = batches.len();
        for entry in batches.into_iter().flat_map(|batch| batch.entries) {
            entry.reply(count);
        }
        Vec::new()
    }
}

#[tokio::test]
async fn several_resources_share_a_batch_unless_one_of_them_is_held() {
    let nodes = RedisServer::start_many(5).unwrap();
    let redlock = client(&nodes).await;
    let together = Together { begun: AtomicUsize::new(0), permits: Semaphore::new(0) };
    let combiner = Arc::new(Combiner::new(redlock.clone(), together, CombinerConfig::default()));
    let submit = |resource: &'static str| {
        let combiner = Arc::clone(&combiner);
        tokio::spawn(async move { combiner.submit(resource, ()).await })
    };
    let begun = async |batches: usize| {
        let so = || combiner.batch().begun.load(Ordering::SeqCst) == batches;
        until("the batch has begun", so).await;
    };
    let first = submit("a");
    begun(1).await;
    let waiting = ["a", "b", "c", "b"].map(submit);
    until("all wait", || ["a", "b", "c"].map(|one| combiner.queued(one)) == [1, 2, 1]).await;
    combiner.batch().permits.add_permits(2);
    assert_eq!(first.await.unwrap(), Ok(1));
    for waiter in waiting {
        assert_eq!(waiter.await.unwrap(), Ok(3));
    }

    let other = client(&nodes).await.acquire("b", patient()).await.unwrap();
    other.keep_extended();
    let first = submit("a");
    begun(3).await;
    let [a, b, c] = ["a", "b", "c"].map(submit);
    until("all wait", || ["a", "b", "c"].map(|one| combiner.queued(one)) == [1, 1, 1]).await;
    combiner.batch().permits.add_permits(4);
    assert_eq!(first.await.unwrap(), Ok(1));
    assert_eq!((a.await.unwrap(), c.await.unwrap()), (Ok(1), Ok(1)), "a and c do not wait for b");
    assert!(!b.is_finished());
    other.release().await;
    assert_eq!(b.await.unwrap(), Ok(1));
}

#[tokio::test]
async fn many_resources_are_split_over_two_simultaneous_batches() {
    let nodes = RedisServer::start_many(1).unwrap();
    let together = Together { begun: AtomicUsize::new(0), permits: Semaphore::new(0) };
    let combiner =
        Arc::new(Combiner::new(client(&nodes).await, together, CombinerConfig::default()));
    let submit = |resource: String| {
        let combiner = Arc::clone(&combiner);
        tokio::spawn(async move { combiner.submit(&resource, ()).await.unwrap() })
    };
    let begun = || combiner.batch().begun.load(Ordering::SeqCst);
    let first = submit("first".to_owned());
    until("a batch has begun", || begun() == 1).await;
    let callers: Vec<_> = (0..90).map(|number| submit(number.to_string())).collect();
    until("another has begun", || begun() == 2).await;
    combiner.batch().permits.add_permits(100);
    assert_eq!(first.await.unwrap(), 1);
    for caller in callers {
        assert!((2..=46).contains(&caller.await.unwrap()), "half of the resources");
    }
}
