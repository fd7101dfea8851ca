//! What the operator answers: the status of a `FlashSale`.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// What the operator saw last.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FlashSaleStatus {
    /// The generation of the spec that this status describes.
    pub observed_generation: i64,
    /// Where the sale stands.
    pub phase: Phase,
    /// `RedisReady`, `DatabaseReady`, `StockSeeded`, `AppAvailable`, and `Ready` when all four are.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Absent until the nodes exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisStatus>,
    /// Absent until the replicas exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppStatus>,
    /// The database that the stock was put into; absent until that is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseStatus>,
    /// Counts by product, from the database; refreshed on a timer, not with each purchase.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub products: Vec<ProductStatus>,
    /// Counts of all products together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totals: Option<Totals>,
    /// The purchase API inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// Where a sale stands.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum Phase {
    /// Waits for something outside the sale, such as a Secret.
    #[default]
    Pending,
    /// Its parts start for the first time.
    Provisioning,
    /// All parts are ready; `startsAt` is yet to come.
    Scheduled,
    /// Sells.
    Open,
    /// Nothing is left.
    SoldOut,
    /// `endsAt` has passed.
    Ended,
    /// Was ready and is not: a part is away.
    Degraded,
    /// A part was refused, or the stock could not be put in place: the condition says which.
    Failed,
}

impl Phase {
    /// As it is written in the status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Provisioning => "Provisioning",
            Self::Scheduled => "Scheduled",
            Self::Open => "Open",
            Self::SoldOut => "SoldOut",
            Self::Ended => "Ended",
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

/// The Redis nodes.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct RedisStatus {
    /// Nodes that answer.
    pub ready: i32,
    /// Nodes of the sale.
    pub nodes: i32,
    /// Whether a majority answers, so that locks can be taken.
    pub quorum: bool,
    /// `ready/nodes`, for `kubectl get`.
    pub summary: String,
}

/// The replicas of the purchase API.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct AppStatus {
    /// Replicas that take purchases.
    pub ready: i32,
    /// Replicas wanted.
    pub replicas: i32,
    /// `ready/replicas`, for `kubectl get`.
    pub summary: String,
}

/// The database that the stock was put into.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct DatabaseStatus {
    /// Hash of its address in the Secret, without user and password.
    pub address: String,
    /// Tells it from any other at this address: when its tables were made.
    pub id: String,
}

/// Counts of one product.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct ProductStatus {
    /// The product.
    pub id: String,
    /// Units ever put on sale.
    pub stock: i64,
    /// Units sold.
    pub sold: i64,
    /// Units left.
    pub remaining: i64,
}

/// Counts of all products together.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Totals {
    /// Units ever put on sale.
    pub stock: i64,
    /// Units sold.
    pub sold: i64,
    /// Units left.
    pub remaining: i64,
}
