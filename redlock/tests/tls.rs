//! Locks over nodes that speak TLS.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{config, connected, patient, until};
use redlock::{Config, Endpoint, NodeConfig, Redlock};
use testkit::{Authority, RedisServer, TlsFolder, free_port};

/// Nodes that accept TLS too, and their addresses for it.
struct Nodes {
    servers: Vec<RedisServer>,
    addresses: Vec<NodeConfig>,
}

impl Nodes {
    fn start(count: usize, files: &TlsFolder) -> Self {
        let servers = RedisServer::start_many(count).unwrap();
        let address = |server: &RedisServer| {
            let port = free_port().unwrap();
            server.use_tls(files, port).unwrap();
            NodeConfig { address: format!("localhost:{port}"), password: None }
        };
        Self { addresses: servers.iter().map(address).collect(), servers }
    }

    fn config(&self, nodes: &[NodeConfig], files: &TlsFolder) -> Config {
        let ca_file = Some(files.path("ca.crt"));
        Config { nodes: nodes.to_vec(), ca_file, ..config(&self.servers) }
    }
}

#[tokio::test]
async fn locks_are_taken_over_tls_and_nodes_that_join_speak_it_too() {
    let authority = Authority::new().unwrap();
    let certificate = authority.issue("localhost", 10).unwrap();
    let files = TlsFolder::new(&certificate, authority.certificate()).unwrap();
    let nodes = Nodes::start(4, &files);
    let redlock = connected(&nodes.config(&nodes.addresses[..3], &files)).await;
    let first = redlock.acquire("x", patient()).await.unwrap();
    let token = first.token();
    first.release().await;
    redlock.change_members(&nodes.addresses[1..]).await.unwrap();
    until("the new node is connected", || redlock.connected() == (3, 3)).await;
    let second = redlock.acquire("x", patient()).await.unwrap();
    assert!(second.token() > token);
    assert!(nodes.servers[3].get("lock:x").unwrap().is_some());
}

#[tokio::test]
async fn a_node_whose_certificate_is_not_valid_has_no_vote_and_the_error_says_why() {
    let authority = Authority::new().unwrap();
    let other = Authority::new().unwrap();
    for (certificate, trusted, reason) in [
        (authority.issue("localhost", 10), &other, "UnknownIssuer"),
        (authority.issue("redis.example", 10), &authority, "not valid for name"),
        (authority.issue("localhost", -1), &authority, "expired"),
    ] {
        let files = TlsFolder::new(&certificate.unwrap(), trusted.certificate()).unwrap();
        let nodes = Nodes::start(1, &files);
        let node = &nodes.addresses[0];
        let endpoint = Endpoint::new(node, Some(&files.path("ca.crt"))).unwrap();
        let client = endpoint.client().await.unwrap();
        let error = client.get_multiplexed_async_connection().await.unwrap_err().to_string();
        assert!(error.contains("invalid peer certificate") && error.contains(reason), "{error}");

        let redlock = Redlock::start(&nodes.config(&nodes.addresses, &files)).unwrap();
        let wait =
            redlock::Policy { wait_timeout: std::time::Duration::from_millis(300), ..patient() };
        assert!(redlock.acquire("x", wait).await.is_err(), "{reason}");
        assert_eq!(redlock.connected(), (0, 1));

        // The same node, once its certificate is valid.
        let valid = authority.issue("localhost", 10).unwrap();
        files.replace(&valid, authority.certificate()).unwrap();
        let port = node.address.rsplit_once(':').unwrap().1.parse().unwrap();
        nodes.servers[0].use_tls(&files, port).unwrap();
        redlock.acquire("x", patient()).await.unwrap().release().await;
    }
}
