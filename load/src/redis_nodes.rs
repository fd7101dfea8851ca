//! Reads the stock value of each Redis node.

use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo, RedisResult, TlsCertificates,
};

use crate::observed::NodeStock;

const TIMEOUT: Duration = Duration::from_secs(2);

/// The sale's Redis nodes.
pub struct RedisNodes {
    nodes: Vec<(String, Client)>,
}

impl RedisNodes {
    /// Connects with the first request; with a file of authorities over TLS.
    pub fn new(
        addresses: &[String],
        password: Option<&str>,
        ca_file: Option<&Path>,
    ) -> RedisResult<Self> {
        let root_cert = ca_file.map(std::fs::read).transpose()?;
        let scheme = if ca_file.is_some() { "rediss" } else { "redis" };
        let client = |address: &String| {
            let info: ConnectionInfo = format!("{scheme}://{address}").into_connection_info()?;
            let mut settings = info.redis_settings().clone();
            if let Some(password) = password {
                settings = settings.set_password(password);
            }
            let tcp = TcpSettings::default().set_nodelay(true);
            let info = info.set_redis_settings(settings).set_tcp_settings(tcp);
            let client = match &root_cert {
                Some(root_cert) => {
                    let root_cert = Some(root_cert.clone());
                    Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })
                }
                None => Client::open(info),
            };
            Ok((address.clone(), client?))
        };
        Ok(Self { nodes: addresses.iter().map(client).collect::<RedisResult<_>>()? })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// `GET stock:<product>` on every node at once.
    pub async fn stock(&self, product: &str) -> Vec<NodeStock> {
        let value = |(node, value): (String, Result<Option<i64>, String>)| {
            let missing = || format!("has no key stock:{product}");
            NodeStock { node, stock: value.and_then(|stock| stock.ok_or_else(missing)) }
        };
        self.values(product).await.into_iter().map(value).collect()
    }

    /// The same; a missing key is no error.
    pub async fn values(&self, product: &str) -> Vec<(String, Result<Option<i64>, String>)> {
        let key = format!("stock:{product}");
        let key = key.as_str();
        join_all(self.nodes.iter().map(async |(node, client)| {
            (node.clone(), get(client, key).await.map_err(|error| error.to_string()))
        }))
        .await
    }

    /// The id of each node's process; absent where it cannot be read. It changes with each restart.
    pub async fn run_ids(&self) -> Vec<(String, Option<String>)> {
        join_all(self.nodes.iter().map(async |(node, client)| {
            let info = async {
                let mut connection = connect(client).await?;
                redis::cmd("INFO").arg("server").query_async::<String>(&mut connection).await
            };
            let info = info.await.unwrap_or_default();
            let id = info.lines().find_map(|line| line.strip_prefix("run_id:"));
            (node.clone(), id.map(|id| id.trim().to_owned()))
        }))
        .await
    }

    /// A connection to each node.
    pub async fn connect(&self) -> RedisResult<Vec<MultiplexedConnection>> {
        futures::future::try_join_all(self.nodes.iter().map(|(_, client)| connect(client))).await
    }
}

async fn connect(client: &Client) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(TIMEOUT))
        .set_response_timeout(Some(TIMEOUT));
    client.get_multiplexed_async_connection_with_config(&config).await
}

async fn get(client: &Client, key: &str) -> RedisResult<Option<i64>> {
    let mut connection = connect(client).await?;
    redis::cmd("GET").arg(key).query_async(&mut connection).await
}
