use testkit::RedisServer;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::*;
use crate::script::LINE_LIMIT;
use crate::{Config, NodeConfig, Redlock};

/// Has won the lock and its only ticket, by the vote of one node.
async fn won(redlock: &Redlock, lease: Duration) -> (Arc<Turn>, Round) {
    let shared = &redlock.shared;
    let all_connected = async {
        while redlock.connected().0 == 0 {
            yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), all_connected).await.unwrap();
    let turn = Arc::new(Turn::new(shared));
    let ticket = redlock.want_tickets("x", 1, Instant::now(), &turn);
    let question = Question {
        epoch: 0,
        owner: shared.next_owner(),
        lease,
        proposals: vec![("x".to_owned(), 1)],
        place: turn.place(1).1,
    };
    let topics = vec![shared.roster.board.topic("x")];
    let in_turn = Some((Arc::clone(&turn), 0));
    let mut round = Round::ask(shared, shared.roster.members(), topics, question, in_turn);
    assert_eq!(round.verdict().await, Verdict::Won);
    assert_eq!(ticket.await, Ok(1));
    turn.set(Some(1), None);
    (turn, round)
}

async fn place_of(turn: &Turn, node: &RedisServer) -> Option<u64> {
    let client = redis::Client::open(format!("redis://{}", node.address())).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut place = redis::cmd("ZSCORE");
    place.arg("queue:x").arg(&*turn.line()).query_async(&mut connection).await.unwrap()
}

/// The node has time to answer on a busy machine: each test asks for one round of votes only.
fn client_of(node: &RedisServer) -> Redlock {
    let node = NodeConfig { address: node.address(), password: None };
    let config = Config { node_timeout: Duration::from_secs(20), ..Config::new(vec![node]) };
    Redlock::start(&config).unwrap()
}

#[tokio::test]
async fn a_line_that_gives_up_what_was_granted_stands_in_the_queue() {
    let node = &RedisServer::start_many(1).unwrap()[0];
    let redlock = client_of(node);
    // So long that the lock is gone because the round gave it up.
    let (turn, round) = won(&redlock, Duration::from_secs(10)).await;
    assert_eq!(place_of(&turn, node).await, None, "nobody was in its way");
    drop(round);
    let given_up = async {
        while node.get("lock:x").unwrap().is_some() {
            yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), given_up).await.unwrap();
    assert_eq!(place_of(&turn, node).await, Some(1));
}

#[tokio::test]
async fn a_line_whose_lease_may_end_first_stands_in_the_queue() {
    let node = &RedisServer::start_many(1).unwrap()[0];
    let redlock = client_of(node);
    let (turn, _round) = won(&redlock, LINE_LIMIT / 2).await;
    assert_eq!(place_of(&turn, node).await, Some(1));
}
