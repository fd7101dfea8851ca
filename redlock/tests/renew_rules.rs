//! The rules by which a node renews a lock: the scripts alone, on a real Redis process.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use redis::{Connection, Value, from_redis_value};
use testkit::RedisServer;

const IN_ANY_ORDER: &str = include_str!("../src/scripts/renew.lua");
const IN_FAIR_ORDER: &str = include_str!("../src/scripts/acquire_fair.lua");
const RELEASE: &str =
    concat!(include_str!("../src/scripts/bulk.lua"), include_str!("../src/scripts/release.lua"));
const LONGEST: u64 = 300_000;

struct Node {
    server: RedisServer,
    connection: Connection,
}

/// A renewal of the lease of `old` by `new`.
#[derive(Clone, Copy)]
struct Renewal {
    epoch: u64,
    token: u64,
    ticket: u64,
}

const RENEWAL: Renewal = Renewal { epoch: 0, token: 9, ticket: 50 };

impl Node {
    /// A node on which `old` holds the lock with the token 7.
    fn start() -> Self {
        let server = RedisServer::start().unwrap();
        let url = format!("redis://{}", server.address());
        let connection = redis::Client::open(url).unwrap().get_connection().unwrap();
        let node = Self { server, connection };
        node.run("SET fence:x 7");
        node.run("SET lock:x old PX 100000");
        node
    }

    fn run(&self, line: &str) -> String {
        self.server.command(line).unwrap()
    }

    /// Puts a slot into the queue that lives for a time which no test outlasts.
    fn queue(&self, rank: i64) {
        self.run(&format!("ZADD queue:x {rank} waiter"));
        let seconds: u64 = self.run("TIME").split("\r\n").nth(2).unwrap().parse().unwrap();
        self.run(&format!("ZADD queue-limits:x {}000 waiter", seconds + 60));
    }

    fn renew(&mut self, renewal: Renewal) -> i64 {
        let mut call = redis::cmd("EVAL");
        call.arg(IN_ANY_ORDER).arg(5).arg("redlock:members").arg("redlock:floor");
        call.arg("lock:x").arg("fence:x").arg("queue-limits:x");
        call.arg(renewal.epoch).arg("new").arg(1_000).arg(LONGEST).arg(renewal.token).arg("old");
        // A slot lives for two minutes.
        call.arg(120_000);
        vote(call.query(&mut self.connection).unwrap())[0]
    }

    /// The vote and the lowest ticket of another slot.
    fn renew_fair(&mut self, renewal: Renewal) -> (i64, i64) {
        let mut call = redis::cmd("EVAL");
        call.arg(IN_FAIR_ORDER).arg(8).arg("redlock:members").arg("redlock:floor");
        call.arg("lock:x").arg("fence:x").arg("queue:x").arg("queue-limits:x");
        call.arg("queue-requests:x").arg("ticket:x");
        call.arg(renewal.epoch).arg("new").arg(1_000).arg(LONGEST).arg(renewal.token).arg("slot");
        call.arg(renewal.ticket).arg(120_000).arg(150).arg(0).arg(1).arg("old");
        let vote = vote(call.query(&mut self.connection).unwrap());
        (vote[0], vote[3])
    }

    fn renews_both_ways(&mut self, renewal: Renewal) -> (i64, i64) {
        (self.renew(renewal), self.renew_fair(renewal).0)
    }

    fn assert_renewed(&self) {
        assert_eq!(self.server.get("lock:x").unwrap().as_deref(), Some("new"));
        assert_eq!(self.server.get("fence:x").unwrap().as_deref(), Some("9"));
        let ttl: i64 = self.run("PTTL lock:x")[1..].trim().parse().unwrap();
        assert!(ttl > 10_000, "the lock ends no earlier than before: {ttl}");
    }
}

/// Vote, wait, counter, next ticket, as far as the script returns them.
fn vote(reply: Value) -> Vec<i64> {
    match reply {
        Value::Int(_) => vec![1],
        table => from_redis_value::<Vec<i64>>(table).unwrap().split_off(1),
    }
}

