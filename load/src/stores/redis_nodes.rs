//! Reads the stock value of each Redis node.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
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
    nodes: Vec<(String, ConnectionInfo)>,
    ca_file: Option<PathBuf>,
    clients: Mutex<Clients>,
}

/// A client for each node, and the authorities that they trust.
struct Clients {
    authorities: Option<Vec<u8>>,
    clients: Vec<Client>,
}

impl RedisNodes {
    /// Connects with the first request; with a file of authorities over TLS.
    pub fn new(
        addresses: &[String],
        password: Option<&str>,
        ca_file: Option<&Path>,
    ) -> RedisResult<Self> {
        let scheme = if ca_file.is_some() { "rediss" } else { "redis" };
        let node = |address: &String| {
            let info: ConnectionInfo = format!("{scheme}://{address}").into_connection_info()?;
            let mut settings = info.redis_settings().clone();
            if let Some(password) = password {
                settings = settings.set_password(password);
            }
            let tcp = TcpSettings::default().set_nodelay(true);
            Ok((address.clone(), info.set_redis_settings(settings).set_tcp_settings(tcp)))
        };
        let nodes = addresses.iter().map(node).collect::<RedisResult<Vec<_>>>()?;
        let authorities = ca_file.map(std::fs::read).transpose()?;
        let clients = Mutex::new(Clients::new(&nodes, authorities)?);
        Ok(Self { nodes, ca_file: ca_file.map(Path::to_owned), clients })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Each node's address and client. The authorities are read again, because a run may outlast a renewal of them.
    fn clients(&self) -> Vec<(&str, Client)> {
        let now = self.ca_file.as_ref().and_then(|file| std::fs::read(file).ok());
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        // A file that is gone or damaged at this moment may be whole at the next one.
        if now.is_some()
            && now != clients.authorities
            && let Ok(renewed) = Clients::new(&self.nodes, now)
        {
            *clients = renewed;
        }
        let addresses = self.nodes.iter().map(|(address, _)| address.as_str());
        addresses.zip(clients.clients.iter().cloned()).collect()
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
        join_all(self.clients().into_iter().map(async |(node, client)| {
            (node.to_owned(), get(&client, key).await.map_err(|error| error.to_string()))
        }))
        .await
    }

    /// The id of each node's process; absent where it cannot be read. It changes with each restart.
    pub async fn run_ids(&self) -> Vec<(String, Option<String>)> {
        join_all(self.clients().into_iter().map(async |(node, client)| {
            let info = async {
                let mut connection = connect(&client).await?;
                redis::cmd("INFO").arg("server").query_async::<String>(&mut connection).await
            };
            let info = info.await.unwrap_or_default();
            let id = info.lines().find_map(|line| line.strip_prefix("run_id:"));
            (node.to_owned(), id.map(|id| id.trim().to_owned()))
        }))
        .await
    }

    /// A connection to each node.
    pub async fn connect(&self) -> RedisResult<Vec<MultiplexedConnection>> {
        let clients = self.clients().into_iter();
        futures::future::try_join_all(clients.map(async |(_, client)| connect(&client).await)).await
    }
}

impl Clients {
    fn new(nodes: &[(String, ConnectionInfo)], authorities: Option<Vec<u8>>) -> RedisResult<Self> {
        let client = |(_, info): &(String, ConnectionInfo)| match &authorities {
            Some(authorities) => {
                let root_cert = Some(authorities.clone());
                let certificates = TlsCertificates { client_tls: None, root_cert };
                Client::build_with_tls(info.clone(), certificates)
            }
            None => Client::open(info.clone()),
        };
        let clients = nodes.iter().map(client).collect::<RedisResult<_>>()?;
        Ok(Self { authorities, clients })
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

#[cfg(test)]
mod tests {
    use testkit::{Authority, RedisServer, TlsFolder};

    use super::*;

    #[tokio::test]
    async fn authorities_are_read_again_when_they_change() {
        let (before, after) = (Authority::new().unwrap(), Authority::new().unwrap());
        let certificate = before.issue("localhost", 10).unwrap();
        let files = TlsFolder::new(&certificate, before.certificate()).unwrap();
        let (server, port) = (RedisServer::start().unwrap(), testkit::free_port().unwrap());
        server.command("SET stock:1 7").unwrap();
        server.use_tls(&files, port).unwrap();
        let ca_file = files.path("ca.crt");
        let nodes = RedisNodes::new(&[format!("localhost:{port}")], None, Some(&ca_file)).unwrap();
        let stock = async || nodes.stock("1").await.remove(0).stock;
        assert_eq!(stock().await, Ok(7));

        let certificate = after.issue("localhost", 10).unwrap();
        files.replace(&certificate, "not whole yet").unwrap();
        server.use_tls(&files, port).unwrap();
        let error = stock().await.unwrap_err();
        assert!(error.contains("UnknownIssuer"), "the earlier authorities stay: {error}");
        files.replace(&certificate, after.certificate()).unwrap();
        assert_eq!(stock().await, Ok(7));
    }
}
