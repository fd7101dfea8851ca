//! The part of the spec that restricts connections to a sale's pods.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::network_schema;

/// Network policies of the sale's pods. They restrict incoming connections only, and need a network plugin that
/// enforces them.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicies {
    /// Whether the operator creates the policies.
    #[serde(default = "NetworkPolicies::default_enabled")]
    pub enabled: bool,
    /// Who reaches the purchase API (port 8080). Absent: everyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub app_from: Option<Vec<Peer>>,
    /// Who reaches the metrics (port 9090) besides the operator. Absent: pods of any namespace with the label
    /// `app.kubernetes.io/name: prometheus`. `[]`: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub metrics_from: Option<Vec<Peer>>,
    /// Who reaches Redis and the sale's own database besides the app, the seed and the operator, such as a backup Job.
    /// Absent: nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub stores_from: Vec<Peer>,
}

impl NetworkPolicies {
    fn default_enabled() -> bool {
        true
    }
}

impl Default for NetworkPolicies {
    fn default() -> Self {
        Self {
            enabled: Self::default_enabled(),
            app_from: None,
            metrics_from: None,
            stores_from: Vec::new(),
        }
    }
}

/// Pods or addresses that may connect, as in a `NetworkPolicy`.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = network_schema::peer_rules()))]
pub struct Peer {
    /// Namespaces by their labels; `{}`: all. Absent: the sale's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<Labels>,
    /// Pods by their labels. Absent: all pods of the namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<Labels>,
    /// Range of addresses outside of the pod network. Excludes the selectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_block: Option<IpBlock>,
}

/// Labels that an object must have.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Labels {
    /// All of these labels are required.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "network_schema::labels")]
    pub match_labels: BTreeMap<String, String>,
}

/// Range of addresses.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct IpBlock {
    /// The range, such as `10.0.0.0/8`.
    #[schemars(schema_with = "network_schema::cidr")]
    pub cidr: String,
}
