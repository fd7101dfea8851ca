//! The status of a `FlashSale`, which the operator writes.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// Observed state of the sale.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FlashSaleStatus {
    /// Generation of the spec that this status describes.
    pub observed_generation: i64,
    /// Lifecycle phase of the sale.
    pub phase: Phase,
    /// Conditions of the parts: `RedisReady`, `DatabaseReady`, `StockSeeded` and `AppAvailable`. `Ready` is True if all
    /// four are, or if the sale hibernates. `Exposed`, if the sale declares a route, an Ingress or another type of Service:
    /// whether they have addresses. Present only while True: `Reconciling`, `Stalled` (the sale needs a person; the message
    /// has the cause), `Degraded`,
    /// `ConfigurationWarning`, `HibernationDelayed` (the message has what the pods still run for) and
    /// `ReconciliationPaused`.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Reason why the sale is not ready, and since when. Absent while it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<WaitingFor>,
    /// Redis nodes. Absent until they exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisStatus>,
    /// Replicas of the purchase API. Absent until they exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppStatus>,
    /// Database in which the stock was seeded. Absent until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseStatus>,
    /// Images that the sale keeps if its spec names none, whatever the operator's defaults are. Absent until the parts
    /// were ready once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<ImagesStatus>,
    /// Resource version of each Secret that the parts use, by name. A change of a Secret has reached the sale when its
    /// new version is listed here and `Ready` is True.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// End of validity of the certificate of the Redis nodes and of the sale's own database. Absent without
    /// `stores.tls`, and while the sale hibernates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stores_certificate_not_after: Option<Time>,
    /// Counts per product, from the database: the declared products, then others by id, 100 in total. They are
    /// refreshed every few seconds, not with each purchase.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub products: Vec<ProductStatus>,
    /// Sum of the counts of all products, listed or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totals: Option<Totals>,
    /// URL of the purchase API inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// URLs of the purchase API outside of the cluster: of the load balancer, the Ingress and the route.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
}

impl FlashSaleStatus {
    /// Whether the condition of this type is True.
    #[must_use]
    pub fn is_true(&self, type_: &str) -> bool {
        self.conditions.iter().any(|it| it.type_ == type_ && it.status == "True")
    }
}

/// Reason why a sale is not ready, and since when.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct WaitingFor {
    /// Reason of a condition, such as `ImagePullBackOff`.
    pub reason: String,
    /// Time since which this generation waits for it. `Stalled` is True when it has lasted too long.
    pub since: Time,
}

/// Lifecycle phase of a sale.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for something outside the sale, such as a Secret.
    #[default]
    Pending,
    /// The parts are starting for the first time.
    Provisioning,
    /// All parts are ready; `startsAt` is in the future.
    Scheduled,
    /// The sale accepts purchases.
    Open,
    /// No units are left.
    SoldOut,
    /// `endsAt` has passed.
    Ended,
    /// No pods run, as declared. The orders are kept.
    Hibernated,
    /// The sale was ready, and a part is unavailable now.
    Degraded,
    /// The API server refused a part, or the seed failed. The conditions have the reason.
    Failed,
}

impl Phase {
    /// All phases.
    pub const ALL: [Self; 9] = [
        Self::Pending,
        Self::Provisioning,
        Self::Scheduled,
        Self::Open,
        Self::SoldOut,
        Self::Ended,
        Self::Hibernated,
        Self::Degraded,
        Self::Failed,
    ];

    /// The phase as the status spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Provisioning => "Provisioning",
            Self::Scheduled => "Scheduled",
            Self::Open => "Open",
            Self::SoldOut => "SoldOut",
            Self::Ended => "Ended",
            Self::Hibernated => "Hibernated",
            Self::Degraded => "Degraded",
            Self::Failed => "Failed",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Redis nodes of the sale.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct RedisStatus {
    /// Nodes that vote.
    pub ready: i32,
    /// Pods of nodes. During a change: of present and future nodes.
    pub nodes: i32,
    /// Whether a majority votes, so that locks can be acquired.
    pub quorum: bool,
    /// Nodes of the lock, as the app reports them. Differs from `redis.nodes` of the spec until a change is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<i32>,
    /// `ready/nodes`, for `kubectl get`.
    pub summary: String,
}

/// Replicas of the purchase API.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct AppStatus {
    /// Replicas that accept purchases.
    pub ready: i32,
    /// Existing replicas.
    pub replicas: i32,
    /// Desired replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<i32>,
    /// `ready/desired`, for `kubectl get`.
    pub summary: String,
    /// Label selector of the replicas, for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
}

/// Database in which the stock was seeded.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct DatabaseStatus {
    /// Hash of the database's address in the Secret, without user and password.
    pub address: String,
    /// Identity of the database: the time at which its tables were created. It distinguishes databases at the same
    /// address.
    pub id: String,
}

/// Images of Redis nodes and of the sale's own database.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ImagesStatus {
    /// Image with which all Redis nodes were ready last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<String>,
    /// Image with which the sale's own database was ready last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Major version of `PostgreSQL` on the volume of the sale's own database. Absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_version: Option<i32>,
}

/// Counts of one product.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct ProductStatus {
    /// Id of the product.
    pub id: String,
    /// Units ever put on sale.
    pub stock: i64,
    /// Units sold.
    pub sold: i64,
    /// Units left.
    pub remaining: i64,
}

/// Sum of the counts of all products.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Totals {
    /// Units ever put on sale.
    pub stock: i64,
    /// Units sold.
    pub sold: i64,
    /// Units left.
    pub remaining: i64,
}
