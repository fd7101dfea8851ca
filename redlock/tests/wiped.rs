//! Nodes that lose their data while they run.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{client, patient, until};
use testkit::RedisServer;

#[tokio::test]
async fn a_node_that_was_wiped_gets_its_values_at_once_and_votes_when_it_has_learned() {
    let nodes = RedisServer::start_many(5).unwrap();
    let redlock = client(&nodes).await;
    let lease = redlock.acquire("stock:1", patient()).await.unwrap();
    let token = lease.token();
    lease.release_everywhere(&[("stock:1", "42".to_owned())]).await;

    nodes[0].command("FLUSHALL").unwrap();
    until("it is excluded", || redlock.connected().0 == 4).await;
    until("it has its value again", || nodes[0].get("stock:1").unwrap().as_deref() == Some("42"))
        .await;
    until("it votes again", || redlock.connected().0 == 5).await;
    let fence = nodes[0].get("fence:stock:1").unwrap().unwrap();
    assert!(fence.parse::<u64>().unwrap() >= token, "{fence}");
}

#[tokio::test]
async fn when_all_nodes_are_wiped_new_tokens_exceed_all_earlier_ones() {
    let nodes = RedisServer::start_many(5).unwrap();
    let redlock = client(&nodes).await;
    let lease = redlock.acquire("stock:1", patient()).await.unwrap();
    let token = lease.token();
    lease.release_everywhere(&[("stock:1", "42".to_owned())]).await;

    for node in &nodes {
        node.command("FLUSHALL").unwrap();
    }
    until("all have their value again", || {
        nodes.iter().all(|node| node.get("stock:1").unwrap().as_deref() == Some("42"))
    })
    .await;
    assert!(redlock.has_quorum(), "a majority was never excluded");
    let lease = redlock.acquire("stock:1", patient()).await.unwrap();
    assert!(lease.token() > token);
    lease.release().await;
    until("all vote again", || redlock.connected().0 == 5).await;
}
