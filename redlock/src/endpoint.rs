//! How to connect to a node: its address, the log-in, and TLS.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use redis::io::tcp::TcpSettings;
use redis::{
    Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, ProtocolVersion,
    RedisError, RedisResult, TlsCertificates,
};

use crate::config::NodeConfig;

/// How to connect to a node.
///
/// ```
/// use redlock::{Endpoint, NodeConfig};
///
/// let node = NodeConfig { address: "127.0.0.1:6379".to_owned(), password: None };
/// let endpoint = Endpoint::new(&node, None)?;
/// assert_eq!(endpoint.address(), "127.0.0.1:6379");
/// # Ok::<(), redis::RedisError>(())
/// ```
#[derive(Clone)]
pub struct Endpoint {
    info: ConnectionInfo,
    /// Certificates of the authorities that the node's certificate is verified with.
    ca_file: Option<Arc<Path>>,
}

impl Endpoint {
    /// The endpoint of a node. With `ca_file`, connections use TLS, and the node's certificate must be valid for the
    /// address and issued by an authority of that file. A `rediss://` address without `ca_file` trusts the public
    /// authorities.
    ///
    /// # Errors
    /// When the address cannot be used, or asks for plain text although `ca_file` is given.
    pub fn new(node: &NodeConfig, ca_file: Option<&Path>) -> RedisResult<Self> {
        let url = match (node.address.contains("://"), ca_file) {
            (true, _) => node.address.clone(),
            (false, None) => format!("redis://{}", node.address),
            (false, Some(_)) => format!("rediss://{}", node.address),
        };
        let info = url.into_connection_info()?;
        if ca_file.is_some() && !uses_tls(&info) {
            let remedy = "a redis:// address is plain text, but a CA file is given: write host:port or rediss://";
            return Err((ErrorKind::InvalidClientConfig, remedy).into());
        }
        let mut settings = info.redis_settings().clone();
        if let Some(password) = &node.password {
            settings = settings.set_password(password);
        }
        let info = info.set_redis_settings(settings).set_tcp_settings(tcp_settings());
        Ok(Self { info, ca_file: ca_file.map(Arc::from) })
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        self.info.addr().to_string()
    }

    /// A client for the next connection. It verifies with the file's present content, so a renewed authority is trusted
    /// without a restart.
    ///
    /// # Errors
    /// When the file cannot be read or has no certificate.
    pub async fn client(&self) -> RedisResult<Client> {
        let Some(file) = &self.ca_file else { return Client::open(self.info.clone()) };
        let unusable = |problem: String| {
            let detail = format!("{}: {problem}", file.display());
            RedisError::from((ErrorKind::InvalidClientConfig, "unusable CA file", detail))
        };
        let root_cert = tokio::fs::read(file).await.map_err(|error| unusable(error.to_string()))?;
        let mark = b"-----BEGIN CERTIFICATE-----";
        if !root_cert.windows(mark.len()).any(|part| part == mark) {
            return Err(unusable("has no certificate in PEM".to_owned()));
        }
        let certificates = TlsCertificates { client_tls: None, root_cert: Some(root_cert) };
        Client::build_with_tls(self.info.clone(), certificates)
    }

    /// Whether both are the same address.
    pub(crate) fn is_same_node(&self, other: &Self) -> bool {
        self.info.addr() == other.info.addr()
    }

    /// With RESP3, which carries the notices over the same connection as the commands.
    pub(crate) fn with_notices(self) -> Self {
        let settings = self.info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        Self { info: self.info.set_redis_settings(settings), ..self }
    }

    /// Another node with the same log-in and TLS.
    pub(crate) fn beside(&self, address: &str) -> RedisResult<Self> {
        let scheme = if uses_tls(&self.info) { "rediss" } else { "redis" };
        let info = format!("{scheme}://{address}").into_connection_info()?;
        let info = info
            .set_redis_settings(self.info.redis_settings().clone())
            .set_tcp_settings(tcp_settings());
        Ok(Self { info, ca_file: self.ca_file.clone() })
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the log-in.
        f.debug_struct("Endpoint").field("address", &self.address()).finish_non_exhaustive()
    }
}

/// A release and the next vote are two small messages in a row. With Nagle's algorithm the second one waits until the
/// node has acknowledged the first: a round trip, or 40 ms.
fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

fn uses_tls(info: &ConnectionInfo) -> bool {
    matches!(info.addr(), ConnectionAddr::TcpTls { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: &str, ca_file: Option<&str>) -> RedisResult<Endpoint> {
        let password = Some("hunter2".to_owned());
        let node = NodeConfig { address: address.to_owned(), password };
        Endpoint::new(&node, ca_file.map(Path::new))
    }

    #[test]
    fn a_ca_file_means_tls_for_this_node_and_for_those_that_join_later() {
        for (address, ca_file, tls) in [
            ("a:6379", None, false),
            ("a:6379", Some("ca.crt"), true),
            ("rediss://a:6379", Some("ca.crt"), true),
            ("rediss://a:6379", None, true),
            ("redis://a:6379", None, false),
        ] {
            let endpoint = endpoint(address, ca_file).unwrap();
            let other = endpoint.beside("b:6379").unwrap();
            assert_eq!((uses_tls(&endpoint.info), uses_tls(&other.info)), (tls, tls), "{address}");
            assert_eq!((&*endpoint.address(), &*other.address()), ("a:6379", "b:6379"));
            assert_eq!(other.ca_file, endpoint.ca_file);
            assert!(!format!("{endpoint:?}").contains("hunter2"));
            let (info, others) = (endpoint.with_notices().info, other.info);
            assert!(info.tcp_settings().nodelay() && others.tcp_settings().nodelay());
        }
        let error = endpoint("redis://a:6379", Some("ca.crt")).unwrap_err().to_string();
        assert!(error.contains("plain text"), "{error}");
    }

    #[tokio::test]
    async fn a_ca_file_that_cannot_be_used_is_named() {
        let missing = endpoint("a:6379", Some("/nowhere/ca.crt")).unwrap().client().await;
        let missing = missing.err().unwrap().to_string();
        assert!(
            missing.contains("/nowhere/ca.crt") && missing.contains("No such file"),
            "{missing}"
        );
        let empty = endpoint("a:6379", Some("/dev/null")).unwrap().client().await;
        let empty = empty.err().unwrap().to_string();
        assert!(empty.contains("/dev/null: has no certificate in PEM"), "{empty}");
    }
}
