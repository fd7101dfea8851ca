//! The part of the spec that configures the purchase API.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::Resources;
use super::schema;

/// The purchase API.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::app_rules()))]
pub struct App {
    /// Replicas; with `autoscaling`, the least of them.
    #[serde(default = "App::default_replicas")]
    #[schemars(range(min = 1, max = 40))]
    pub replicas: i32,
    /// Absent: the operator's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^\S+$"))]
    pub image: Option<String>,
    /// Of each replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Absent: a fixed number of replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// Number of trusted proxies in front of each replica, such as an ingress, that each add the client
    /// to `X-Forwarded-For` or `Forwarded`. Log-ins, sign-ups and followers of live stock are limited
    /// by that client's address. Absent: none, and the headers are not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10))]
    pub trusted_proxies: Option<i32>,
    /// Connections to each replica at a time; one more is answered `overloaded` and closed. Absent:
    /// 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: Option<i32>,
    /// Followers of live stock at each replica; one more is answered `too_many_listeners`. Absent: 5000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_event_listeners: Option<i32>,
    /// Of those, from one address, or one IPv6 network of 64 bits. Absent: a tenth of
    /// `maxEventListeners`, at least 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_event_listeners_per_address: Option<i32>,
    /// Pages of other origins that may call the API. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
}

/// Cross-origin resource sharing.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Cors {
    /// Such as `https://shop.example`, without a path; `*` is all.
    #[schemars(length(min = 1, max = 20))]
    #[schemars(inner(length(max = 255), regex(pattern = ORIGIN)))]
    pub allowed_origins: Vec<String>,
}

/// `*`, or a scheme, a host and perhaps a port.
const ORIGIN: &str = r"^(\*|https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[1-9][0-9]{0,4})?)$";

impl App {
    fn default_replicas() -> i32 {
        3
    }
}

impl Default for App {
    fn default() -> Self {
        Self {
            replicas: Self::default_replicas(),
            image: None,
            resources: None,
            autoscaling: None,
            trusted_proxies: None,
            max_connections: None,
            max_event_listeners: None,
            max_event_listeners_per_address: None,
            cors: None,
        }
    }
}

/// A `HorizontalPodAutoscaler` on CPU. Percent are of the CPU that a replica requests: `app.resources.requests.cpu`,
/// else `app.resources.limits.cpu`, else 100m, which each replica then requests.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Autoscaling {
    /// The most replicas.
    #[schemars(range(min = 1, max = 40))]
    pub max_replicas: i32,
    /// Percent of the requested CPU at which replicas are added.
    #[serde(default = "Autoscaling::default_target")]
    #[schemars(range(min = 1, max = 100))]
    pub target_cpu_percent: i32,
}

impl Autoscaling {
    fn default_target() -> i32 {
        70
    }
}
