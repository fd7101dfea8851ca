//! One declaration for all locks of a kind: their prefix and their policy.

use std::collections::HashMap;
use std::time::Duration;

use crate::acquire::Lease;
use crate::config::{Policy, QueueDiscipline};
use crate::error::AcquireError;
use crate::lock::Redlock;

/// A prefix and a policy for a kind of lock. With the prefix `coupon:issue`, the key `7` is locked as
/// `coupon:issue:7`.
///
/// ```
/// # use redlock::{Domain, QueueDiscipline};
/// # use std::time::Duration;
/// let coupons = Domain::new("coupon:issue").wait_timeout(Duration::from_secs(2)).discipline(QueueDiscipline::Fair);
/// assert_eq!(coupons.resource("7"), "coupon:issue:7");
/// ```
#[derive(Debug, Clone)]
pub struct Domain {
    prefix: String,
    policy: Policy,
    own_policies: HashMap<String, Policy>,
}

impl Domain {
    /// Locks with this prefix and the default policy.
    #[must_use]
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), policy: Policy::default(), own_policies: HashMap::new() }
    }

    /// Sets how long a caller waits for a lock.
    #[must_use]
    pub fn wait_timeout(mut self, wait_timeout: Duration) -> Self {
        self.policy.wait_timeout = wait_timeout;
        self
    }

    /// Sets how long the nodes keep a lock unless the holder extends it.
    #[must_use]
    pub fn lease_time(mut self, lease_time: Duration) -> Self {
        self.policy.lease_time = lease_time;
        self
    }

    /// Sets the order in which waiting callers get a lock.
    #[must_use]
    pub fn discipline(mut self, discipline: QueueDiscipline) -> Self {
        self.policy.discipline = discipline;
        self
    }

    /// Sets a policy for one key, instead of the domain's.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, policy: Policy) -> Self {
        self.own_policies.insert(key.into(), policy);
        self
    }

    /// The name of the lock on a key.
    #[must_use]
    pub fn resource(&self, key: &str) -> String {
        format!("{}:{key}", self.prefix)
    }

    /// The policy for the lock on a key.
    #[must_use]
    pub fn policy(&self, key: &str) -> Policy {
        self.own_policies.get(key).copied().unwrap_or(self.policy)
    }

    /// Acquires the lock on a key.
    ///
    /// # Errors
    /// As [`Redlock::acquire`].
    pub async fn acquire(&self, redlock: &Redlock, key: &str) -> Result<Lease, AcquireError> {
        redlock.acquire(&self.resource(key), self.policy(key)).await
    }

    /// Acquires the locks on several keys, all or none, with the longest wait and the shortest lease of
    /// their policies.
    ///
    /// # Errors
    /// As [`Redlock::acquire_all`].
    pub async fn acquire_all(
        &self,
        redlock: &Redlock,
        keys: &[&str],
    ) -> Result<Lease, AcquireError> {
        let resources: Vec<String> = keys.iter().map(|key| self.resource(key)).collect();
        let names: Vec<&str> = resources.iter().map(String::as_str).collect();
        redlock.acquire_all(&names, self.policy_of_all(keys)).await
    }

    /// Runs a section under the lock on a key, in a task of its own, so a caller that goes away neither
    /// interrupts the section nor leaves the lock behind. The lease is extended until the section ends.
    ///
    /// # Errors
    /// As [`Redlock::acquire`]; [`AcquireError::Interrupted`] if the section panicked.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use redlock::{Config, Domain, NodeConfig, Redlock};
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let servers = testkit::RedisServer::start_many(3)?;
    /// # let nodes = servers.iter().map(|server| NodeConfig { address: server.address(), password: None });
    /// # let config = Config { node_timeout: Duration::from_secs(5), ..Config::new(nodes.collect()) };
    /// # let redlock = Redlock::start(&config)?;
    /// let reports = Domain::new("report").wait_timeout(Duration::from_secs(20));
    /// let write = |lease: redlock::LeaseContext| async move { format!("token {}", lease.token) };
    /// let written = reports.run(&redlock, "monthly", write).await?;
    /// assert!(written.starts_with("token "));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run<F, T>(
        &self,
        redlock: &Redlock,
        key: &str,
        section: impl FnOnce(LeaseContext) -> F + Send + 'static,
    ) -> Result<T, AcquireError>
    where
        F: Future<Output = T> + Send,
        T: Send + 'static,
    {
        let lease = self.acquire(redlock, key).await?;
        lease.keep_extended();
        let running = tokio::spawn(async move {
            let context = LeaseContext { token: lease.token(), lost: lease.lost() };
            let result = section(context).await;
            lease.release().await;
            result
        });
        running.await.map_err(|_panic| AcquireError::Interrupted)
    }

    fn policy_of_all(&self, keys: &[&str]) -> Policy {
        let policies = keys.iter().map(|key| self.policy(key));
        policies
            .reduce(|one, other| Policy {
                wait_timeout: one.wait_timeout.max(other.wait_timeout),
                lease_time: one.lease_time.min(other.lease_time),
                discipline: one.discipline,
            })
            .unwrap_or(self.policy)
    }
}

/// The lease under which a section runs.
#[derive(Debug, Clone)]
pub struct LeaseContext {
    /// The fencing token. The store that the section writes to must refuse a token that is not above the
    /// last one it stored.
    pub token: u64,
    /// See [`Lease::lost`].
    pub lost: tokio_util::sync::CancellationToken,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_own_policy_or_the_domains() {
        let quick = Policy { wait_timeout: Duration::from_millis(1), ..Policy::default() };
        let stock = Domain::new("stock").discipline(QueueDiscipline::Fair).with("1", quick);
        assert_eq!(stock.policy("1"), quick);
        assert_eq!(stock.policy("2").discipline, QueueDiscipline::Fair);
        assert_eq!(stock.resource("2"), "stock:2");
    }

    #[test]
    fn several_keys_have_the_longest_wait_and_the_shortest_lease() {
        let policy = |wait, lease| Policy {
            wait_timeout: Duration::from_secs(wait),
            lease_time: Duration::from_secs(lease),
            discipline: QueueDiscipline::Unordered,
        };
        let stock = Domain::new("stock").with("1", policy(1, 9)).with("2", policy(3, 4));
        assert_eq!(stock.policy_of_all(&["1", "2"]), policy(3, 4));
    }
}
