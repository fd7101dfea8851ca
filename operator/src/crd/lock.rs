//! The lock's settings: queue discipline and times of the sale, and times of a product.

use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// Distributed lock that serializes the purchases of a product.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::lock_rules()))]
pub struct Lock {
    /// Queue discipline: the order in which waiting purchases get the lock.
    #[serde(default)]
    pub order: QueueDiscipline,
    /// Maximum time that a purchase waits for the lock. It is then refused with `lock_timeout`.
    #[serde(default = "Lock::default_wait_timeout")]
    #[schemars(schema_with = "schema::wait_timeout")]
    pub wait_timeout: Duration,
    /// Lease of the lock: a crashed holder blocks the product for at most this time. It also bounds the duration of a
    /// transaction.
    #[serde(default = "Lock::default_lease_time")]
    #[schemars(schema_with = "schema::lease_time")]
    pub lease_time: Duration,
    /// Maximum time for the reply of one Redis node. A node without a reply by then counts as unavailable.
    #[serde(default = "Lock::default_node_timeout")]
    #[schemars(schema_with = "schema::node_timeout")]
    pub node_timeout: Duration,
}

impl Lock {
    fn default_wait_timeout() -> Duration {
        std::time::Duration::from_secs(2).into()
    }

    fn default_lease_time() -> Duration {
        std::time::Duration::from_secs(5).into()
    }

    fn default_node_timeout() -> Duration {
        std::time::Duration::from_millis(50).into()
    }
}

impl Default for Lock {
    fn default() -> Self {
        Self {
            order: QueueDiscipline::default(),
            wait_timeout: Self::default_wait_timeout(),
            lease_time: Self::default_lease_time(),
            node_timeout: Self::default_node_timeout(),
        }
    }
}

/// Queue discipline of the lock.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum QueueDiscipline {
    /// No order: any waiting purchase can get the lock next.
    #[default]
    Unordered,
    /// First come, first served, across all replicas.
    Fair,
}

/// Lock times of one product.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ProductLock {
    /// Overrides `lock.waitTimeout` of the sale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::wait_timeout")]
    pub wait_timeout: Option<Duration>,
    /// Overrides `lock.leaseTime` of the sale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::lease_time")]
    pub lease_time: Option<Duration>,
}
