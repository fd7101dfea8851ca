//! Panics in the user's code: the caller that causes one gets an error, and all others are served.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::{client, config, patient, until};
use redlock::{
    AcquireOutcome, Batch, Combiner, CombinerConfig, Entry, Exclusion, Lease, Observer, Policy,
    QueueDiscipline, Redlock, ResourceBatch, SubmitError,
};
use testkit::RedisServer;
use tokio::task::JoinHandle;

/// The behaviour of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Nothing,
    /// Panics when its policy is asked for.
    PanicWhenAsked,
    /// Panics when its policy is asked for again.
    PanicWhenAskedAgain,
    /// Panics when it is dropped.
    PanicWhenDropped,
}

#[derive(Debug)]
struct Item {
    does: Does,
    asked: AtomicUsize,
}

impl Item {
    fn new(does: Does) -> Self {
        Self { does, asked: AtomicUsize::new(0) }
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        assert_ne!(self.does, Does::PanicWhenDropped, "asked to");
    }
}

/// Replies to every entry.
struct Answering(QueueDiscipline);

impl Batch for Answering {
    type Item = Item;
    type Output = ();
    const MAX_RESOURCES: usize = 8;

    fn policy(&self, _resource: &str, item: &Item) -> Policy {
        assert_ne!(item.does, Does::PanicWhenAsked, "asked to");
        let before = item.asked.fetch_add(1, Ordering::SeqCst);
        assert!(before == 0 || item.does != Does::PanicWhenAskedAgain, "asked to");
        Policy { discipline: self.0, ..patient() }
    }

    async fn execute(
        &self,
        _: &str,
        lease: Lease,
        entries: Vec<Entry<Item, ()>>,
    ) -> Vec<Entry<Item, ()>> {
        lease.release().await;
        for entry in entries {
            entry.reply(());
        }
        Vec::new()
    }

    async fn execute_together(
        &self,
        lease: Lease,
        batches: Vec<ResourceBatch<Self>>,
    ) -> Vec<ResourceBatch<Self>> {
        let entries = batches.into_iter().flat_map(|batch| batch.entries).collect();
        self.execute("", lease, entries).await;
        Vec::new()
    }
}

struct Fixture {
    _nodes: Vec<RedisServer>,
    redlock: Redlock,
    combiner: Arc<Combiner<Answering>>,
}

async fn fixture(discipline: QueueDiscipline) -> Fixture {
    let nodes = RedisServer::start_many(1).unwrap();
    let redlock = client(&nodes).await;
    let combiner = Combiner::new(redlock.clone(), Answering(discipline), CombinerConfig::default());
    Fixture { _nodes: nodes, redlock, combiner: Arc::new(combiner) }
}

impl Fixture {
    fn submit(&self, resource: &'static str, does: Does) -> JoinHandle<Result<(), SubmitError>> {
        let combiner = Arc::clone(&self.combiner);
        tokio::spawn(async move { combiner.submit(resource, Item::new(does)).await })
    }
}

#[tokio::test]
async fn a_policy_that_panics_fails_its_caller_only() {
    for discipline in [QueueDiscipline::Unordered, QueueDiscipline::Fair] {
        let fixture = fixture(discipline).await;
        let caused = fixture.submit("x", Does::PanicWhenAsked).await.unwrap();
        assert_eq!(caused, Err(SubmitError::NoPolicy), "{discipline:?}");
        for resource in ["x", "y"] {
            assert_eq!(fixture.submit(resource, Does::Nothing).await.unwrap(), Ok(()));
        }
    }
}

#[tokio::test]
async fn a_policy_is_asked_for_once_so_that_it_cannot_end_the_worker() {
    for discipline in [QueueDiscipline::Unordered, QueueDiscipline::Fair] {
        let fixture = fixture(discipline).await;
        let asked_once = fixture.submit("x", Does::PanicWhenAskedAgain).await.unwrap();
        assert_eq!(asked_once, Ok(()), "{discipline:?}");
        for resource in ["x", "y"] {
            assert_eq!(fixture.submit(resource, Does::Nothing).await.unwrap(), Ok(()));
        }
    }
}

#[tokio::test]
async fn a_panic_of_the_worker_itself_leaves_the_other_callers_and_resources_served() {
    for discipline in [QueueDiscipline::Unordered, QueueDiscipline::Fair] {
        let fixture = fixture(discipline).await;
        let held = fixture.redlock.acquire("x", patient()).await.unwrap();
        held.keep_extended();
        let gone = ["x", "x"].map(|resource| fixture.submit(resource, Does::PanicWhenDropped));
        until("they wait", || fixture.combiner.queued("x") == 2).await;
        let waiting = [fixture.submit("x", Does::Nothing), fixture.submit("y", Does::Nothing)];
        until("the others do", || fixture.combiner.queued("x") == 3).await;
        // Now the worker drops the items.
        for gone in gone {
            gone.abort();
            assert!(gone.await.unwrap_err().is_cancelled());
        }
        held.release().await;
        for waiting in waiting {
            assert_eq!(waiting.await.unwrap(), Ok(()), "{discipline:?}");
        }
        for resource in ["x", "y", "z"] {
            assert_eq!(fixture.submit(resource, Does::Nothing).await.unwrap(), Ok(()));
        }
    }
}

/// Panics at every event, once it is switched on.
#[derive(Default)]
struct Broken(AtomicBool);

impl Broken {
    fn event(&self) {
        assert!(!self.0.load(Ordering::SeqCst), "asked to");
    }
}

impl Observer for Broken {
    fn acquired(&self, _: AcquireOutcome, _: Duration, _: u32) {
        self.event();
    }
    fn released(&self, _: Duration) {
        self.event();
    }
    fn lease_lost(&self) {
        self.event();
    }
    fn node_voted(&self, _: usize, _: Duration, _: bool) {
        self.event();
    }
    fn quorum(&self, _: usize, _: usize) {
        self.event();
    }
    fn node_excluded(&self, _: usize, _: Exclusion) {
        self.event();
    }
    fn node_admitted(&self, _: usize) {
        self.event();
    }
}

#[tokio::test]
async fn an_observer_that_panics_changes_nothing_for_the_lock() {
    let mut nodes = RedisServer::start_many(1).unwrap();
    let observer = Arc::new(Broken::default());
    let redlock = Redlock::start_observed(&config(&nodes), Arc::clone(&observer) as _).unwrap();
    until("the node is connected", || redlock.has_quorum()).await;
    observer.0.store(true, Ordering::SeqCst);
    for discipline in [QueueDiscipline::Unordered, QueueDiscipline::Fair] {
        let combiner =
            Combiner::new(redlock.clone(), Answering(discipline), CombinerConfig::default());
        assert_eq!(combiner.submit("x", Item::new(Does::Nothing)).await, Ok(()), "{discipline:?}");
        let policy = Policy { discipline, ..patient() };
        drop(redlock.acquire("x", policy).await.unwrap());
        redlock.acquire("x", policy).await.unwrap().release().await;
    }
    // The monitor of the node reports to the observer too.
    nodes[0].restart().unwrap();
    until("the node is away", || !redlock.has_quorum()).await;
    until("the node votes again", || redlock.has_quorum()).await;
}
