//! One declaration for all locks of a kind: a prefix, and how its locks are taken.

use std::collections::HashMap;
use std::time::Duration;

use crate::{AcquireError, Lease, Order, Policy, Redlock};

/// What a kind of thing is locked by: `coupon:issue` with the key `7` is `coupon:issue:7`.
///
/// ```
/// # use redlock::{Domain, Order};
/// # use std::time::Duration;
/// let coupons = Domain::new("coupon:issue").wait_timeout(Duration::from_secs(2)).order(Order::Fair);
/// assert_eq!(coupons.resource("7"), "coupon:issue:7");
/// ```
#[derive(Debug, Clone)]
pub struct Domain {
    prefix: String,
    policy: Policy,
    own_policies: HashMap<String, Policy>,
}

impl Domain {
    /// Locks named by the prefix, taken by the default policy.
    #[must_use]
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), policy: Policy::default(), own_policies: HashMap::new() }
    }

    /// How long a caller waits for a lock.
    #[must_use]
    pub fn wait_timeout(mut self, wait_timeout: Duration) -> Self {
        self.policy.wait_timeout = wait_timeout;
        self
    }

    /// How long the nodes keep a lock for a holder that says nothing more.
    #[must_use]
    pub fn lease_time(mut self, lease_time: Duration) -> Self {
        self.policy.lease_time = lease_time;
        self
    }

    /// Who comes first.
    #[must_use]
    pub fn order(mut self, order: Order) -> Self {
        self.policy.order = order;
        self
    }

    /// A policy for one key instead of the domain's.
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

    /// How the lock on a key is taken.
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

    /// Acquires the locks on several keys, all or nothing, waiting as long as the most patient of
    /// them and holding no longer than the shortest lease.
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

    /// Runs a section under the lock on a key, in a task of its own: a caller that goes away in
    /// the middle neither breaks it off nor leaves the lock behind. The lease is kept extended.
    ///
    /// # Errors
    /// As [`Redlock::acquire`]; [`AcquireError::Interrupted`] if the section panicked.
    pub async fn run<F, T>(
        &self,
        redlock: &Redlock,
        key: &str,
        section: impl FnOnce(Grant) -> F + Send + 'static,
    ) -> Result<T, AcquireError>
    where
        F: Future<Output = T> + Send,
        T: Send + 'static,
    {
        let lease = self.acquire(redlock, key).await?;
        lease.keep_extended();
        let running = tokio::spawn(async move {
            let grant = Grant { token: lease.token(), lost: lease.lost() };
            let result = section(grant).await;
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
                order: one.order,
            })
            .unwrap_or(self.policy)
    }
}

/// What a section that runs under a lock knows of it.
#[derive(Debug, Clone)]
pub struct Grant {
    /// What the section writes must refuse a token not above the last it saw.
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
        let stock = Domain::new("stock").order(Order::Fair).with("1", quick);
        assert_eq!(stock.policy("1"), quick);
        assert_eq!(stock.policy("2").order, Order::Fair);
        assert_eq!(stock.resource("2"), "stock:2");
    }

    #[test]
    fn several_keys_wait_for_the_most_patient_and_hold_for_the_shortest() {
        let policy = |wait, lease| Policy {
            wait_timeout: Duration::from_secs(wait),
            lease_time: Duration::from_secs(lease),
            order: Order::Unordered,
        };
        let stock = Domain::new("stock").with("1", policy(1, 9)).with("2", policy(3, 4));
        assert_eq!(stock.policy_of_all(&["1", "2"]), policy(3, 4));
    }
}
