//! One Redis node: a connection that repairs itself, and the calls made over it.
//!
//! Commands of one node travel over one ordered connection, so a release sent after a vote that
//! was not waited for is also executed after it. A node without a connection fails at once; one
//! that stopped answering costs its timeout until the keeper has noticed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind,
    ScriptInvocation,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::board::Board;
use crate::script::{CHANNEL, Handover, Scripts};
use crate::{AcquireError, NodeConfig};

/// Owns no lock.
const NOBODY: &str = "";
const OWED_AT_MOST: usize = 256;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const PING_EVERY: Duration = Duration::from_millis(500);
const FIRST_RECONNECT: Duration = Duration::from_millis(50);
const LAST_RECONNECT: Duration = Duration::from_secs(1);

/// A node did not answer; the reason is logged by the keeper.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    #[error("not connected")]
    Disconnected,
    #[error("no answer in time")]
    TimedOut,
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
}

/// A release on its way to every node.
#[derive(Debug)]
pub(crate) struct Release {
    pub(crate) owner: String,
    pub(crate) handovers: Vec<Handover>,
}

#[derive(Debug)]
pub(crate) struct Node {
    index: usize,
    timeout: Duration,
    connection: RwLock<Option<MultiplexedConnection>>,
    /// Releases that it has not confirmed, to be repeated when it is back.
    owed: Mutex<VecDeque<Arc<Release>>>,
}

impl Node {
    /// Starts the keeper of a node; it ends with `shutdown`.
    pub(crate) fn start(
        index: usize,
        config: &NodeConfig,
        node_timeout: Duration,
        keeper: &KeeperContext,
    ) -> Result<Arc<Self>, AcquireError> {
        let client = client(config)
            .map_err(|error| AcquireError::BadNode { index, reason: error.to_string() })?;
        let (connection, owed) = (RwLock::new(None), Mutex::default());
        let node = Arc::new(Self { index, timeout: node_timeout, connection, owed });
        tokio::spawn(keep_connected(Arc::clone(&node), client, keeper.clone()));
        Ok(node)
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connection().is_some()
    }

    /// Remembers a release that failed. Only the latest: an older lease has ended by itself.
    pub(crate) fn owe(&self, release: Arc<Release>) {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        if owed.len() == OWED_AT_MOST {
            owed.pop_front();
        }
        owed.push_back(release);
    }

    fn take_owed(&self) -> VecDeque<Arc<Release>> {
        std::mem::take(&mut self.owed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs a script, bounded by the node's timeout.
    pub(crate) async fn run<T: redis::FromRedisValue>(
        &self,
        call: ScriptInvocation<'_>,
    ) -> Result<T, NodeError> {
        let mut connection = self.connection().ok_or(NodeError::Disconnected)?;
        match timeout(self.timeout, call.invoke_async(&mut connection)).await {
            Ok(answer) => Ok(answer?),
            Err(_elapsed) => Err(NodeError::TimedOut),
        }
    }

    /// Runs a script, bounded by the connection only.
    pub(crate) async fn run_to_the_end<T: redis::FromRedisValue>(
        &self,
        call: ScriptInvocation<'_>,
    ) -> Result<T, NodeError> {
        let mut connection = self.connection().ok_or(NodeError::Disconnected)?;
        Ok(call.invoke_async(&mut connection).await?)
    }

    fn connection(&self) -> Option<MultiplexedConnection> {
        self.connection.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_connection(&self, connection: Option<MultiplexedConnection>) {
        *self.connection.write().unwrap_or_else(PoisonError::into_inner) = connection;
    }
}

/// What every keeper shares.
#[derive(Debug, Clone)]
pub(crate) struct KeeperContext {
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) board: Arc<Board>,
    pub(crate) client: Arc<str>,
    pub(crate) shutdown: CancellationToken,
}

fn client(config: &NodeConfig) -> redis::RedisResult<Client> {
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
    Client::open(info.set_redis_settings(settings))
}

async fn keep_connected(node: Arc<Node>, client: Client, context: KeeperContext) {
    let mut pause = FIRST_RECONNECT;
    let mut reported = false;
    let keeper = async {
        loop {
            match connect(&client, &context).await {
                Ok((connection, notices)) => {
                    info!(node = node.index, "lock node connected");
                    node.set_connection(Some(connection.clone()));
                    (pause, reported) = (FIRST_RECONNECT, false);
                    // After the line before, so that nothing falls between the two.
                    catch_up(&node, &context).await;
                    let reason = listen(connection, notices, &context).await;
                    node.set_connection(None);
                    warn!(node = node.index, reason, "lock node lost");
                }
                Err(error) if reported => debug!(node = node.index, %error, "still not connected"),
                Err(error) => {
                    warn!(node = node.index, %error, "lock node does not connect");
                    reported = true;
                }
            }
            sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause = (pause * 2).min(LAST_RECONNECT);
        }
    };
    // None: shut down.
    let _ = context.shutdown.run_until_cancelled(keeper).await;
    node.set_connection(None);
}

async fn connect(
    client: &Client,
    context: &KeeperContext,
) -> redis::RedisResult<(MultiplexedConnection, UnboundedReceiver<PushInfo>)> {
    let (sender, notices) = unbounded_channel();
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(CONNECT_TIMEOUT))
        .set_push_sender(sender);
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    connection.subscribe(CHANNEL).await?;
    context.scripts.load(&mut connection).await?;
    Ok((connection, notices))
}

/// Tells a node what it missed: releases, and values. What it has newer it keeps.
async fn catch_up(node: &Node, context: &KeeperContext) {
    for release in node.take_owed() {
        let call = context.scripts.release(&release.owner, &context.client, &release.handovers);
        if node.run_to_the_end::<u64>(call).await.is_err() {
            node.owe(release);
        }
    }
    let values = context.board.values();
    if !values.is_empty() {
        let call = context.scripts.release(NOBODY, &context.client, &values);
        // A node that fails here is connected to again, and told again.
        let _ = node.run_to_the_end::<u64>(call).await;
    }
}

/// Hands notices to the board until the connection is of no use any more; returns why.
async fn listen(
    mut connection: MultiplexedConnection,
    mut notices: UnboundedReceiver<PushInfo>,
    context: &KeeperContext,
) -> &'static str {
    loop {
        let push = match timeout(PING_EVERY, notices.recv()).await {
            Ok(Some(push)) => push,
            Ok(None) => return "connection closed",
            // Silence: a node that hangs keeps its socket open, so only a question finds out.
            Err(_elapsed) => {
                let ping = redis::cmd("PING").exec_async(&mut connection).await;
                if ping.is_err() {
                    return "no answer to ping";
                }
                continue;
            }
        };
        match push.kind {
            PushKind::Disconnection => return "disconnected",
            PushKind::Message => {
                if let Some(redis::Value::BulkString(text)) = push.data.last() {
                    context.board.heard(&String::from_utf8_lossy(text), &context.client);
                }
            }
            _ => {}
        }
    }
}
