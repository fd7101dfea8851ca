//! Parses the configured addresses of nodes.

use redis::{ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisResult};

use crate::config::NodeConfig;
use crate::error::AcquireError;

/// The names of these nodes in the membership.
pub(crate) fn addresses(nodes: &[NodeConfig]) -> Result<Vec<String>, AcquireError> {
    let infos = connection_infos(nodes)?;
    Ok(infos.iter().map(|info| info.addr().to_string()).collect())
}

/// How to connect to these nodes. Fails for an empty list and for a node that is named twice.
pub(super) fn connection_infos(nodes: &[NodeConfig]) -> Result<Vec<ConnectionInfo>, AcquireError> {
    if nodes.is_empty() {
        return Err(AcquireError::NoNodes);
    }
    let info = |(index, node)| {
        connection_info(node)
            .map_err(|error| AcquireError::BadNode { index, reason: error.to_string() })
    };
    let infos: Vec<ConnectionInfo> =
        nodes.iter().enumerate().map(info).collect::<Result<_, _>>()?;
    for (index, info) in infos.iter().enumerate() {
        let address = info.addr().to_string();
        if let Some(first) = infos[..index].iter().position(|one| one.addr() == info.addr()) {
            // The node would have two votes.
            let reason = format!("{address} is lock node {first} already");
            return Err(AcquireError::BadNode { index, reason });
        }
    }
    Ok(infos)
}

fn connection_info(config: &NodeConfig) -> RedisResult<ConnectionInfo> {
    let url = if config.address.contains("://") {
        config.address.clone()
    } else {
        format!("redis://{}", config.address)
    };
    let info = url.into_connection_info()?;
    // RESP3 carries the notices over the same connection as the commands.
    let mut settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    if let Some(password) = &config.password {
        settings = settings.set_password(password);
    }
    Ok(info.set_redis_settings(settings))
}
