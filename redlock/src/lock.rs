//! What a user of the lock calls.

use std::sync::Arc;

use tokio::sync::watch;

use crate::acquire::{Acquisition, Lease};
use crate::cluster::{Cluster, ClusterClient, monitor};
use crate::combine::FairLocks;
use crate::config::{Config, Policy, QueueDiscipline};
use crate::error::AcquireError;
use crate::node::Node;
use crate::observe::{NoopObserver, Observer};
use crate::registry::Published;
use crate::scripts::Scripts;

/// Acquires leases from a set of nodes. Cheap to clone.
///
/// ```
/// # use std::time::Duration;
/// # use redlock::{Config, NodeConfig, Policy, Redlock};
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let servers = testkit::RedisServer::start_many(3)?;
/// # let addresses: Vec<String> = servers.iter().map(|server| server.address()).collect();
/// let node = |address: &String| NodeConfig { address: address.clone(), password: None };
/// let redlock = Redlock::start(&Config::new(addresses.iter().map(node).collect()))?;
///
/// let policy = Policy { wait_timeout: Duration::from_secs(20), ..Policy::default() };
/// let lease = redlock.acquire("stock:1", policy).await?;
/// let token = lease.token();
/// lease.release().await;
///
/// let next = redlock.acquire("stock:1", policy).await?;
/// assert!(next.token() > token);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Redlock {
    pub(crate) client: Arc<ClusterClient>,
    fair_locks: FairLocks,
}

impl Redlock {
    /// Starts to connect to the nodes. Connection attempts repeat until they succeed.
    ///
    /// # Errors
    /// [`AcquireError::BadNode`], [`AcquireError::NoNodes`] or [`AcquireError::BadConfig`] for a
    /// configuration that can never work.
    ///
    /// # Panics
    /// Outside a tokio runtime, unless the configuration is refused.
    pub fn start(config: &Config) -> Result<Self, AcquireError> {
        Self::start_observed(config, Arc::new(NoopObserver))
    }

    /// As [`Redlock::start`], and reports all events to `observer`.
    ///
    /// # Errors
    /// As [`Redlock::start`].
    ///
    /// # Panics
    /// Outside a tokio runtime, unless the configuration is refused.
    pub fn start_observed(
        config: &Config,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, AcquireError> {
        let scripts = Scripts::new();
        #[cfg(feature = "ablation")]
        let scripts = if config.ablation.owner_check_is_off {
            scripts.without_owner_check()
        } else {
            scripts
        };
        let cluster = Cluster::start(config, scripts, observer, monitor)?;
        let client = Arc::new(ClusterClient::new(cluster));
        Ok(Self { client, fair_locks: FairLocks::default() })
    }

    /// The number of nodes that are connected and may vote now, and the number of all nodes.
    #[must_use]
    pub fn connected(&self) -> (usize, usize) {
        self.client.cluster.members().voting()
    }

    /// Whether a majority is connected and may vote now.
    #[must_use]
    pub fn has_quorum(&self) -> bool {
        self.client.cluster.members().majority_of_each(Node::votes)
    }

    /// Follows the value that holders leave behind for a resource.
    #[must_use]
    pub fn published(&self, resource: &str) -> watch::Receiver<Published> {
        self.client.cluster.registry.state_of(resource).published()
    }

    /// Makes the next proposal for a resource exceed `token`, a token that the guarded store has stored.
    pub fn observe_token(&self, resource: &str, token: u64) {
        self.client.cluster.registry.state_of(resource).observe_token(token);
    }

    /// Records a value that the holder of `token` left in the guarded store.
    pub fn observe_value(&self, resource: &str, token: u64, value: &str) {
        let state = self.client.cluster.registry.state_of(resource);
        state.observe_token(token);
        state.publish(token, value);
    }

    /// Acquires one resource, in the order that the policy says.
    ///
    /// # Errors
    /// [`AcquireError::Timeout`] or [`AcquireError::QuorumUnavailable`] at the end of the wait. An
    /// [invalid](AcquireError::is_invalid) call fails at once.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use redlock::{AcquireError, Config, NodeConfig, Policy, Redlock};
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let servers = testkit::RedisServer::start_many(3)?;
    /// # let nodes = servers.iter().map(|server| NodeConfig { address: server.address(), password: None });
    /// # let config = Config { node_timeout: Duration::from_secs(5), ..Config::new(nodes.collect()) };
    /// # let redlock = Redlock::start(&config)?;
    /// # let patient = Policy { wait_timeout: Duration::from_secs(20), ..Policy::default() };
    /// let held = redlock.acquire("stock:1", patient).await?;
    /// held.keep_extended();
    ///
    /// let impatient = Policy { wait_timeout: Duration::from_millis(100), ..patient };
    /// let error = redlock.acquire("stock:1", impatient).await.unwrap_err();
    /// assert!(!error.is_invalid(), "a later call may succeed");
    /// match error {
    ///     AcquireError::Timeout { waited } => println!("others held it for {waited:?}"),
    ///     other => println!("{other}"),
    /// }
    ///
    /// // Longer than `Config::longest_lease`: no node is asked.
    /// let endless = Policy { lease_time: Duration::from_secs(3600), ..patient };
    /// assert!(redlock.acquire("stock:2", endless).await.unwrap_err().is_invalid());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn acquire(&self, resource: &str, policy: Policy) -> Result<Lease, AcquireError> {
        match policy.discipline {
            QueueDiscipline::Unordered => self.acquire_all(&[resource], policy).await,
            QueueDiscipline::Fair => self.fair_locks.acquire(&self.client, resource, policy).await,
        }
    }

    /// Acquires several resources, all or none. The order of `resources` does not matter. The queue
    /// discipline of the policy is ignored: it is always unordered.
    ///
    /// # Errors
    /// As [`Redlock::acquire`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use redlock::{Config, NodeConfig, Policy, Redlock};
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let servers = testkit::RedisServer::start_many(3)?;
    /// # let nodes = servers.iter().map(|server| NodeConfig { address: server.address(), password: None });
    /// # let config = Config { node_timeout: Duration::from_secs(5), ..Config::new(nodes.collect()) };
    /// # let redlock = Redlock::start(&config)?;
    /// # let policy = Policy { wait_timeout: Duration::from_secs(20), ..Policy::default() };
    /// let lease = redlock.acquire_all(&["stock:2", "stock:1"], policy).await?;
    /// let [(first, _), (second, _)] = lease.tokens() else { unreachable!("two resources, two tokens") };
    /// assert_eq!((first.as_str(), second.as_str()), ("stock:1", "stock:2"));
    /// lease.release().await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn acquire_all(
        &self,
        resources: &[&str],
        policy: Policy,
    ) -> Result<Lease, AcquireError> {
        Acquisition::new(&self.client, resources, policy).run().await
    }

    /// As [`Redlock::acquire_all`], for a caller that has an alternative: the observer counts a success,
    /// but not a failure.
    ///
    /// # Errors
    /// As [`Redlock::acquire`].
    pub async fn try_acquire_all(
        &self,
        resources: &[&str],
        policy: Policy,
    ) -> Result<Lease, AcquireError> {
        Acquisition::new(&self.client, resources, policy).into_try().run().await
    }
}
