//! What each protection is for: a scene that is right with it, and wrong by the same check when it
//! is off.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flashsale_faults::check::holds::{Overlap, overlaps};
use flashsale_faults::check::register;
use flashsale_faults::check::tokens::{Disorder, disorder};
use flashsale_faults::history::{Event, Operation, OperationId, Step, Workload, operations};
use flashsale_faults::register::Registers;
use flashsale_faults::section::{Client, Fencing, Gate};
use flashsale_faults::worker;
use redlock::{Ablation, Config, Policy, Redlock};
use testkit::{Link, Postgres, Proxy, RedisServer, Way};
use tokio::task::JoinHandle;

/// Nodes, a register, and what the clients record.
struct Scene {
    nodes: Vec<RedisServer>,
    registers: Registers,
    events: Arc<Mutex<Vec<Event>>>,
    ablation: Ablation,
    _postgres: Arc<Postgres>,
}

/// A client of the scene, and the operation it has under way.
struct Actor {
    client: Client,
    id: OperationId,
    swap: Option<JoinHandle<bool>>,
}

const WORKLOAD: Workload = Workload::Unordered;
/// A lease that a client outlives.
const SHORT: Duration = Duration::from_millis(300);
/// A lease that none does.
const LONG: Duration = Duration::from_secs(20);

impl Scene {
    async fn new(name: &str, ablation: Ablation) -> Self {
        let postgres = Postgres::shared().unwrap();
        let url = postgres.create_database(name).unwrap();
        let registers = Registers::connect(&url, 4).unwrap();
        registers.create().await.unwrap();
        let nodes = RedisServer::start_many(5).unwrap();
        Self { nodes, registers, events: Arc::default(), ablation, _postgres: postgres }
    }

    /// A client in a process of its own, as far as the lock can tell; `voting` nodes let it vote.
    async fn actor(&self, number: u64, voting: usize, longest_lease: Duration) -> Actor {
        let addresses = self.nodes.iter().map(RedisServer::address).collect();
        self.actor_at(addresses, number, voting, longest_lease).await
    }

    /// As [`Scene::actor`], with nodes at these addresses.
    async fn actor_at(
        &self,
        addresses: Vec<String>,
        number: u64,
        voting: usize,
        longest_lease: Duration,
    ) -> Actor {
        let config = Config {
            // No node is slow here, whatever else the machine does.
            node_timeout: Duration::from_secs(2),
            longest_lease,
            ablation: self.ablation,
            ..worker::config(&addresses)
        };
        let redlock = Redlock::start(&config).unwrap();
        until("it is connected", || redlock.connected().0 == voting).await;
        let events = Arc::clone(&self.events);
        let client = Client {
            process: 0,
            number: 0,
            workload: WORKLOAD,
            redlock,
            policy: Policy { wait_timeout: LONG, lease_time: SHORT, ..Policy::default() },
            registers: self.registers.clone(),
            fencing: Fencing::InstalledBeforeReading,
            gate: Arc::new(Gate::default()),
            journal: Arc::new(move |event| events.lock().unwrap().push(event)),
        };
        Actor { client, id: OperationId { start: 1, number }, swap: None }
    }

    /// Lets it read, and holds it there.
    async fn read(&self, actor: &mut Actor) {
        actor.client.gate.close(WORKLOAD);
        let (client, id) = (actor.client.clone(), actor.id);
        actor.swap = Some(tokio::spawn(async move { client.swap(id).await }));
        until("it has read", || {
            let events = self.events.lock().unwrap();
            events.iter().any(|event| event.operation == id && event.step == Step::Held)
        })
        .await;
    }

    /// Lets it go on writing; whether it wrote.
    async fn write(&self, actor: &mut Actor) -> bool {
        actor.client.gate.open();
        actor.swap.take().unwrap().await.unwrap()
    }

    fn operations(&self) -> Vec<Operation> {
        operations(&self.events.lock().unwrap())
    }

    async fn register(&self) -> register::Findings {
        let last = self.registers.read(WORKLOAD).await.unwrap();
        register::check(&self.operations().iter().collect::<Vec<_>>(), 0, last)
    }
}

/// The deadline is generous because it only bounds a failure.
async fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A client outlives its lease between reading and writing, and another writes meanwhile.
async fn a_late_writer(name: &str, fencing: Fencing) -> (bool, register::Findings) {
    let scene = Scene::new(name, Ablation::default()).await;
    let (mut late, mut other) = (scene.actor(1, 5, LONG).await, scene.actor(2, 5, LONG).await);
    (late.client.fencing, other.client.fencing) = (fencing, fencing);
    scene.read(&mut late).await;
    assert!(other.client.swap(other.id).await, "the other writes when the lease has ended");
    let wrote = scene.write(&mut late).await;
    (wrote, scene.register().await)
}