#[test]
fn a_free_lock_renews_its_lease_in_either_order_and_lasts_as_long_as_before() {
    let mut node = Node::start();
    assert_eq!(node.renew(RENEWAL), 1);
    node.assert_renewed();
    let mut node = Node::start();
    assert_eq!(node.renew_fair(RENEWAL), (1, 0));
    node.assert_renewed();
}

#[test]
fn only_the_lock_of_that_lease_is_renewed() {
    let mut node = Node::start();
    node.run("SET lock:x another PX 100000");
    assert_eq!(node.renews_both_ways(RENEWAL), (0, 0), "the lock of another");
    node.run("DEL lock:x");
    assert_eq!(node.renews_both_ways(RENEWAL), (0, 0), "another may have had it since");
    node.run("SET lock:x old PX 300001000");
    assert_eq!(node.renews_both_ways(RENEWAL), (0, 0), "from before the clock was set back");
}

#[test]
fn only_a_higher_token_of_the_present_membership_renews() {
    let mut node = Node::start();
    assert_eq!(node.renews_both_ways(Renewal { token: 7, ..RENEWAL }), (-1, -1));
    node.run("HSET redlock:members epoch 2");
    assert_eq!(node.renews_both_ways(RENEWAL), (-2, -2));
    assert_eq!(node.renew_fair(Renewal { epoch: 2, ..RENEWAL }), (1, 0));
}

#[test]
fn a_waiter_prevents_a_renewal_unless_its_ticket_is_higher() {
    let mut node = Node::start();
    node.queue(-1);
    assert_eq!(node.renews_both_ways(RENEWAL), (0, 0), "in any order");
    let mut node = Node::start();
    node.queue(49);
    assert_eq!(node.renews_both_ways(RENEWAL), (0, 0), "with a lower ticket");
    assert!(node.run("EXISTS queue-requests:x").starts_with(":0"), "a late grant is no renewal");
    let mut node = Node::start();
    node.queue(51);
    assert_eq!(node.renew(RENEWAL), 0);
    assert_eq!(node.renew_fair(RENEWAL), (1, 51), "the holder serves only tickets below that one");
    node.assert_renewed();
}

#[test]
fn a_dead_waiter_prevents_none() {
    let mut node = Node::start();
    node.run("ZADD queue:x -1 dead");
    node.run("ZADD queue-limits:x 1 dead");
    assert_eq!(node.renew_fair(RENEWAL), (1, 0));
    let mut node = Node::start();
    node.run("ZADD queue:x -1 dead");
    node.run("ZADD queue-limits:x 1 dead");
    assert_eq!(node.renew(RENEWAL), 1);
}

/// The release of a lease that was renewed. Another subscriber makes the node announce it.
#[test]
fn the_release_of_a_renewed_lease_leaves_its_value_and_says_that_the_lock_is_taken() {
    let mut node = Node::start();
    assert_eq!(node.renew(RENEWAL), 1);
    let url = format!("redis://{}", node.server.address());
    let mut connections =
        [0, 1].map(|_| redis::Client::open(&*url).unwrap().get_connection().unwrap());
    let mut subscribers = connections.each_mut().map(|connection| connection.as_pubsub());
    for subscriber in &mut subscribers {
        subscriber.subscribe("redlock:released").unwrap();
    }
    let mut call = redis::cmd("EVAL");
    call.arg(RELEASE).arg(5).arg("redlock:members");
    call.arg("lock:x").arg("version:x").arg("x").arg("queue:x");
    call.arg("old").arg("redlock:released").arg("slot").arg("").arg(500).arg(0).arg("");
    call.arg(7).arg(9).arg("41");
    let freed: i64 = call.query(&mut node.connection).unwrap();
    assert_eq!(freed, 0);
    node.assert_renewed();
    assert_eq!(node.server.get("x").unwrap().as_deref(), Some("41"));
    assert_eq!(node.server.get("version:x").unwrap().as_deref(), Some("7"));
    let notice: String = subscribers[0].get_message().unwrap().get_payload().unwrap();
    assert_eq!(notice.split_once(':').unwrap().1, "x\n7\n+\n0\n0\n0\n41");
}
