//! The part of the spec that makes the purchase API reachable from outside of the cluster.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{network_schema, schema};

/// Service of the purchase API.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = network_schema::service_rules()))]
pub struct AppService {
    /// Type of the Service. Only a `ClusterIP` Service has the metrics port 9090.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,
    /// Annotations of the Service, such as those that a load balancer's controller reads.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "network_schema::annotations")]
    pub annotations: BTreeMap<String, String>,
    /// Port of the Service. Absent: 8080. 9090 is the metrics port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// Port on every node. Absent: the cluster chooses one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub node_port: Option<i32>,
    /// Class of the load balancer. Absent: the cluster's default. Immutable while the type is `LoadBalancer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub load_balancer_class: Option<String>,
    /// Address ranges that may connect through the load balancer. Absent: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "network_schema::source_ranges")]
    pub load_balancer_source_ranges: Vec<String>,
    /// `Local` keeps the client's address and uses only nodes with a replica. Absent: `Cluster`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<TrafficPolicy>,
}

/// Type of a Service.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum ServiceType {
    /// Reachable inside the cluster only.
    #[default]
    ClusterIP,
    /// Also a port on every node.
    NodePort,
    /// Also a load balancer of the cluster's environment.
    LoadBalancer,
}

impl ServiceType {
    /// The type as the Service spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// Nodes that forward connections from outside.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// All nodes.
    Cluster,
    /// Nodes with a replica.
    Local,
}

impl TrafficPolicy {
    /// The policy as the Service spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Local => "Local",
        }
    }
}

/// Ingress of the purchase API.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AppIngress {
    /// Ingress class. Absent: the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::OBJECT_NAME))]
    pub class_name: Option<String>,
    /// Host names of the sale, such as `sale.shop.example`.
    #[schemars(length(min = 1, max = 16))]
    #[schemars(inner(length(max = 253), regex(pattern = HOST)))]
    pub hosts: Vec<String>,
    /// Secret with the certificate of the hosts. Absent: HTTP only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::OBJECT_NAME))]
    pub tls_secret_name: Option<String>,
    /// Annotations of the Ingress, such as those that its controller or cert-manager reads.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "network_schema::annotations")]
    pub annotations: BTreeMap<String, String>,
}

/// `HTTPRoute` of the purchase API. It needs the Gateway API (`gateway.networking.k8s.io/v1`).
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AppHttpRoute {
    /// Gateways that serve the route.
    #[schemars(length(min = 1, max = 16))]
    pub parent_refs: Vec<ParentRef>,
    /// Host names of the sale. Absent: those of the Gateways' listeners.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(inner(length(max = 253), regex(pattern = HOST)))]
    pub hostnames: Vec<String>,
    /// Maximum duration of a request, live-stock streams included. `0s`: no limit. Absent: the Gateway's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24), regex(pattern = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    pub request_timeout: Option<String>,
    /// Annotations of the route.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "network_schema::annotations")]
    pub annotations: BTreeMap<String, String>,
}

/// A Gateway, or one of its listeners.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// Name of the Gateway.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::OBJECT_NAME))]
    pub name: String,
    /// Namespace of the Gateway. Absent: the sale's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = schema::OBJECT_NAME))]
    pub namespace: Option<String>,
    /// Name of a listener. Absent: all listeners.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::OBJECT_NAME))]
    pub section_name: Option<String>,
    /// Port of a listener. Absent: all ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
}

/// A host name; its first label can be `*`.
const HOST: &str = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
