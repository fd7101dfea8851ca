//! Keys of a node that hold something else than the lock writes there.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::time::Instant;

use common::{LEASE, client, observed_client, patient, until};
use redlock::{Order, Policy, Redlock};
use testkit::RedisServer;

/// Doubles are exact up to here, and not one above.
const TOO_LARGE: &str = "9007199254740992";

fn in_order(order: Order) -> Policy {
    Policy { order, ..patient() }
}

/// Acquires and releases; the token.
async fn hold(redlock: &Redlock, resource: &str, order: Order) -> u64 {
    let lease = redlock.acquire(resource, in_order(order)).await;
    assert!(lease.is_ok(), "{resource} {order:?}: {lease:?}");
    let lease = lease.unwrap();
    let token = lease.token();
    lease.release_everywhere(&[(resource, "42".to_owned())]).await;
    token
}

#[tokio::test]
async fn a_lock_that_never_expires_is_over_after_the_longest_lease() {
    for count in [1, 5] {
        let nodes = RedisServer::start_many(count).unwrap();
        let redlock = client(&nodes).await;
        for resource in ["one", "fair", "a", "b"] {
            for node in &nodes[..count.div_ceil(2)] {
                node.command(&format!("SET lock:{resource} x")).unwrap();
            }
        }
        let started = Instant::now();
        let one = hold(&redlock, "one", Order::Unordered);
        let fair = hold(&redlock, "fair", Order::Fair);
        let several = async {
            redlock.acquire_all(&["a", "b"], patient()).await.unwrap().release().await;
        };
        tokio::join!(one, fair, several);
        assert!(started.elapsed() < 3 * LEASE, "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a_lease_whose_expiry_was_removed_is_not_taken_before_the_longest_lease() {
    let nodes = RedisServer::start_many(5).unwrap();
    let (holder, waiter) = (client(&nodes).await, client(&nodes).await);
    let lease = holder.acquire("x", patient()).await.unwrap();
    for node in &nodes {
        until("it is granted", || node.get("lock:x").unwrap().is_some()).await;
        node.command("PERSIST lock:x").unwrap();
    }
    let (lease_token, started) = (lease.token(), Instant::now());
    std::mem::forget(lease);
    let next = waiter.acquire("x", patient()).await.unwrap();
    assert!(next.token() > lease_token);
    assert!(started.elapsed() >= LEASE.mul_f64(0.9), "{:?}", started.elapsed());
}

/// What is done to a node's keys, of the resource that is named so.
const DAMAGES: &[(&str, &str)] = &[
    ("fence-text", "SET fence:fence-text x"),
    ("fence-list", "LPUSH fence:fence-list x"),
    ("fence-negative", "SET fence:fence-negative -5"),
    ("fence-nan", "SET fence:fence-nan nan"),
    ("fence-inf", "SET fence:fence-inf inf"),
    ("fence-large", "SET fence:fence-large 9007199254740993"),
    ("ticket-text", "SET ticket:ticket-text x"),
    ("ticket-list", "LPUSH ticket:ticket-list x"),
    ("ticket-inf", "SET ticket:ticket-inf inf"),
    ("ticket-large", "SET ticket:ticket-large 9007199254740992"),
    ("queue", "SET queue:queue x"),
    ("limits", "SET queue-limits:limits x"),
    ("requests", "SET queue-requests:requests x"),
    ("request", "HSET queue-requests:request line x"),
    ("version-text", "SET version:version-text x"),
    ("version-list", "LPUSH version:version-list x"),
    ("version-large", "SET version:version-large 9007199254740993"),
    ("value", "LPUSH value x"),
    ("lock-list", "LPUSH lock:lock-list x"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_is_sold_again_whatever_its_keys_hold_on_a_majority_of_the_nodes() {
    let nodes = RedisServer::start_many(5).unwrap();
    let (redlock, other) = (client(&nodes).await, client(&nodes).await);
    for (resource, _) in DAMAGES {
        hold(&redlock, resource, Order::Fair).await;
    }
    for (resource, damage) in DAMAGES {
        for node in &nodes[..3] {
            let kind = damage.split(' ').nth(1).unwrap();
            node.command(&format!("DEL {kind}")).unwrap();
            node.command(damage).unwrap();
            if *resource == "request" {
                node.command("ZADD queue:request 1 line").unwrap();
            }
        }
    }
    let both = DAMAGES.iter().map(async |(resource, _)| {
        // Another waits meanwhile, so that the queues are used.
        let held = redlock.acquire(resource, in_order(Order::Fair)).await.unwrap();
        let next = hold(&other, resource, Order::Fair);
        let release = async {
            until("it waits", || {
                let waits = |node: &RedisServer| {
                    let queue = node.command(&format!("EXISTS queue:{resource}"));
                    queue.unwrap().starts_with(":1")
                };
                nodes[3..].iter().any(waits)
            })
            .await;
            held.release_everywhere(&[(resource, "42".to_owned())]).await;
        };
        tokio::join!(next, release);
        hold(&other, resource, Order::Unordered).await;
    });
    futures::future::join_all(both).await;
    until("all vote again", || redlock.connected().0 == 5 && other.connected().0 == 5).await;
    for (resource, _) in DAMAGES {
        hold(&redlock, resource, Order::Fair).await;
        hold(&other, resource, Order::Unordered).await;
        for node in &nodes {
            let good = || node.get(resource).unwrap().as_deref() == Some("42");
            until(&format!("{resource} has its value on {}", node.address()), good).await;
        }
    }
    assert_eq!((redlock.connected().0, other.connected().0), (5, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_own_keys_are_damaged_is_left_out_repaired_and_votes_again() {
    let damages = [
        "SET redlock:members x",
        "HSET redlock:members epoch x",
        "HSET redlock:members epoch 1e300",
        "HSET redlock:members epoch 9 nodes nowhere",
        "LPUSH redlock:floor x",
        "SET redlock:floor 9007199254740992",
        "LPUSH redlock:admitted x",
        "SET redlock:admitted x",
    ];
    for damage in damages {
        for damaged in [1, 5] {
            let nodes = RedisServer::start_many(5).unwrap();
            let (redlock, excluded) = observed_client(&nodes).await;
            let before = hold(&redlock, "x", Order::Unordered).await;
            for node in &nodes[..damaged] {
                node.command(&format!("DEL {}", damage.split(' ').nth(1).unwrap())).unwrap();
                node.command(damage).unwrap();
            }
            until(&format!("one is left out after {damage}"), || {
                let times =
                    |node| excluded.count(node, "Damaged") + excluded.count(node, "Restarted");
                // All were once before, when they were blank.
                (0..5).map(times).sum::<usize>() > 5
            })
            .await;
            assert!(hold(&redlock, "x", Order::Unordered).await > before, "{damage}");
            until(&format!("all vote again after {damage}"), || redlock.connected() == (5, 5))
                .await;
            // One that starts now finds nothing wrong.
            let token = hold(&client(&nodes).await, "x", Order::Fair).await;
            assert!(token > before, "{damage}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_that_cannot_be_compared_exactly_is_no_vote_and_is_not_spread() {
    let mut nodes = RedisServer::start_many(5).unwrap();
    let (redlock, excluded) = observed_client(&nodes).await;
    let other = client(&nodes).await;
    hold(&redlock, "x", Order::Unordered).await;
    let counters = ["fence:x", "ticket:x", "fence:y"];
    for counter in counters {
        nodes[0].command(&format!("SET {counter} {TOO_LARGE}")).unwrap();
    }
    for round in 0..10 {
        for client in [&redlock, &other] {
            assert!(hold(client, "x", Order::Unordered).await < 1 << 40, "round {round}");
            assert!(hold(client, "x", Order::Fair).await < 1 << 40, "round {round}");
        }
    }
    until("it is left out", || excluded.count(0, "Damaged") > 0).await;
    // It learns from all others, of which one knows what nobody has used yet.
    nodes[1].restart_empty().unwrap();
    until("all vote again", || redlock.connected().0 == 5 && other.connected().0 == 5).await;
    for ledger in [&redlock, &other] {
        ledger.saw_token("x", 1 << 53);
        assert!(hold(ledger, "x", Order::Fair).await < 1 << 40);
    }
    for node in &nodes {
        for counter in counters {
            let value = node.get(counter).unwrap().map_or(0, |value| value.parse().unwrap());
            assert!(value < 1u64 << 40, "{counter} {value} on {}", node.address());
        }
    }
}
