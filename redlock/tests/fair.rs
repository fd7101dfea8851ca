//! Fair order over several clients and real Redis processes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{LEASE, client, client_without_timeouts, nodes_with, patient, until};
use redlock::{Batch, Combiner, CombinerConfig, Entry, Lease, Policy, QueueDiscipline, Redlock};
use testkit::RedisServer;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Records the items in the order of service.
struct Recording {
    policy: Policy,
    served: Arc<Mutex<Vec<usize>>>,
}

impl Batch for Recording {
    type Item = usize;
    type Output = ();

    fn policy(&self, _resource: &str, _item: &Self::Item) -> Policy {
        self.policy
    }

    async fn execute(
        &self,
        _resource: &str,
        lease: Lease,
        entries: Vec<Entry<usize, ()>>,
    ) -> Vec<Entry<usize, ()>> {
        for entry in entries {
            self.served.lock().unwrap().push(entry.item);
            entry.reply(());
        }
        lease.release().await;
        Vec::new()
    }
}

type Clients = Vec<Arc<Combiner<Recording>>>;

async fn clients(
    nodes: &[RedisServer],
    count: usize,
    policy: Policy,
) -> (Clients, Arc<Mutex<Vec<usize>>>) {
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut clients = Vec::new();
    for _ in 0..count {
        let recording = Recording { policy, served: Arc::clone(&served) };
        let config = CombinerConfig::default();
        let redlock = client_without_timeouts(nodes).await;
        clients.push(Arc::new(Combiner::new(redlock, recording, config)));
    }
    (clients, served)
}

/// Holds the lock until it is released.
async fn blocker(redlock: &Redlock) -> Lease {
    let blocker = redlock.acquire("x", patient()).await.unwrap();
    blocker.keep_extended();
    blocker
}

/// Whether a majority of the nodes has issued this ticket.
fn is_issued(nodes: &[RedisServer], ticket: usize) -> bool {
    let has_it = |node: &&RedisServer| {
        let newest = node.get("ticket:x").unwrap();
        newest.is_some_and(|newest| newest.parse::<usize>().unwrap() >= ticket)
    };
    nodes.iter().filter(has_it).count() > nodes.len() / 2
}

fn submit(client: &Arc<Combiner<Recording>>, item: usize) -> JoinHandle<()> {
    let client = Arc::clone(client);
    tokio::spawn(async move { client.submit("x", item).await.unwrap() })
}

