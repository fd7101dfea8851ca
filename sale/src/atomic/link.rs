//! Connections to the Redis node that decides.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisError, RedisResult};
use redlock::Endpoint;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The first node of the configuration.
pub(crate) fn endpoint(config: &redlock::Config) -> Result<Endpoint, RedisError> {
    let Some(node) = config.nodes.first() else {
        return Err((redis::ErrorKind::InvalidClientConfig, "no Redis node is configured").into());
    };
    Endpoint::new(node, config.ca_file.as_deref())
}

/// A connection whose calls fail after this time without a response.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    response: Duration,
) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(response));
    endpoint.client().await?.get_multiplexed_async_connection_with_config(&config).await
}
