//! The spec of a `FlashSale`: what a user writes. Doc comments become the descriptions that
//! `kubectl explain` prints.

use jiff::Timestamp;
use kube::CustomResource;
use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::app::App;
use super::backup::Backup;
use super::common::{Resources, SecretKey, SecretName, Storage};
use super::events::OrderEvents;
use super::lifetime::{DeletionPolicy, Hibernation};
use super::limit::LimitBy;
use super::lock::{Lock, ProductLock};
use super::network::NetworkPolicies;
use super::payments::{Payments, Price};
use super::pod_template::{PodTemplate, PodUser, SeedJob, Spread};
use super::probes::StoreProbes;
use super::status::FlashSaleStatus;
use super::stores_tls::{StoresTls, StoresTlsMode};
use super::{pod_schema, schema};

/// The desired state of a sale.
#[expect(clippy::duplicated_attributes, reason = "each printcolumn has a type_ of its own")]
#[derive(CustomResource, JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "flashsale.dev",
    version = "v1beta1",
    kind = "FlashSale",
    plural = "flashsales",
    shortname = "fsale",
    namespaced,
    status = "FlashSaleStatus",
    derive = "PartialEq",
    doc = "A sale of a fixed stock. The operator creates its Redis nodes, database, purchase API and seed Job.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Redis", type_ = "string", json_path = ".status.redis.summary"),
    printcolumn(name = "App", type_ = "string", json_path = ".status.app.summary"),
    printcolumn(name = "Stock", type_ = "integer", json_path = ".status.totals.stock"),
    printcolumn(name = "Sold", type_ = "integer", json_path = ".status.totals.sold"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.type==\"Ready\")].message"
    ),
    scale(
        spec_replicas_path = ".spec.app.replicas",
        status_replicas_path = ".status.app.replicas",
        label_selector_path = ".status.app.selector"
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::sale_rules()))]
pub struct FlashSaleSpec {
    /// Start of the sale. Earlier purchases are refused with `sale_not_open`. Absent: the sale opens as soon as
    /// it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::starts_at")]
    pub starts_at: Option<Timestamp>,
    /// End of the sale. Purchases from this time on are refused with `sale_not_open`. Absent: the sale stays open
    /// until it is sold out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::ends_at")]
    pub ends_at: Option<Timestamp>,
    /// Days from `endsAt` until the buyers in orders and coupons are replaced by pseudonyms, which cannot be undone. Absent:
    /// never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3650))]
    pub retention_days: Option<i32>,
    /// Products on sale. Products can be added, but not removed.
    #[schemars(
        length(min = 1, max = 100),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["id"],
            "x-kubernetes-validations" = schema::product_list_rules()
        )
    )]
    pub products: Vec<Product>,
    /// Whom `maxPerBuyer` limits. Absent: the account, the claim `sub`. Can be changed while the sale is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_by: Option<LimitBy>,
    /// How long an unpaid order of `POST /v1/orders` holds its units. Then they are for sale again. From 5s to 24h.
    /// Absent: 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::hold_for")]
    pub hold_for: Option<Duration>,
    /// Store that decides purchases. Immutable.
    #[serde(default)]
    pub strategy: Strategy,
    /// Distributed lock that serializes the purchases of a product.
    #[serde(default)]
    pub lock: Lock,
    /// Redis nodes that grant the lock.
    #[serde(default)]
    pub redis: Redis,
    /// Replicas of the purchase API.
    #[serde(default)]
    pub app: App,
    /// Database that records the orders: a `PostgreSQL` that the operator creates, or the external one of
    /// `secretRef`.
    #[serde(default)]
    pub database: Database,
    /// Redis and the database: TLS to them, and the intervals at which their stock is reconciled.
    #[serde(default)]
    pub stores: Stores,
    /// Systems that receive an event for each change of an order. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<OrderEvents>,
    /// When the sale has no pods, so that it costs no more than its volumes. Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hibernation: Option<Hibernation>,
    /// Network policies of the sale's pods.
    #[serde(default)]
    pub network_policy: NetworkPolicies,
    /// Signing key and administrator account. Absent: the operator generates both into the Secret
    /// `<name>-auth`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Services that report payments. Absent: administrators report them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payments: Option<Payments>,
    /// Job that puts the declared stock in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<SeedJob>,
    /// Secrets for pulling the images of all parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<SecretName>,
    /// User and group ids of all pods.
    #[serde(default)]
    pub pod_user: PodUser,
}

impl FlashSaleSpec {
    /// Name of the declared Secret with the signing key and the administrator.
    #[must_use]
    pub fn declared_auth_secret(&self) -> Option<&str> {
        self.auth.as_ref().map(|auth| auth.secret_ref.name.as_str())
    }

    /// Name of the declared Secret with the connection URI of an external database.
    #[must_use]
    pub fn declared_database_secret(&self) -> Option<&str> {
        self.database.secret_ref.as_ref().map(|secret| secret.name.as_str())
    }

    /// Name of the declared Secret with the signing secret of Stripe.
    #[must_use]
    pub fn declared_stripe_secret(&self) -> Option<&str> {
        Some(self.payments.as_ref()?.stripe.as_ref()?.secret_ref.name.as_str())
    }
}