#[tokio::test]
async fn without_fencing_a_late_writer_destroys_what_was_written_meanwhile() {
    let (wrote, findings) = a_late_writer("fenced", Fencing::InstalledBeforeReading).await;
    assert!(!wrote && findings.is_undamaged(), "{findings:?}");

    let (wrote, findings) = a_late_writer("unfenced", Fencing::NotChecked).await;
    assert!(wrote && !findings.linearizable, "{findings:?}");
    assert_eq!(findings.lost.len(), 1);
}

/// A client outlives its lease; another has read by then, and writes after it.
async fn a_late_writer_before_the_next(
    name: &str,
    fencing: Fencing,
) -> ((bool, bool), register::Findings) {
    let scene = Scene::new(name, Ablation::default()).await;
    let (mut late, mut next) = (scene.actor(1, 5, LONG).await, scene.actor(2, 5, LONG).await);
    (late.client.fencing, next.client.fencing) = (fencing, fencing);
    scene.read(&mut late).await;
    scene.read(&mut next).await;
    let wrote = (scene.write(&mut late).await, scene.write(&mut next).await);
    (wrote, scene.register().await)
}

#[tokio::test]
async fn without_the_token_installed_before_reading_a_late_writer_is_not_seen() {
    let installed = Fencing::InstalledBeforeReading;
    let (wrote, findings) = a_late_writer_before_the_next("installed", installed).await;
    assert_eq!(wrote, (false, true));
    assert!(findings.is_undamaged(), "{findings:?}");

    // Both tokens are in order when they are checked, and still the first write is lost.
    let late = Fencing::CheckedWhenWriting;
    let (wrote, findings) = a_late_writer_before_the_next("checked_late", late).await;
    assert_eq!(wrote, (true, true));
    assert!(!findings.linearizable, "{findings:?}");
    assert_eq!(findings.lost.len(), 1);
}

/// A client releases after its lease; by then another holds the lock, and a third asks for it.
async fn a_late_release(name: &str, ablation: Ablation) -> Vec<Overlap> {
    let scene = Scene::new(name, ablation).await;
    let (mut late, mut holder) = (scene.actor(1, 5, LONG).await, scene.actor(2, 5, LONG).await);
    let mut third = scene.actor(3, 5, LONG).await;
    holder.client.policy.lease_time = LONG;
    third.client.policy.wait_timeout = Duration::from_secs(3);
    scene.read(&mut late).await;
    scene.read(&mut holder).await;
    assert!(!scene.write(&mut late).await, "it is refused, and releases");
    third.client.swap(third.id).await;
    scene.write(&mut holder).await;
    assert!(scene.register().await.is_undamaged());
    overlaps(&scene.operations().iter().collect::<Vec<_>>())
}

#[tokio::test]
async fn without_the_owner_check_a_late_release_frees_the_lock_of_another() {
    let found = a_late_release("owner_checked", Ablation::default()).await;
    assert_eq!(found, []);

    let off = Ablation { owner_check_is_off: true, ..Ablation::default() };
    let found = a_late_release("owner_unchecked", off).await;
    assert_ne!(found, []);
}

/// Three of five nodes grant a token; one of them forgets it, and with the two others, which never
/// knew it, it would be a majority. `longest`: how long a node stays out, so no lease is longer.
async fn a_node_that_forgot(
    name: &str,
    ablation: Ablation,
    voting_then: usize,
    longest: Duration,
) -> (Vec<Disorder>, Vec<Overlap>) {
    let mut scene = Scene::new(name, ablation).await;
    let mut proxies = Vec::new();
    for node in &scene.nodes {
        proxies.push(Proxy::start(node.address()).await.unwrap());
    }
    let addresses = proxies.iter().map(|proxy| proxy.address().to_owned()).collect();
    let mut first = scene.actor_at(addresses, 1, 5, longest).await;
    first.client.policy.lease_time = longest;
    for proxy in &proxies[3..] {
        proxy.set(Link::both(Way::Cut));
    }
    scene.read(&mut first).await;
    scene.nodes[2].restart_empty().unwrap();

    let second = scene.actor(2, voting_then, longest).await;
    second.client.swap(second.id).await;
    scene.write(&mut first).await;
    assert!(scene.register().await.is_undamaged(), "the register is right in any case");
    let operations = scene.operations();
    let operations: Vec<_> = operations.iter().collect();
    (disorder(&operations, |hold| Some(hold.token), &[]), overlaps(&operations))
}

#[tokio::test]
async fn without_quarantine_a_node_that_forgot_grants_a_token_again() {
    // The second waits for the end of the lease.
    let ends = Duration::from_secs(3);
    let (tokens, holds) = a_node_that_forgot("quarantined", Ablation::default(), 4, ends).await;
    assert_eq!((tokens, holds), (vec![], vec![]));

    let off = Ablation { quarantine_is_off: true, ..Ablation::default() };
    // It comes before that.
    let (tokens, holds) = a_node_that_forgot("unquarantined", off, 5, LONG).await;
    assert_ne!(tokens, []);
    assert_ne!(holds, []);
}
