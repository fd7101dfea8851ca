//! The spec of a `FlashSale`: what a user writes. Doc comments become the descriptions that
//! `kubectl explain` prints.

use jiff::Timestamp;
use kube::CustomResource;
use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::app::App;
use super::common::{Resources, SecretKey, SecretName, Storage};
use super::lock::{Lock, ProductLock};
use super::schema;
use super::status::FlashSaleStatus;

/// A sale of a fixed stock.
#[expect(clippy::duplicated_attributes, reason = "each printcolumn has a type_ of its own")]
#[derive(CustomResource, JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "flashsale.dev",
    version = "v1alpha1",
    kind = "FlashSale",
    plural = "flashsales",
    shortname = "fsale",
    namespaced,
    status = "FlashSaleStatus",
    derive = "PartialEq",
    doc = "A sale of a fixed stock: Redis nodes, a database, replicas of the purchase API, and the seeded stock.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Redis", type_ = "string", json_path = ".status.redis.summary"),
    printcolumn(name = "App", type_ = "string", json_path = ".status.app.summary"),
    printcolumn(name = "Stock", type_ = "integer", json_path = ".status.totals.stock"),
    printcolumn(name = "Sold", type_ = "integer", json_path = ".status.totals.sold"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::sale_rules()))]
pub struct FlashSaleSpec {
    /// Purchases before this moment are refused as `sale_not_open`. Absent: open at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::starts_at")]
    pub starts_at: Option<Timestamp>,
    /// Purchases from this moment on are refused. Absent: open until sold out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::ends_at")]
    pub ends_at: Option<Timestamp>,
    /// What is sold. Products may be added, never removed.
    #[schemars(
        length(min = 1, max = 100),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["id"],
            "x-kubernetes-validations" = schema::product_list_rules()
        )
    )]
    pub products: Vec<Product>,
    /// How a purchase is decided.
    #[serde(default)]
    pub strategy: Strategy,
    /// The lock that purchases of a product take.
    #[serde(default)]
    pub lock: Lock,
    /// The Redis nodes that hold the lock.
    #[serde(default)]
    pub redis: Redis,
    /// The purchase API.
    #[serde(default)]
    pub app: App,
    /// Where orders are recorded: a `PostgreSQL` of its own, or the one behind `secretRef`.
    #[serde(default)]
    pub database: Database,
    /// How Redis's copies of the stock are kept in agreement with the database.
    #[serde(default)]
    pub stores: Stores,
    /// Signing key and administrator. Absent: generated into the Secret `<name>-auth`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
}

impl FlashSaleSpec {
    /// The Secret that the spec names for signing key and administrator.
    #[must_use]
    pub fn declared_auth_secret(&self) -> Option<&str> {
        self.auth.as_ref().map(|auth| auth.secret_ref.name.as_str())
    }

    /// The Secret that the spec names for the connection URI of an external database.
    #[must_use]
    pub fn declared_database_secret(&self) -> Option<&str> {
        self.database.secret_ref.as_ref().map(|secret| secret.name.as_str())
    }
}

/// One product of a sale.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::product_rules()))]
pub struct Product {
    /// Identifier in the API, in Redis keys and in metric labels.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
    )]
    pub id: String,
    /// What buyers see. Absent: the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::product_name")]
    pub name: Option<String>,
    /// Units to sell. Raised while the sale runs, the difference is added; it can't be lowered.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub stock: i64,
    /// Units one buyer may have. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_per_buyer: Option<i64>,
    /// Lock times of this product, over the sale's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<ProductLock>,
}

/// How a purchase is decided.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum Strategy {
    /// One transaction in the database, under the lock.
    #[default]
    Locked,
    /// One script in the one Redis node, which writes to its disk before it answers; the database
    /// follows.
    Atomic,
}

/// The Redis nodes that hold the lock.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Redis {
    /// Independent nodes: 1, or 5 of which any 3 decide.
    #[serde(default = "Redis::default_nodes")]
    #[schemars(extend("enum" = [1, 5], "x-kubernetes-validations" = schema::nodes_rules()))]
    pub nodes: i32,
    /// Absent: the operator's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^\S+$"))]
    pub image: Option<String>,
    /// Of each node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Of each node.
    #[serde(default)]
    pub storage: Storage,
}

impl Redis {
    fn default_nodes() -> i32 {
        5
    }
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            nodes: Self::default_nodes(),
            image: None,
            resources: None,
            storage: Storage::default(),
        }
    }
}

/// Where orders are recorded.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::database_rules()))]
pub struct Database {
    /// The connection URI of an external `PostgreSQL`. Absent: the sale gets its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKey>,
    /// Absent: the operator's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^\S+$"))]
    pub image: Option<String>,
    /// Of the sale's own database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Of the sale's own database. Absent: 1Gi of the default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
}

/// How Redis's copies of the stock are kept in agreement with the database. With strategy `Atomic` they
/// are compared once a second, whatever is said here.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Stores {
    /// How often all values are compared and repaired. Absent: 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::compare_every")]
    pub compare_every: Option<Duration>,
    /// How often products that a node lacks are loaded from the database. Absent: 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::load_every")]
    pub load_every: Option<Duration>,
}

/// Signing key and administrator.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// Holds `jwt-secret` and, if the sale shall have an administrator, `admin-id` and
    /// `admin-password`. Optional: `jwt-secret-accepted`, another key whose tokens are accepted while
    /// the key is changed; `jwks.json`, the public keys of an identity provider, with `jwks-issuer` and
    /// `jwks-audience`.
    pub secret_ref: SecretName,
}