/// One product of a sale.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::product_rules()))]
pub struct Product {
    /// Identifier of the product in the API, in Redis keys and in metric labels.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
    )]
    pub id: String,
    /// Name that buyers see. Absent: the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::product_name")]
    pub name: Option<String>,
    /// Units to sell. The value can be raised during the sale, which adds the difference to the remaining units.
    /// It cannot be lowered.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub stock: i64,
    /// Maximum units per buyer; `limitBy` of the sale says who that is. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_per_buyer: Option<i64>,
    /// Price of a unit. A change counts for later orders. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// How long an unpaid order of `POST /v1/orders` holds units of this product. Overrides `holdFor` of the sale.
    /// From 5s to 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::hold_for")]
    pub hold_for: Option<Duration>,
    /// Lock times of this product. They override those of `spec.lock`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<ProductLock>,
}

/// Store that decides purchases.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum Strategy {
    /// A database transaction under the lock decides each purchase.
    #[default]
    Locked,
    /// A script in a single Redis node decides each purchase and is on its disk before the response. The database
    /// records the order afterwards.
    Atomic,
}

/// Redis nodes that grant the lock.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = pod_schema::redis_rules()))]
pub struct Redis {
    /// Number of independent nodes: 1, or 5 with a quorum of 3. Can be changed while the sale is open, unless
    /// `strategy` is `Atomic`.
    #[serde(default = "Redis::default_nodes")]
    #[schemars(extend("enum" = [1, 5]))]
    pub nodes: i32,
    /// Image of the nodes: Redis 7.0 or later, or Valkey. Absent: the operator's default, which the sale keeps from
    /// then on. A change restarts the nodes one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^\S+$"))]
    pub image: Option<String>,
    /// Requests and limits of each node. CPU without either requests 20m, memory 32Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Volume of each node. Immutable once a node is ready.
    #[serde(default)]
    pub storage: Storage,
    /// Spread of the nodes over machines and zones. Absent: machines `Preferred`, zones `Disabled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Spread>,
    /// Times and thresholds of the probes. A change restarts the nodes, one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<Box<StoreProbes>>,
    /// Changes to the pods of the nodes. A change restarts them, one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "pod_schema::redis_template::<PodTemplate>")]
    pub pod_template: Option<Box<PodTemplate>>,
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
            spread: None,
            probes: None,
            pod_template: None,
        }
    }
}

/// Database that records the orders.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::database_rules()))]
pub struct Database {
    /// Secret key with the connection URI of an external `PostgreSQL`. Absent: the operator creates a database for the
    /// sale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKey>,
    /// Image of the sale's own database. Absent: the operator's default, which the sale keeps from then on. Another
    /// major version of `PostgreSQL` is refused once the database exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^\S+$"))]
    pub image: Option<String>,
    /// Requests and limits of the sale's own database. CPU without either requests 100m, memory 128Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Volume of the sale's own database. Absent: 1Gi of the default storage class. Immutable once the database is
    /// ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// Times and thresholds of the probes of the sale's own database. A change restarts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<Box<StoreProbes>>,
    /// Changes to the pod of the sale's own database. A change restarts it. The pods of `backup` have the same labels,
    /// placement and security, but neither its containers nor its volumes and variables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "pod_schema::database_template::<PodTemplate>")]
    pub pod_template: Option<Box<PodTemplate>>,
    /// Scheduled dumps of the sale's own database. Absent: none. The volume of earlier ones stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Box<Backup>>,
    /// What becomes of the orders of the sale's own database when the sale is deleted. With strategy `Atomic` this
    /// includes the Redis volume, which can hold orders too.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Name of a deleted sale in this namespace whose retained orders this sale continues. Immutable once the database
    /// exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub adopt: Option<String>,
}

/// Redis and the database: TLS to them, and the intervals at which their stock is reconciled. Strategy `Atomic` ignores
/// `compareEvery` and compares once a second.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Stores {
    /// Interval between comparisons of all stock values; differences are repaired. Absent: 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::compare_every")]
    pub compare_every: Option<Duration>,
    /// Interval between loads of products that a node lacks from the database. Absent: 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::load_every")]
    pub load_every: Option<Duration>,
    /// TLS to the Redis nodes and to the sale's own database; the parameters of its URI decide for an external one. Absent:
    /// `Disabled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<StoresTls>,
}

impl Stores {
    /// Origin of the certificates.
    #[must_use]
    pub fn tls_mode(&self) -> StoresTlsMode {
        self.tls.as_ref().map_or(StoresTlsMode::Disabled, |tls| tls.mode)
    }

    /// Name of the declared Secret with the certificates.
    #[must_use]
    pub fn declared_tls_secret(&self) -> Option<&str> {
        Some(self.tls.as_ref()?.secret_ref.as_ref()?.name.as_str())
    }
}

/// Signing key and administrator account.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// Secret with the signing key in `jwt-secret`. Optional keys: `admin-id` and `admin-password` create an
    /// administrator; `invite-codes` has the codes of `app.signUp: Invited`; `jwt-secret-accepted` is a second key whose tokens are accepted during a key rotation; `jwks.json` holds
    /// the public keys of an identity provider, `jwks-issuer` and `jwks-audience` the claims that its tokens must have.
    pub secret_ref: SecretName,
}
