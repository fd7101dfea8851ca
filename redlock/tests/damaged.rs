//! Keys of a node with a content that the lock does not write.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::time::Instant;

use common::{LEASE, client, observed_client, patient, until};
use redlock::{Policy, QueueDiscipline, Redlock};
use testkit::RedisServer;

/// The last number up to which doubles are exact.
const TOO_LARGE: &str = "9007199254740992";

fn policy_with(discipline: QueueDiscipline) -> Policy {
    Policy { discipline, ..patient() }
}

/// Acquires and releases. Returns the token.
async fn hold(redlock: &Redlock, resource: &str, discipline: QueueDiscipline) -> u64 {
    let lease = redlock.acquire(resource, policy_with(discipline)).await;
    assert!(lease.is_ok(), "{resource} {discipline:?}: {lease:?}");
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
        let one = hold(&redlock, "one", QueueDiscipline::Unordered);
        let fair = hold(&redlock, "fair", QueueDiscipline::Fair);
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

/// Resources, and the command that damages a key of each.
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
async fn a_resource_is_usable_again_after_any_damage_on_a_majority_of_the_nodes() {
    let nodes = RedisServer::start_many(5).unwrap();
    let (redlock, other) = (client(&nodes).await, client(&nodes).await);
    for (resource, _) in DAMAGES {
        hold(&redlock, resource, QueueDiscipline::Fair).await;
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
        // Another client waits, so that the queues are used.
        let held = redlock.acquire(resource, policy_with(QueueDiscipline::Fair)).await.unwrap();
        let next = hold(&other, resource, QueueDiscipline::Fair);
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
        hold(&other, resource, QueueDiscipline::Unordered).await;
    });
    futures::future::join_all(both).await;
    until("all vote again", || redlock.connected().0 == 5 && other.connected().0 == 5).await;
    for (resource, _) in DAMAGES {
        hold(&redlock, resource, QueueDiscipline::Fair).await;
        hold(&other, resource, QueueDiscipline::Unordered).await;
        for node in &nodes {
            let good = || node.get(resource).unwrap().as_deref() == Some("42");
            until(&format!("{resource} has its value on {}", node.address()), good).await;
        }
    }
    until("all vote", || redlock.connected().0 == 5 && other.connected().0 == 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_own_keys_are_damaged_is_excluded_repaired_and_votes_again() {
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
            let before = hold(&redlock, "x", QueueDiscipline::Unordered).await;
            for node in &nodes[..damaged] {
                node.command(&format!("DEL {}", damage.split(' ').nth(1).unwrap())).unwrap();
                node.command(damage).unwrap();
            }
            until(&format!("one is excluded after {damage}"), || {
                let times =
                    |node| excluded.count(node, "Damaged") + excluded.count(node, "Restarted");
                // Each node was excluded once before, while it was blank.
                (0..5).map(times).sum::<usize>() > 5
            })
            .await;
            assert!(hold(&redlock, "x", QueueDiscipline::Unordered).await > before, "{damage}");
            until(&format!("all vote again after {damage}"), || redlock.connected() == (5, 5))
                .await;
            // A new client finds nothing wrong.
            let token = hold(&client(&nodes).await, "x", QueueDiscipline::Fair).await;
            assert!(token > before, "{damage}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_that_cannot_be_compared_exactly_is_no_vote_and_is_not_spread() {
    let mut nodes = RedisServer::start_many(5).unwrap();
    let (redlock, excluded) = observed_client(&nodes).await;
    let other = client(&nodes).await;
    hold(&redlock, "x", QueueDiscipline::Unordered).await;
    let counters = ["fence:x", "ticket:x", "fence:y"];
    for counter in counters {
        nodes[0].command(&format!("SET {counter} {TOO_LARGE}")).unwrap();
    }
    for round in 0..10 {
        for client in [&redlock, &other] {
            assert!(hold(client, "x", QueueDiscipline::Unordered).await < 1 << 40, "round {round}");
            assert!(hold(client, "x", QueueDiscipline::Fair).await < 1 << 40, "round {round}");
        }
    }
    until("it is excluded", || excluded.count(0, "Damaged") > 0).await;
    // The restarted node learns from all others. One of them has a counter that no client has used.
    nodes[1].restart_empty().unwrap();
    until("all vote again", || redlock.connected().0 == 5 && other.connected().0 == 5).await;
    for ledger in [&redlock, &other] {
        ledger.observe_token("x", 1 << 53);
        assert!(hold(ledger, "x", QueueDiscipline::Fair).await < 1 << 40);
    }
    for node in &nodes {
        for counter in counters {
            let value = node.get(counter).unwrap().map_or(0, |value| value.parse().unwrap());
            assert!(value < 1u64 << 40, "{counter} {value} on {}", node.address());
        }
    }
}
