//! Nodes that answer reads and refuse writes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use common::{LEASE, client, observed_client, patient, policy, until};
use redlock::AcquireError;
use testkit::RedisServer;

/// Where the server would write its snapshot.
fn snapshot(node: &RedisServer) -> PathBuf {
    let answer = node.command("CONFIG GET dir").unwrap();
    PathBuf::from(answer.lines().last().unwrap()).join("dump.rdb")
}

fn snapshot_status(node: &RedisServer, status: &str) -> bool {
    let line = format!("rdb_last_bgsave_status:{status}");
    node.command("INFO persistence").unwrap().contains(&line)
}

/// Makes Redis fail to write its snapshot, as on a full disk.
async fn break_disk(node: &RedisServer) {
    fs::create_dir_all(snapshot(node).join("in the way")).unwrap();
    node.command("CONFIG SET save \"3600 1\"").unwrap();
    node.command("BGSAVE").unwrap();
    until("the snapshot failed", || snapshot_status(node, "err")).await;
}

async fn mend_disk(node: &RedisServer) {
    fs::remove_dir_all(snapshot(node)).unwrap();
    node.command("BGSAVE").unwrap();
    until("the snapshot is there", || snapshot_status(node, "ok")).await;
}

#[tokio::test]
async fn a_node_that_refuses_writes_does_not_vote_until_it_takes_them_again() {
    let nodes = RedisServer::start_many(5).unwrap();
    let (redlock, excluded) = observed_client(&nodes).await;
    let refusals = [
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
        ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
        ("break disk", "mend disk"),
    ];
    for (number, (refuse, take)) in refusals.into_iter().enumerate() {
        // Found by the monitor, without a vote.
        match refuse {
            "break disk" => break_disk(&nodes[0]).await,
            refuse => drop(nodes[0].command(refuse).unwrap()),
        }
        until(&format!("it is excluded after {refuse}"), || redlock.connected().0 == 4).await;
        assert_eq!(excluded.count(0, "RefusesWrites"), number + 1, "{refuse}");
        redlock.acquire("x", patient()).await.unwrap().release().await;
        match take {
            "mend disk" => mend_disk(&nodes[0]).await,
            take => drop(nodes[0].command(take).unwrap()),
        }
        until(&format!("it votes again after {take}"), || redlock.connected().0 == 5).await;
        // While it was blank, and never since.
        assert_eq!(excluded.count(0, "Restarted"), 1, "{refuse}: it has forgotten nothing");
    }
}

#[tokio::test]
async fn a_node_whose_disk_is_full_does_not_vote_until_there_is_room() {
    let mut nodes = RedisServer::start_many(4).unwrap();
    nodes.push(RedisServer::start_with_small_disk().unwrap());
    let (redlock, excluded) = observed_client(&nodes).await;
    nodes[4].fill_disk().unwrap();
    // The rest of its last page takes some votes.
    until_excluded(&redlock).await;
    let persistence = nodes[4].command("INFO persistence").unwrap();
    assert!(persistence.contains("aof_last_write_status:err"), "{persistence}");
    until("the observer has the reason", || excluded.count(4, "RefusesWrites") == 1).await;
    nodes[4].free_disk().unwrap();
    until("it votes again", || redlock.connected().0 == 5).await;
    redlock.acquire("x", patient()).await.unwrap().release().await;
    assert_eq!(excluded.count(4, "Restarted"), 1, "it has forgotten nothing");
}

async fn until_excluded(redlock: &redlock::Redlock) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while redlock.connected().0 == 5 {
        assert!(std::time::Instant::now() < deadline, "it is not excluded");
        redlock.acquire("x", patient()).await.unwrap().release().await;
    }
    redlock.acquire("x", patient()).await.unwrap().release().await;
}

#[tokio::test]
async fn a_node_that_is_busy_with_a_script_does_not_vote_until_that_is_over() {
    let nodes = RedisServer::start_many(5).unwrap();
    let (redlock, excluded) = observed_client(&nodes).await;
    nodes[0].command("CONFIG SET lua-time-limit 20").unwrap();
    // The script never ends, so nothing reads its reply.
    let mut script = TcpStream::connect(nodes[0].address()).unwrap();
    script.write_all(b"EVAL \"while true do end\" 0\r\n").unwrap();
    until("it is excluded", || redlock.connected().0 == 4).await;
    until("the observer has the reason", || excluded.count(0, "RefusesWrites") == 1).await;
    redlock.acquire("x", patient()).await.unwrap().release().await;
    nodes[0].command("SCRIPT KILL").unwrap();
    until("it votes again", || redlock.connected().0 == 5).await;
    assert_eq!(excluded.count(0, "Restarted"), 1, "it has forgotten nothing");
}

