//! Changes the Redis nodes of the lock during the sale.
//!
//! A change takes longer than the longest lease, so it runs in the background, and the operator repeats its
//! request until it is done. Each request may reach another replica. A second replica would restart the wait
//! of a change that the first one makes, so it leaves a recent change alone, and completes it only when the
//! first one should have done so long ago. The nodes store the state, so a replica that dies loses nothing.

use std::time::Duration;

use redlock::{ChangeError, MemberNodes, NodeConfig, Redlock};
use sale::Strategy;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::http::problem::ApiError;

/// How long a request waits for the end of a change. The operator waits for four seconds.
const REPLY_AFTER: Duration = Duration::from_secs(3);
/// The time of a change besides two of the longest leases: one for the lock, one for the wait.
const STEPS: Duration = Duration::from_secs(10);
/// The most nodes of a lock. The labels of the metrics end there.
const MAX_NODES: usize = 9;

/// The nodes of the lock, and whether they are the wanted ones.
#[derive(Debug, Serialize)]
pub(crate) struct ChangeState {
    /// `host:port` of each node.
    nodes: Vec<String>,
    /// `host:port` of each future node while a change is in progress.
    joining: Vec<String>,
    /// Whether the wanted nodes, and no others, are the lock. A majority has confirmed it for this request.
    done: bool,
    /// Why the last step failed. The next request repeats it.
    error: Option<String>,
}

/// Changes the nodes, one change at a time.
#[derive(Debug)]
pub struct NodeChanges {
    redlock: Redlock,
    strategy: Strategy,
    longest_lease: Duration,
    running: Mutex<Option<Running>>,
}

/// A change of this replica.
#[derive(Debug)]
struct Running {
    nodes: Vec<String>,
    task: JoinHandle<Result<(), ChangeError>>,
}

impl NodeChanges {
    pub(crate) fn new(redlock: Redlock, strategy: Strategy, longest_lease: Duration) -> Self {
        Self { redlock, strategy, longest_lease, running: Mutex::default() }
    }

    /// Works towards these nodes and returns the state.
    ///
    /// # Errors
    /// When these cannot be the nodes of this sale.
    pub(crate) async fn change(&self, wanted: &[String]) -> Result<ChangeState, ApiError> {
        self.check(wanted)?;
        // A second request waits for the reply to the first.
        let mut running = self.running.lock().await;
        // The end of an earlier request's change says nothing about the present.
        if running.as_ref().is_some_and(|change| change.task.is_finished()) {
            *running = None;
        }
        if running.is_none() {
            let Some(next) = self.next_step(wanted) else { return Ok(self.state(false, None)) };
            *running = Some(self.start(next));
        }
        let Some(change) = running.as_mut() else { return Ok(self.state(false, None)) };
        let Ok(ended) = timeout(REPLY_AFTER, &mut change.task).await else {
            return Ok(self.state(false, None));
        };
        let is_last = change.nodes == wanted;
        *running = None;
        Ok(match ended {
            Ok(Ok(())) => self.state(is_last, None),
            Ok(Err(error)) => self.state(false, Some(error.to_string())),
            Err(panic) => self.state(false, Some(panic.to_string())),
        })
    }

    fn check(&self, wanted: &[String]) -> Result<(), ApiError> {
        let field = |rule| Err(ApiError::Field { field: "nodes", rule });
        if wanted.is_empty() || wanted.len() > MAX_NODES {
            return field("must be 1 to 9 addresses, host:port each");
        }
        // The stock of such a sale is on its node, and no change of the lock would take it along.
        if self.strategy == Strategy::Atomic && self.redlock.members().nodes != wanted {
            return field("strategy Atomic keeps its node: it decides the purchases");
        }
        Ok(())
    }

    /// The nodes of the next change; `None`: another replica is about to complete one.
    fn next_step(&self, wanted: &[String]) -> Option<Vec<String>> {
        let MemberNodes { joining, since, .. } = self.redlock.members();
        if joining.is_empty() {
            return Some(wanted.to_vec());
        }
        (since.elapsed() > self.longest_lease * 2 + STEPS).then_some(joining)
    }

    fn start(&self, nodes: Vec<String>) -> Running {
        let (redlock, future) = (self.redlock.clone(), nodes.clone());
        let task = tokio::spawn(async move {
            let configured =
                |address: &String| NodeConfig { address: address.clone(), password: None };
            let configs: Vec<NodeConfig> = future.iter().map(configured).collect();
            let changed = redlock.change_members(&configs).await;
            match &changed {
                Ok(()) => info!(nodes = ?future, "these are the lock nodes"),
                Err(error) => warn!(nodes = ?future, %error, "lock nodes are not changed yet"),
            }
            changed
        });
        Running { nodes, task }
    }

    fn state(&self, done: bool, error: Option<String>) -> ChangeState {
        let MemberNodes { nodes, joining, .. } = self.redlock.members();
        ChangeState { nodes, joining, done, error }
    }
}
