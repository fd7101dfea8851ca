//! How purchases are locked: the sale's own times and order, and those of a product.

use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// The lock that purchases of a product take.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::lock_rules()))]
pub struct Lock {
    /// Who is served next.
    #[serde(default)]
    pub order: Order,
    /// How long a purchase waits for the lock before it is refused as `lock_timeout`.
    #[serde(default = "Lock::default_wait_timeout")]
    #[schemars(schema_with = "schema::wait_timeout")]
    pub wait_timeout: Duration,
    /// How long a holder that died keeps the lock.
    #[serde(default = "Lock::default_lease_time")]
    #[schemars(schema_with = "schema::lease_time")]
    pub lease_time: Duration,
    /// How long one Redis node may take to answer before it counts as away.
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
            order: Order::default(),
            wait_timeout: Self::default_wait_timeout(),
            lease_time: Self::default_lease_time(),
            node_timeout: Self::default_node_timeout(),
        }
    }
}

/// Who gets the lock next.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum Order {
    /// Whoever is fastest.
    #[default]
    Unordered,
    /// Whoever asked first, across all replicas.
    Fair,
}

/// Lock times of one product.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ProductLock {
    /// Over the sale's `lock.waitTimeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::wait_timeout")]
    pub wait_timeout: Option<Duration>,
    /// Over the sale's `lock.leaseTime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::lease_time")]
    pub lease_time: Option<Duration>,
}