#[tokio::test]
async fn a_node_that_loads_its_data_does_not_vote_until_it_has_them() {
    let mut nodes = RedisServer::start_many(5).unwrap();
    let (redlock, excluded) = observed_client(&nodes).await;
    nodes[0].restart_loading().unwrap();
    until("it is excluded", || redlock.connected().0 == 4).await;
    redlock.acquire("x", patient()).await.unwrap().release().await;
    // A client that starts now uses the other nodes.
    let other = redlock::Redlock::start(&common::config(&nodes)).unwrap();
    until("the others vote", || other.connected().0 == 4).await;
    other.acquire("x", patient()).await.unwrap().release().await;
    let still = nodes[0].command("PING").unwrap_err().to_string();
    assert!(still.contains("LOADING") && redlock.connected().0 == 4, "{still}");
    nodes[0].command("CONFIG SET key-load-delay 0").unwrap();
    for client in [&redlock, &other] {
        until("it votes again", || client.connected().0 == 5).await;
    }
    assert_eq!(excluded.count(0, "Restarted"), 2, "it is excluded as after any restart");
}

#[tokio::test]
async fn without_a_majority_that_takes_writes_there_is_no_quorum_and_then_there_is() {
    let nodes = RedisServer::start_many(5).unwrap();
    let (redlock, other) = (client(&nodes).await, client(&nodes).await);
    let lease = redlock.acquire("x", patient()).await.unwrap();
    for node in &nodes[..3] {
        node.command("CONFIG SET maxmemory 1").unwrap();
    }
    // The lock is freed even where nothing else can be written.
    lease.release_everywhere(&[("x", "42".to_owned())]).await;
    let impatient = policy(Duration::from_millis(600), LEASE);
    for client in [&redlock, &other] {
        let error = client.acquire("x", impatient).await.unwrap_err();
        assert!(matches!(error, AcquireError::QuorumUnavailable { reachable: 2, .. }), "{error}");
        assert_eq!((client.connected(), client.has_quorum()), ((2, 5), false));
    }
    for node in &nodes {
        until("it is free", || node.get("lock:x").unwrap().is_none()).await;
        node.command("CONFIG SET maxmemory 0").unwrap();
    }
    for client in [&redlock, &other] {
        client.acquire("x", patient()).await.unwrap().release().await;
        until("all vote again", || client.connected().0 == 5).await;
    }
    for node in &nodes {
        until("it has the value", || node.get("x").unwrap().as_deref() == Some("42")).await;
    }
}

#[tokio::test]
async fn a_node_that_starts_without_room_votes_when_it_has_some() {
    let nodes = RedisServer::start_many(5).unwrap();
    nodes[0].command("CONFIG SET maxmemory 1").unwrap();
    let redlock = redlock::Redlock::start(&common::config(&nodes)).unwrap();
    until("the others vote", || redlock.connected().0 == 4).await;
    redlock.acquire("x", patient()).await.unwrap().release().await;
    nodes[0].command("CONFIG SET maxmemory 0").unwrap();
    until("it votes too", || redlock.connected().0 == 5).await;
}

#[tokio::test]
async fn a_node_that_was_made_the_replica_of_another_has_forgotten_its_own_votes() {
    let nodes = RedisServer::start_many(5).unwrap();
    let (redlock, excluded) = observed_client(&nodes).await;
    // In a mixed set the first one is the oldest, and the later ones read its format.
    nodes[0].command("CONFIG SET repl-diskless-sync-delay 0").unwrap();
    let copied = nodes[0].get("redlock:admitted").unwrap();
    let port = nodes[0].address().rsplit_once(':').unwrap().1.to_owned();
    nodes[1].command(&format!("REPLICAOF 127.0.0.1 {port}")).unwrap();
    until("it has the other's data", || {
        nodes[1].get("redlock:admitted").is_ok_and(|admitted| admitted == copied)
    })
    .await;
    nodes[1].command("REPLICAOF NO ONE").unwrap();
    until("it is excluded", || excluded.count(1, "Restarted") == 2).await;
    until("it votes again", || redlock.connected().0 == 5).await;
    redlock.acquire("x", patient()).await.unwrap().release().await;
}
