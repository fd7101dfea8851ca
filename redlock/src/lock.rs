//! What a user of the lock calls.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::acquisition::Acquisition;
use crate::board::{Board, Published};
use crate::node::{KeeperContext, Node};
use crate::observe::Unobserved;
use crate::script::Scripts;
use crate::shared::Shared;
use crate::turn::Turn;
use crate::{AcquireError, Config, Lease, Observer, Policy};

/// Acquires leases from a set of nodes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Redlock {
    pub(crate) shared: Arc<Shared>,
}

impl Redlock {
    /// Starts connecting to the nodes; those that are away are tried again and again.
    ///
    /// # Errors
    /// [`AcquireError::BadNode`] or [`AcquireError::NoNodes`] for a configuration that can never
    /// work.
    pub fn start(config: &Config) -> Result<Self, AcquireError> {
        Self::start_observed(config, Arc::new(Unobserved))
    }

    /// As [`Redlock::start`], telling `observer` what happens.
    ///
    /// # Errors
    /// As [`Redlock::start`].
    pub fn start_observed(
        config: &Config,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, AcquireError> {
        if config.nodes.is_empty() {
            return Err(AcquireError::NoNodes);
        }
        let shutdown = CancellationToken::new();
        let context = KeeperContext {
            scripts: Arc::new(Scripts::new()),
            board: Arc::new(Board::new(config.nodes.len() / 2 + 1)),
            client: format!("{:016x}", rand::random::<u64>()).into(),
            shutdown: shutdown.clone(),
        };
        let keepers = shutdown.drop_guard();
        let nodes = config
            .nodes
            .iter()
            .enumerate()
            .map(|(index, node)| Node::start(index, node, config.node_timeout, &context))
            .collect::<Result<_, _>>()?;
        let KeeperContext { scripts, board, client, shutdown: _ } = context;
        let sequence = AtomicU64::new(0);
        let shared =
            Shared { nodes, scripts, board, client, sequence, observer, _keepers: keepers };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// How many nodes are connected now, and how many there are.
    #[must_use]
    pub fn connected(&self) -> (usize, usize) {
        let nodes = &self.shared.nodes;
        (nodes.iter().filter(|node| node.is_connected()).count(), nodes.len())
    }

    /// Whether a majority is connected now.
    #[must_use]
    pub fn has_quorum(&self) -> bool {
        let (connected, nodes) = self.connected();
        connected > nodes / 2
    }

    /// Follows the value that holders leave behind for a resource, from now on.
    #[must_use]
    pub fn published(&self, resource: &str) -> watch::Receiver<Published> {
        self.shared.board.topic(resource).published()
    }

    /// Makes the next proposal for a resource exceed `token`: what it guards has seen that one.
    pub fn saw_token(&self, resource: &str, token: u64) {
        self.shared.board.topic(resource).saw_token(token);
    }

    /// Takes in a value that the holder of `token` left in what the lock guards.
    pub fn saw_value(&self, resource: &str, token: u64, value: &str) {
        let topic = self.shared.board.topic(resource);
        topic.saw_token(token);
        topic.publish(token, value);
    }

    /// Acquires one resource.
    ///
    /// # Errors
    /// [`AcquireError::Timeout`] or [`AcquireError::QuorumUnavailable`] at the end of the wait.
    pub async fn acquire(&self, resource: &str, policy: Policy) -> Result<Lease, AcquireError> {
        self.acquire_all(&[resource], policy).await
    }

    /// Acquires several resources, all or nothing; their order does not matter.
    ///
    /// # Errors
    /// As [`Redlock::acquire`].
    pub async fn acquire_all(
        &self,
        resources: &[&str],
        policy: Policy,
    ) -> Result<Lease, AcquireError> {
        let started = Instant::now();
        let result = Acquisition::new(&self.shared, resources, policy).run().await;
        self.shared.observer.acquired((&result).into(), started.elapsed());
        result
    }

    /// Acquires one resource when this client's turn has come.
    pub(crate) async fn acquire_in_turn(
        &self,
        resource: &str,
        policy: Policy,
        turn: Arc<Turn>,
    ) -> Result<Lease, AcquireError> {
        let started = Instant::now();
        let result = Acquisition::in_turn(&self.shared, resource, policy, turn).run().await;
        self.shared.observer.acquired((&result).into(), started.elapsed());
        result
    }
}
