//! Code of the lock's user that panics: who caused it is told, and everybody else is served.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::{client, config, patient, until};
use redlock::{
    AcquireOutcome, Batch, Combiner, CombinerConfig, Entry, Exclusion, Lease, Lot, Observer, Order,
    Policy, Redlock, SubmitError,
};
use testkit::RedisServer;
use tokio::task::JoinHandle;

/// What an item does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Nothing,
    /// Panics when its policy is asked for,
    PanicWhenAsked,
    /// from the second time on,
    PanicWhenAskedAgain,
    /// or when it is dropped.
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

/// Answers everybody.
struct Answering(Order);

impl Batch for Answering {
    type Item = Item;
    type Output = ();
    const TOGETHER: usize = 8;

    fn policy(&self, _resource: &str, item: &Item) -> Policy {
        assert_ne!(item.does, Does::PanicWhenAsked, "asked to");
        let before = item.asked.fetch_add(1, Ordering::SeqCst);
        assert!(before == 0 || item.does != Does::PanicWhenAskedAgain, "asked to");
        Policy { order: self.0, ..patient() }
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

    async fn execute_together(&self, lease: Lease, lots: Vec<Lot<Self>>) -> Vec<Lot<Self>> {
        let entries = lots.into_iter().flat_map(|lot| lot.entries).collect();
        self.execute("", lease, entries).await;
        Vec::new()
    }
}

struct Fixture {
    _nodes: Vec<RedisServer>,
    redlock: Redlock,
    combiner: Arc<Combiner<Answering>>,
}

async fn fixture(order: Order) -> Fixture {
    let nodes = RedisServer::start_many(1).unwrap();
    let redlock = client(&nodes).await;
    let combiner = Combiner::new(redlock.clone(), Answering(order), CombinerConfig::default());
    Fixture { _nodes: nodes, redlock, combiner: Arc::new(combiner) }
}

impl Fixture {
    fn submit(&self, resource: &'static str, does: Does) -> JoinHandle<Result<(), SubmitError>> {
        let combiner = Arc::clone(&self.combiner);
        tokio::spawn(async move { combiner.submit(resource, Item::new(does)).await })
    }
}

#[tokio::test]
async fn a_policy_that_panics_is_told_to_its_caller_only() {
    for order in [Order::Unordered, Order::Fair] {
        let fixture = fixture(order).await;
        let caused = fixture.submit("x", Does::PanicWhenAsked).await.unwrap();
        assert_eq!(caused, Err(SubmitError::NoPolicy), "{order:?}");
        for resource in ["x", "y"] {
            assert_eq!(fixture.submit(resource, Does::Nothing).await.unwrap(), Ok(()));
        }
    }
}

#[tokio::test]
async fn a_policy_is_asked_for_once_so_that_it_cannot_end_the_worker() {
    for order in [Order::Unordered, Order::Fair] {
        let fixture = fixture(order).await;
        let asked_once = fixture.submit("x", Does::PanicWhenAskedAgain).await.unwrap();
        assert_eq!(asked_once, Ok(()), "{order:?}");
        for resource in ["x", "y"] {
            assert_eq!(fixture.submit(resource, Does::Nothing).await.unwrap(), Ok(()));
        }
    }
}

#[tokio::test]
async fn a_panic_of_the_worker_itself_leaves_the_other_callers_and_resources_served() {
    for order in [Order::Unordered, Order::Fair] {
        let fixture = fixture(order).await;
        let held = fixture.redlock.acquire("x", patient()).await.unwrap();
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
            assert_eq!(waiting.await.unwrap(), Ok(()), "{order:?}");
        }
        for resource in ["x", "y", "z"] {
            assert_eq!(fixture.submit(resource, Does::Nothing).await.unwrap(), Ok(()));
        }
    }
}

/// Panics whatever it is told, from a certain moment on.
#[derive(Default)]
struct Broken(AtomicBool);

impl Broken {
    fn tell(&self) {
        assert!(!self.0.load(Ordering::SeqCst), "asked to");
    }
}

impl Observer for Broken {
    fn acquired(&self, _: AcquireOutcome, _: Duration, _: u32) {
        self.tell();
    }
    fn released(&self, _: Duration) {
        self.tell();
    }
    fn lease_lost(&self) {
        self.tell();
    }
    fn node_voted(&self, _: usize, _: Duration, _: bool) {
        self.tell();
    }
    fn quorum(&self, _: usize, _: usize) {
        self.tell();
    }
    fn node_excluded(&self, _: usize, _: Exclusion) {
        self.tell();
    }
    fn node_admitted(&self, _: usize) {
        self.tell();
    }
}

#[tokio::test]
async fn an_observer_that_panics_changes_nothing_for_the_lock() {
    let mut nodes = RedisServer::start_many(1).unwrap();
    let observer = Arc::new(Broken::default());
    let redlock = Redlock::start_observed(&config(&nodes), Arc::clone(&observer) as _).unwrap();
    until("the node is connected", || redlock.has_quorum()).await;
    observer.0.store(true, Ordering::SeqCst);
    for order in [Order::Unordered, Order::Fair] {
        let combiner = Combiner::new(redlock.clone(), Answering(order), CombinerConfig::default());
        assert_eq!(combiner.submit("x", Item::new(Does::Nothing)).await, Ok(()), "{order:?}");
        let policy = Policy { order, ..patient() };
        drop(redlock.acquire("x", policy).await.unwrap());
        redlock.acquire("x", policy).await.unwrap().release().await;
    }
    // Whoever looks after the node tells of it, too.
    nodes[0].restart().unwrap();
    until("the node is away", || !redlock.has_quorum()).await;
    until("the node votes again", || redlock.has_quorum()).await;
}
