//! Parses the configured addresses of nodes.

use std::path::Path;

use crate::config::NodeConfig;
use crate::endpoint::Endpoint;
use crate::error::AcquireError;

/// The names of these nodes in the membership.
pub(crate) fn addresses(nodes: &[NodeConfig]) -> Result<Vec<String>, AcquireError> {
    Ok(endpoints(nodes, None)?.iter().map(Endpoint::address).collect())
}

/// How to connect to these nodes. Fails for an empty list and for a node that is named twice.
pub(super) fn endpoints(
    nodes: &[NodeConfig],
    ca_file: Option<&Path>,
) -> Result<Vec<Endpoint>, AcquireError> {
    if nodes.is_empty() {
        return Err(AcquireError::NoNodes);
    }
    let endpoint = |(index, node)| {
        Endpoint::new(node, ca_file)
            .map(Endpoint::with_notices)
            .map_err(|error| AcquireError::BadNode { index, reason: error.to_string() })
    };
    let endpoints: Vec<Endpoint> =
        nodes.iter().enumerate().map(endpoint).collect::<Result<_, _>>()?;
    for (index, endpoint) in endpoints.iter().enumerate() {
        if let Some(first) = endpoints[..index].iter().position(|one| one.is_same_node(endpoint)) {
            // The node would have two votes.
            let reason = format!("{} is lock node {first} already", endpoint.address());
            return Err(AcquireError::BadNode { index, reason });
        }
    }
    Ok(endpoints)
}
