use testkit::RedisServer;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::*;
use crate::config::{Config, NodeConfig};
use crate::lock::Redlock;
use crate::protocol::SLOT_LIMIT;
use crate::queue::{QueueSlot, take_tickets_with_lock};

/// A round that has won the lock and the only ticket of its slot, by the vote of one node.
async fn won(redlock: &Redlock, lease: Duration) -> (Arc<QueueSlot>, Round) {
    let client = &redlock.client;
    let all_connected = async {
        while redlock.connected().0 == 0 {
            yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), all_connected).await.unwrap();
    let slot = Arc::new(QueueSlot::new(client.next_owner()));
    let ticket = take_tickets_with_lock(client, "x", 1, Instant::now(), &slot);
    let request = VoteRequest {
        epoch: 0,
        owner: client.next_owner(),
        lease,
        proposals: vec![("x".to_owned(), 1)],
        entry: slot.entry(1).1,
        renews: None,
    };
    let states = vec![client.cluster.registry.state_of("x")];
    let fair = Some(SlotTicket { slot: Arc::clone(&slot), ticket: 0 });
    let mut round = Round::start(client, client.cluster.members(), states, request, fair, None);
    assert_eq!(round.verdict().await, Verdict::Won);
    assert_eq!(ticket.await, Ok(1));
    slot.update(Some(1), None);
    (slot, round)
}

async fn rank_of(slot: &QueueSlot, node: &RedisServer) -> Option<u64> {
    let client = redis::Client::open(format!("redis://{}", node.address())).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut rank = redis::cmd("ZSCORE");
    rank.arg("queue:x").arg(&*slot.name()).query_async(&mut connection).await.unwrap()
}

/// The node has time to answer on a busy machine: each test asks for one round of votes only.
fn client_of(node: &RedisServer) -> Redlock {
    let node = NodeConfig { address: node.address(), password: None };
    let config = Config { node_timeout: Duration::from_secs(20), ..Config::new(vec![node]) };
    Redlock::start(&config).unwrap()
}

#[tokio::test]
async fn a_slot_that_gives_up_a_granted_lock_is_in_the_queue() {
    let node = &RedisServer::start_many(1).unwrap()[0];
    let redlock = client_of(node);
    // So long that the lock is gone because the round gave it up.
    let (slot, round) = won(&redlock, Duration::from_secs(10)).await;
    assert_eq!(rank_of(&slot, node).await, None, "the queue was empty");
    drop(round);
    let given_up = async {
        while node.get("lock:x").unwrap().is_some() {
            yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), given_up).await.unwrap();
    assert_eq!(rank_of(&slot, node).await, Some(1));
}

#[tokio::test]
async fn a_slot_whose_lease_may_end_before_its_time_limit_is_in_the_queue() {
    let node = &RedisServer::start_many(1).unwrap()[0];
    let redlock = client_of(node);
    let (slot, _round) = won(&redlock, SLOT_LIMIT / 2).await;
    assert_eq!(rank_of(&slot, node).await, Some(1));
}
