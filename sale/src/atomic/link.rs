//! Connections to the Redis node that decides.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, RedisError, RedisResult};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A client for the first node of the configuration.
pub(crate) fn client(config: &redlock::Config) -> Result<Client, RedisError> {
    let Some(node) = config.nodes.first() else {
        return Err((redis::ErrorKind::InvalidClientConfig, "no Redis node is configured").into());
    };
    let url = if node.address.contains("://") {
        node.address.clone()
    } else {
        format!("redis://{}", node.address)
    };
    let info = url.into_connection_info()?;
    let mut settings = info.redis_settings().clone();
    if let Some(password) = &node.password {
        settings = settings.set_password(password);
    }
    Client::open(info.set_redis_settings(settings))
}

/// A connection whose calls fail after this time without a response.
pub(crate) async fn connect(
    client: &Client,
    response: Duration,
) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(response));
    client.get_multiplexed_async_connection_with_config(&config).await
}
