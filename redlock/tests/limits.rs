//! Extreme values: valid ones work, and all others fail with the name of the setting.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{LEASE, client, config, connected, node, patient, policy, until};
use redlock::{
    AcquireError, AcquireOutcome, Batch, Combiner, CombinerConfig, Config, Domain, Entry,
    ExtendError, Lease, Observer, Policy, QueueDiscipline, Redlock, SubmitError,
};
use testkit::RedisServer;

const FOREVER: Duration = Duration::MAX;
const A_MONTH: Duration = Duration::from_hours(24 * 30);

struct Echo(Policy);

impl Batch for Echo {
    type Item = u8;
    type Output = u8;

    fn policy(&self, _resource: &str, _item: &u8) -> Policy {
        self.0
    }

    async fn execute(
        &self,
        _: &str,
        lease: Lease,
        entries: Vec<Entry<u8, u8>>,
    ) -> Vec<Entry<u8, u8>> {
        lease.release().await;
        for entry in entries {
            let item = entry.item;
            entry.reply(item);
        }
        Vec::new()
    }
}

/// How acquisitions ended.
#[derive(Default)]
struct Outcomes(Mutex<Vec<AcquireOutcome>>);

impl Observer for Outcomes {
    fn acquired(&self, outcome: AcquireOutcome, _: Duration, _: u32) {
        self.0.lock().unwrap().push(outcome);
    }
}

#[tokio::test]
async fn a_wait_without_end_is_a_wait() {
    let nodes = RedisServer::start_many(3).unwrap();
    let redlock = client(&nodes).await;
    let forever = policy(FOREVER, LEASE);
    for discipline in [QueueDiscipline::Unordered, QueueDiscipline::Fair] {
        let forever = Policy { discipline, ..forever };
        redlock.acquire("x", forever).await.unwrap().release().await;
        let combiner = Combiner::new(redlock.clone(), Echo(forever), CombinerConfig::default());
        assert_eq!(combiner.submit("x", 7).await, Ok(7), "{discipline:?}");
        let domain =
            Domain::new("d").wait_timeout(FOREVER).lease_time(LEASE).discipline(discipline);
        assert_eq!(domain.run(&redlock, "x", |_| async { 7 }).await, Ok(7), "{discipline:?}");
        domain.acquire_all(&redlock, &["x", "y"]).await.unwrap().release().await;
    }
    redlock.acquire_all(&["x", "y"], forever).await.unwrap().release().await;
    redlock.try_acquire_all(&["x", "y"], forever).await.unwrap().release().await;
}

#[tokio::test]
async fn a_lease_without_end_is_refused_unless_the_longest_has_none_either() {
    let nodes = RedisServer::start_many(3).unwrap();
    let forever = policy(Duration::from_secs(20), FOREVER);
    let bounded = client(&nodes).await;
    let too_long = AcquireError::LeaseTooLong { lease_time: FOREVER, longest: LEASE };
    for discipline in [QueueDiscipline::Unordered, QueueDiscipline::Fair] {
        let error = bounded.acquire("x", Policy { discipline, ..forever }).await.unwrap_err();
        assert_eq!(error, too_long, "{discipline:?}");
    }
    let lease = bounded.acquire("x", patient()).await.unwrap();
    let too_long = ExtendError::LeaseTooLong { lease_time: FOREVER, longest: LEASE };
    assert_eq!(lease.extend(FOREVER).await, Err(too_long));
    lease.release().await;

    let unbounded = Config { node_timeout: FOREVER, longest_lease: FOREVER, ..config(&nodes) };
    let unbounded = connected(&unbounded).await;
    for discipline in [QueueDiscipline::Unordered, QueueDiscipline::Fair] {
        let lease = unbounded.acquire("x", Policy { discipline, ..forever }).await.unwrap();
        assert!(lease.remaining() > A_MONTH, "{discipline:?}");
        lease.extend(FOREVER).await.unwrap();
        lease.keep_extended();
        assert!(!lease.lost().is_cancelled());
        assert_eq!(lease.while_held(async { 7 }).await, Some(7));
        lease.release().await;
    }
}

#[tokio::test]
async fn a_lease_of_less_than_a_millisecond_is_refused_and_no_outage() {
    let nodes = RedisServer::start_many(1).unwrap();
    let outcomes = Arc::new(Outcomes::default());
    let redlock = Redlock::start_observed(&config(&nodes), Arc::clone(&outcomes) as _).unwrap();
    until("the node is connected", || redlock.has_quorum()).await;
    for lease_time in [Duration::ZERO, Duration::from_micros(999)] {
        for discipline in [QueueDiscipline::Unordered, QueueDiscipline::Fair] {
            let policy = Policy { discipline, ..policy(Duration::from_secs(20), lease_time) };
            let error = redlock.acquire("x", policy).await.unwrap_err();
            let too_short =
                AcquireError::LeaseTooShort { lease_time, shortest: redlock::SHORTEST_LEASE };
            assert_eq!(error, too_short, "{discipline:?}");
            let combiner = Combiner::new(redlock.clone(), Echo(policy), CombinerConfig::default());
            assert_eq!(combiner.submit("x", 7).await, Err(SubmitError::Lock(too_short)));
            let reported = std::mem::take(&mut *outcomes.0.lock().unwrap());
            assert_eq!(reported, [AcquireOutcome::Invalid; 2], "{discipline:?}");
        }
    }
    let lease = redlock.acquire("x", patient()).await.unwrap();
    let too_short = ExtendError::LeaseTooShort {
        lease_time: Duration::ZERO,
        shortest: redlock::SHORTEST_LEASE,
    };
    assert_eq!(lease.extend(Duration::ZERO).await, Err(too_short));
    assert!(!lease.remaining().is_zero(), "it lasts as long as before");
}

#[tokio::test]
async fn a_queue_and_a_batch_have_room_for_one_at_least() {
    let nodes = RedisServer::start_many(1).unwrap();
    let redlock = client(&nodes).await;
    for bound in [0, usize::MAX] {
        for discipline in [QueueDiscipline::Unordered, QueueDiscipline::Fair] {
            let config = CombinerConfig { queue: bound, batch: bound };
            let echo = Echo(Policy { discipline, ..patient() });
            let combiner = Combiner::new(redlock.clone(), echo, config);
            assert_eq!(combiner.submit("x", 7).await, Ok(7), "{bound}, {discipline:?}");
        }
    }
}

#[tokio::test]
async fn a_configuration_that_can_never_work_is_refused_at_the_start() {
    let nodes = RedisServer::start_many(2).unwrap();
    let refused = |config: &Config| Redlock::start(config).unwrap_err().to_string();
    let no_time = Config { node_timeout: Duration::ZERO, ..config(&nodes) };
    assert!(refused(&no_time).starts_with("node_timeout "), "{}", refused(&no_time));
    let no_lease = Config { longest_lease: Duration::ZERO, ..config(&nodes) };
    assert!(refused(&no_lease).starts_with("longest_lease "), "{}", refused(&no_lease));

    // One node would have two votes.
    let twice = vec![node(&nodes[0]), node(&nodes[1]), node(&nodes[0])];
    let error = Redlock::start(&Config::new(twice)).unwrap_err();
    assert!(matches!(error, AcquireError::BadNode { index: 2, .. }), "{error}");
}
