//! The `FlashSale` resource: what a user writes (spec) and what the operator answers (status).
//!
//! Only fields that work are here. What a value may be is said once, in the schema, and enforced
//! by the API server; `crd/schema.rs` holds the rules that types cannot express.

mod lock;
mod schema;
mod status;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::CustomResource;
use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use lock::{Lock, Order, ProductLock};
pub use schema::{MAX_NAME_LENGTH, custom_resource_definition};
pub use status::{
    AppStatus, DatabaseStatus, FlashSaleStatus, Phase, ProductStatus, RedisStatus, Totals,
};

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

/// A volume for each pod.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// Such as `1Gi`.
    #[serde(default = "Storage::default_size")]
    #[schemars(schema_with = "schema::size")]
    pub size: Quantity,
    /// Absent: the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::OBJECT_NAME))]
    pub class_name: Option<String>,
}

impl Storage {
    fn default_size() -> Quantity {
        Quantity("1Gi".to_owned())
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self { size: Self::default_size(), class_name: None }
    }
}

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

/// A key of a Secret in the sale's namespace.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// The Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::OBJECT_NAME))]
    pub name: String,
    /// Its key that holds `postgres://user:password@host:port/database`.
    #[serde(default = "SecretKey::default_key")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^(\.?[-A-Za-z0-9_][-.A-Za-z0-9_]*)$")
    )]
    pub key: String,
}

impl SecretKey {
    fn default_key() -> String {
        "uri".to_owned()
    }
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

/// A Secret in the sale's namespace.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct SecretName {
    /// The Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::OBJECT_NAME))]
    pub name: String,
}

/// Requests and limits of a container.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
pub struct Resources {
    /// What the scheduler reserves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Amounts>,
    /// What it may use at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Amounts>,
}

/// CPU and memory.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
pub struct Amounts {
    /// Such as `100m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::quantity")]
    pub cpu: Option<Quantity>,
    /// Such as `64Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::quantity")]
    pub memory: Option<Quantity>,
}
