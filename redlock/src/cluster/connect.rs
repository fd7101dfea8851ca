//! Connects to a node: subscribes, loads the scripts, and reads whether the node may vote.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, PushInfo, PushKind, RedisResult, Value};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tracing::{info, warn};

use super::state::Cluster;
use crate::endpoint::Endpoint;
use crate::node::Node;
use crate::observe::Exclusion;
use crate::protocol::Probe;
use crate::scripts::keys::{RELEASES, REPAIRED};

/// How long a connection attempt, or a command on a connection, may take.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Receives a message when the connection is lost.
pub(super) type Disconnects = UnboundedReceiver<PushInfo>;

/// Connects to the node and records its state.
pub(super) async fn connect(
    node: &Node,
    endpoint: &Endpoint,
    cluster: &Arc<Cluster>,
) -> RedisResult<Disconnects> {
    let (sender, disconnects) = unbounded_channel();
    let (index, subscriber) = (node.index(), Arc::downgrade(cluster));
    let address = node.address().to_owned();
    // Handles notices where they arrive: a task of its own would cost a wake-up for each.
    let on_push = move |push: PushInfo| match push.kind {
        PushKind::Disconnection => sender.send(push).map_err(drop),
        PushKind::Message if push.data.first() == Some(&bulk(REPAIRED)) => {
            if let Some(Value::BulkString(lock)) = push.data.last() {
                let lock = String::from_utf8_lossy(lock);
                warn!(node = address, %lock, "lock without an expiry: it ends after the longest lease");
            }
            Ok(())
        }
        PushKind::Message => {
            if let Some(Value::BulkString(text)) = push.data.last()
                && let Some(cluster) = subscriber.upgrade()
            {
                cluster.registry.on_notice(&String::from_utf8_lossy(text), index);
            }
            Ok(())
        }
        _ => Ok(()),
    };
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(CONNECT_TIMEOUT))
        .set_push_sender(on_push);
    let client = endpoint.client().await?;
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    connection.subscribe(&[RELEASES, REPAIRED]).await?;
    cluster.scripts.load(&mut connection).await?;
    let run_id = run_id(&mut connection).await?;
    let probe: Probe = cluster.scripts.probe().invoke(&mut connection).await?;
    cluster.adopt(probe.membership);
    let admitted = Some(&*probe.admitted).filter(|admitted| !admitted.is_empty());
    node.set_connected(connection, &run_id, admitted);
    node.mark_damaged(probe.damaged);
    if !probe.refusal.is_empty() {
        node.refuse(&probe.refusal);
    }
    if node.is_admitted() {
        info!(node = node.address(), "lock node connected");
        cluster.admit(node, &run_id);
    } else {
        cluster.observer.node_excluded(node.index(), Exclusion::Restarted);
        cluster.report_quorum();
    }
    Ok(disconnects)
}

fn bulk(text: &str) -> Value {
    Value::BulkString(text.as_bytes().to_vec())
}

/// Redis's run id of the process that answers.
async fn run_id(connection: &mut MultiplexedConnection) -> RedisResult<String> {
    let information: String = redis::cmd("INFO").arg("server").query_async(connection).await?;
    let run_id = information.lines().find_map(|line| line.strip_prefix("run_id:"));
    Ok(run_id.unwrap_or_default().to_owned())
}