/// Submits to the clients alternately while the lock is held, and returns the order of service.
async fn order_of_service(discipline: QueueDiscipline) -> Vec<usize> {
    let nodes = RedisServer::start_many(5).unwrap();
    let (clients, served) = clients(&nodes, 3, Policy { discipline, ..patient() }).await;
    let blocker = blocker(&client_without_timeouts(&nodes).await).await;
    let mut waiting = Vec::new();
    for item in 0..30 {
        let client = &clients[item % 3];
        let queued = client.queued("x");
        waiting.push(submit(client, item));
        if discipline == QueueDiscipline::Fair {
            until("it has a ticket", || is_issued(&nodes, item + 1)).await;
        } else if item >= 3 {
            until("it is queued", || client.queued("x") > queued).await;
        }
    }
    blocker.release().await;
    for waiter in waiting {
        waiter.await.unwrap();
    }
    let served = served.lock().unwrap();
    served.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_served_in_the_order_they_asked_over_all_clients() {
    assert_eq!(order_of_service(QueueDiscipline::Fair).await, (0..30).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tickets_they_are_not() {
    let served = order_of_service(QueueDiscipline::Unordered).await;
    assert_eq!(served.len(), 30);
    assert!(!served.is_sorted(), "{served:?}");
}

#[tokio::test]
async fn a_client_without_competitors_pays_no_round_trip_for_fair_order() {
    const SERVED: u64 = 20;
    let nodes = RedisServer::start_many(5).unwrap();
    let alone = client_without_timeouts(&nodes).await;
    for _ in 0..SERVED {
        let fair = Policy { discipline: QueueDiscipline::Fair, ..patient() };
        alone.acquire("x", fair).await.unwrap().release().await;
    }
    for node in &nodes {
        let all_came = async {
            while node.calls("evalsha").unwrap() < 2 * SERVED {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all_came).await.unwrap();
        let calls = node.calls("evalsha").unwrap();
        assert_eq!(calls, 2 * SERVED, "tickets and lock in one, and the release");
    }
}

#[tokio::test]
async fn ten_thousand_callers_of_three_clients_are_all_served() {
    let nodes = RedisServer::start_many(5).unwrap();
    let (clients, served) =
        clients(&nodes, 3, Policy { discipline: QueueDiscipline::Fair, ..patient() }).await;
    let waiting: Vec<_> = (0..10_000).map(|item| submit(&clients[item % 3], item)).collect();
    for waiter in waiting {
        waiter.await.unwrap();
    }
    let served = served.lock().unwrap();
    assert_eq!(served.len(), 10_000);
    for client in 0..3 {
        let own: Vec<_> = served.iter().filter(|&item| item % 3 == client).collect();
        assert!(own.is_sorted(), "each client's callers keep their order");
    }
}

/// Frees the lock, waits for a permit, and returns the first item once, to be tried again.
struct Hesitating {
    served: Arc<Mutex<Vec<usize>>>,
    permits: Arc<Semaphore>,
}

impl Batch for Hesitating {
    type Item = usize;
    type Output = ();

    fn policy(&self, _resource: &str, _item: &Self::Item) -> Policy {
        Policy { discipline: QueueDiscipline::Fair, ..patient() }
    }

    async fn execute(
        &self,
        _resource: &str,
        lease: Lease,
        entries: Vec<Entry<usize, ()>>,
    ) -> Vec<Entry<usize, ()>> {
        self.permits.acquire().await.unwrap().forget();
        lease.release().await;
        self.permits.acquire().await.unwrap().forget();
        let is_first_time = {
            let mut served = self.served.lock().unwrap();
            served.extend(entries.iter().map(|entry| entry.item));
            served.len() == 1
        };
        if is_first_time {
            return entries;
        }
        for entry in entries {
            entry.reply(());
        }
        Vec::new()
    }
}

#[tokio::test]
async fn the_next_batch_is_granted_by_the_release_and_begins_when_the_one_before_has_ended() {
    let nodes = RedisServer::start_many(5).unwrap();
    let (served, permits) = (Arc::default(), Arc::new(Semaphore::new(0)));
    let batch = Hesitating { served: Arc::clone(&served), permits: Arc::clone(&permits) };
    let config = CombinerConfig { batch: 1, ..CombinerConfig::default() };
    let combiner = Arc::new(Combiner::new(client(&nodes).await, batch, config));
    let waiting: Vec<_> = (0..3)
        .map(|item| {
            let combiner = Arc::clone(&combiner);
            tokio::spawn(async move { combiner.submit("x", item).await.unwrap() })
        })
        .collect();
    permits.add_permits(1);
    until("the release has granted the next", || nodes_with(&nodes, "fence:x", Some("2")) >= 3)
        .await;
    assert!(served.lock().unwrap().is_empty(), "the first has not ended");
    permits.add_permits(10);
    for waiter in waiting {
        waiter.await.unwrap();
    }
    assert_eq!(*served.lock().unwrap(), [0, 0, 1, 2], "retried items come first");
}

#[test]
fn a_client_that_died_in_the_queue_is_skipped() {
    let nodes = RedisServer::start_many(5).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dying = tokio::runtime::Runtime::new().unwrap();
    let blocker = runtime.block_on(async { blocker(&client_without_timeouts(&nodes).await).await });
    // Within the default wait.
    let policy =
        Policy { discipline: QueueDiscipline::Fair, lease_time: LEASE, ..Policy::default() };
    let (dead, _) = dying.block_on(clients(&nodes, 1, policy));
    let first = dying.spawn({
        let dead = Arc::clone(&dead[0]);
        async move { dead.submit("x", 0).await }
    });
    runtime.block_on(until("the first has a ticket", || is_issued(&nodes, 1)));
    dying.shutdown_background();
    runtime.block_on(async {
        let (clients, served) = clients(&nodes, 1, policy).await;
        let second = submit(&clients[0], 1);
        until("the second has a ticket", || is_issued(&nodes, 2)).await;
        blocker.release().await;
        second.await.unwrap();
        assert_eq!(*served.lock().unwrap(), [1]);
        assert!(first.await.is_err(), "the first was never served");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_take_the_lock_themselves_are_served_in_order() {
    let nodes = RedisServer::start_many(5).unwrap();
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(client_without_timeouts(&nodes).await);
    }
    let fair = Policy { discipline: QueueDiscipline::Fair, ..patient() };
    let blocker = blocker(&clients[0]).await;
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    for caller in 0..12 {
        let (redlock, served) = (clients[caller % 3].clone(), Arc::clone(&served));
        waiting.push(tokio::spawn(async move {
            let lease = redlock.acquire("x", fair).await.unwrap();
            served.lock().unwrap().push((caller, lease.ticket().unwrap()));
            lease.release().await;
        }));
        until("it has a ticket", || is_issued(&nodes, caller + 1)).await;
    }
    blocker.release().await;
    for waiter in waiting {
        waiter.await.unwrap();
    }
    let served = served.lock().unwrap();
    assert_eq!(*served, (0..12).map(|caller| (caller, caller as u64 + 1)).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_callers_at_once_take_the_lock_themselves() {
    for discipline in [QueueDiscipline::Unordered, QueueDiscipline::Fair] {
        let nodes = RedisServer::start_many(5).unwrap();
        let clients = [client(&nodes).await, client(&nodes).await, client(&nodes).await];
        let policy = Policy { discipline, ..patient() };
        let waiting: Vec<_> = (0..100)
            .map(|caller| {
                let redlock = clients[caller % 3].clone();
                tokio::spawn(async move {
                    redlock.acquire("x", policy).await.unwrap().release().await;
                })
            })
            .collect();
        for waiter in waiting {
            waiter.await.unwrap();
        }
    }
}

/// Several callers of one client acquire the lock at once, and each runs `hold` under it.
async fn in_one_queue<F: Future<Output = ()> + Send + 'static>(
    redlock: &Redlock,
    callers: usize,
    hold: impl Fn(u64) -> F + Clone + Send + 'static,
) {
    let fair = Policy { discipline: QueueDiscipline::Fair, ..patient() };
    let waiting: Vec<_> = (0..callers)
        .map(|_| {
            let (redlock, hold) = (redlock.clone(), hold.clone());
            tokio::spawn(async move {
                let lease = redlock.acquire("x", fair).await.unwrap();
                hold(lease.ticket().unwrap()).await;
                lease.release().await;
            })
        })
        .collect();
    for waiter in waiting {
        waiter.await.unwrap();
    }
}

#[tokio::test]
async fn a_release_carries_the_request_for_the_next_lease_of_the_same_client() {
    const CALLERS: usize = 50;
    let nodes = RedisServer::start_many(5).unwrap();
    let redlock = client_without_timeouts(&nodes).await;
    in_one_queue(&redlock, CALLERS, |_| std::future::ready(())).await;
    for node in &nodes {
        // One call for each lease. A slow release adds some; a request of its own doubles them.
        let calls = node.calls("evalsha").unwrap();
        assert!(calls < 2 * CALLERS as u64 - 10, "{calls}");
    }
}

#[tokio::test]
async fn a_waiter_behind_a_slow_holder_asks_without_a_release() {
    let nodes = Arc::new(RedisServer::start_many(5).unwrap());
    let redlock = client(&nodes).await;
    let hold = move |ticket| {
        let nodes = Arc::clone(&nodes);
        async move {
            let asked = |node: &&RedisServer| {
                node.command("EXISTS queue-requests:x").unwrap().starts_with(":1")
            };
            let has_asked = || nodes.iter().filter(asked).count() >= 3;
            if ticket == 1 {
                until("the second has asked", has_asked).await;
            }
        }
    };
    in_one_queue(&redlock, 2, hold).await;
}

#[tokio::test]
async fn a_release_carries_no_request_to_a_node_without_a_vote() {
    let mut nodes = RedisServer::start_many(5).unwrap();
    let redlock = client_without_timeouts(&nodes).await;
    let lease = redlock.acquire("y", patient()).await.unwrap();
    lease.release_with(&[("y", "9".to_owned())]).await;
    nodes[4].restart_empty().unwrap();
    let is_back = || nodes[4].get("y").unwrap().as_deref() == Some("9");
    until("it is connected and in quarantine", is_back).await;
    in_one_queue(&redlock, 20, |_| std::future::ready(())).await;
    let requests: Vec<u64> = nodes.iter().map(|node| node.calls("hset").unwrap()).collect();
    assert!(requests[..4].iter().all(|requests| *requests > 10), "{requests:?}");
    assert_eq!(requests[4], 0);
}
