//! Names, labels, annotations and addresses of a sale's parts. Dashboards, load Jobs and users rely on them; the
//! labels of a `StatefulSet`'s template must never change.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;

use crate::crd::App;

/// Value of `app.kubernetes.io/managed-by`; the watches of children select it.
pub const MANAGED_BY: &str = "flashsale-operator";
/// Name of the volume claim template of every `StatefulSet`.
pub const VOLUME: &str = "data";
/// Field manager of the operator in server-side apply.
pub const FIELD_MANAGER: &str = "flashsale-operator";
/// Annotation of a Job: checksum of its pod template. A Job is immutable; an unfinished one is recreated when
/// the checksum differs.
pub const TEMPLATE_CHECKSUM: &str = "flashsale.dev/template-checksum";
/// Annotation of the pods of the sale's own database: checksum of the URI that it was created with.
pub const CREDENTIALS_CHECKSUM: &str = "flashsale.dev/credentials-checksum";
/// Annotation of the seed Job: checksum of the database's address, without user and password.
pub const DATABASE_CHECKSUM: &str = "flashsale.dev/database-checksum";
/// Label of data whose sale was deleted, with the name of the sale that made them.
pub const RETAINED: &str = "flashsale.dev/retained";
/// Annotation of the database's Secret: id of the database that has the sale's orders.
pub const DATABASE_ID: &str = "flashsale.dev/database-id";
/// Policy of a container whose termination message is the end of its log, if it fails without writing one.
pub const END_OF_LOG: &str = "FallbackToLogsOnError";
/// Container of a Redis node.
pub const REDIS_CONTAINER: &str = "redis";
/// Container of a sale's own database.
pub const DATABASE_CONTAINER: &str = "postgres";
/// Annotation of the Secret of a sale's own database: the image that the database runs.
pub const DATABASE_IMAGE: &str = "flashsale.dev/database-image";
/// Annotation of the Secret of a sale's own database: the major version of `PostgreSQL` on its volume.
pub const DATABASE_VERSION: &str = "flashsale.dev/database-version";
/// Annotation of a sale's data: uid of the sale.
pub const SALE_UID: &str = "flashsale.dev/sale-uid";
const INSTANCE: &str = "app.kubernetes.io/instance";
/// Label of a part and of its pods and volumes.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Maximum number of Redis nodes of a sale.
const MAX_NODES: i32 = 5;
/// Port of a Redis node.
pub const REDIS_PORT: i32 = 6379;
/// Port of the sale's own database.
pub const DATABASE_PORT: i32 = 5432;
/// Port of the purchase API.
pub const HTTP_PORT: i32 = 8080;
/// Scheme of the purchase API with TLS.
pub const HTTPS: &str = "https";
/// Port of metrics, probes and counts.
pub const METRICS_PORT: i32 = 9090;

/// Key of the certificate in a Secret of type `kubernetes.io/tls`.
pub const TLS_CERTIFICATE: &str = "tls.crt";
/// Key of the private key in the same Secret.
pub const TLS_KEY: &str = "tls.key";
/// Key of the authorities' certificates in the same Secret.
pub const CA_CERTIFICATE: &str = "ca.crt";

/// A part of a sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// A lock node.
    Redis,
    /// The sale's own database.
    Database,
    /// The purchase API.
    App,
    /// The seed Job.
    Seed,
    /// Backups of the sale's own database.
    Backup,
}

impl Component {
    /// The value of the label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Database => "database",
            Self::App => "app",
            Self::Seed => "seed",
            Self::Backup => "backup",
        }
    }

    /// Whether a pod belongs to this part.
    #[must_use]
    pub fn has(self, pod: &Pod) -> bool {
        pod.labels().get(COMPONENT).is_some_and(|component| component == self.as_str())
    }
}

/// The Secret with signing key and administrator.
#[must_use]
pub fn auth_secret(name: &str, declared: Option<&str>) -> String {
    declared.map_or_else(|| format!("{name}-auth"), str::to_owned)
}

/// Redis: its Secret, Service, `StatefulSet` and disruption budget share a name.
#[must_use]
pub fn redis(name: &str) -> String {
    format!("{name}-redis")
}

/// The Secret with the password of the Redis nodes.
#[must_use]
pub fn redis_secret(name: &str) -> String {
    redis(name)
}

/// The sale's own database: its Secret, Service and `StatefulSet` share a name.
#[must_use]
pub fn database(name: &str) -> String {
    format!("{name}-db")
}

/// The `CronJob` that backs the sale's own database up.
#[must_use]
pub fn backup_cron_job(name: &str) -> String {
    format!("{name}-backup")
}

/// The volume claim of the backups.
#[must_use]
pub fn backup_claim(name: &str) -> String {
    format!("{name}-backups")
}

/// The Secret with the connection URI, own or external.
#[must_use]
pub fn database_secret(name: &str, declared: Option<&str>) -> String {
    declared.map_or_else(|| database(name), str::to_owned)
}

/// The volume of a `StatefulSet`'s pod.
#[must_use]
pub fn volume_claim(stateful_set: &str, pod: i32) -> String {
    format!("{VOLUME}-{stateful_set}-{pod}")
}

/// The Secret with the token that the app requires of the operator.
#[must_use]
pub fn operator_secret(name: &str) -> String {
    format!("{name}-operator")
}

/// The Secret with the certificates of the Redis nodes and of the sale's own database.
#[must_use]
pub fn stores_tls_secret(name: &str, declared: Option<&str>) -> String {
    declared.map_or_else(|| format!("{name}-stores-tls"), str::to_owned)
}

/// Hosts of the Redis nodes and of the sale's own database, as pods of the namespace and of others write them. Those of
/// the nodes have no wildcard: clients accept none in front of a name with one dot.
#[must_use]
pub fn store_hosts(namespace: &str, name: &str, database: &str) -> Vec<String> {
    let service = redis(name);
    let nodes = (0..MAX_NODES).map(|node| format!("{service}-{node}.{service}"));
    let hosts: Vec<String> = nodes.chain([database.to_owned()]).collect();
    let forms = [String::new(), format!(".{namespace}"), format!(".{namespace}.svc")];
    let all = forms.iter().flat_map(|form| hosts.iter().map(move |host| format!("{host}{form}")));
    all.chain(["localhost".to_owned()]).collect()
}

/// The network policy of the app. Those of Redis and of the database are named as these parts.
#[must_use]
pub fn app_policy(name: &str) -> String {
    name.to_owned()
}

/// Port of the app's Service.
#[must_use]
pub fn service_port(app: &App) -> i32 {
    app.service.as_ref().and_then(|service| service.port).unwrap_or(HTTP_PORT)
}

/// The `ConfigMap` with the products.
#[must_use]
pub fn catalog(name: &str) -> String {
    format!("{name}-catalog")
}

/// The headless Service that resolves to every replica of the app.
#[must_use]
pub fn pods(name: &str) -> String {
    format!("{name}-pods")
}

/// The replicas inside the cluster, with their metrics port.
#[must_use]
pub fn pods_host(namespace: &str, name: &str) -> String {
    format!("{}.{namespace}.svc", pods(name))
}

/// The Service of the app inside the cluster.
#[must_use]
pub fn app_host(namespace: &str, name: &str) -> String {
    format!("{name}.{namespace}.svc")
}

/// Scheme of the app's URL, and name of its port.
#[must_use]
pub fn scheme(app: &App) -> &'static str {
    if app.tls.is_some() { HTTPS } else { "http" }
}

/// Addresses of all Redis nodes, in order, comma separated.
#[must_use]
pub fn redis_nodes(namespace: &str, name: &str, nodes: i32) -> String {
    redis_addresses(namespace, name, nodes).collect::<Vec<_>>().join(",")
}

/// Address of each Redis node, in order.
pub fn redis_addresses(namespace: &str, name: &str, nodes: i32) -> impl Iterator<Item = String> {
    let (service, namespace) = (redis(name), namespace.to_owned());
    (0..nodes).map(move |i| format!("{service}-{i}.{service}.{namespace}.svc:{REDIS_PORT}"))
}

/// The sale's name in its database, unique in the cluster. A database belongs to one sale.
#[must_use]
pub fn sale_name(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// Labels of the pods of a part.
#[must_use]
pub fn labels(name: &str, component: Component) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "flashsale"),
        (INSTANCE, name),
        (COMPONENT, component.as_str()),
        ("app.kubernetes.io/managed-by", MANAGED_BY),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// Label selector of all pods of a sale, as a query.
#[must_use]
pub fn sale_selector(name: &str) -> String {
    format!("{INSTANCE}={name},app.kubernetes.io/managed-by={MANAGED_BY}")
}

/// Label selector of a part, as a query.
#[must_use]
pub fn selector(name: &str, component: Component) -> String {
    let labels = labels(name, component).into_iter();
    labels.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// Label selector of a part, as part of an object. Selectors of workloads are immutable.
#[must_use]
pub fn label_selector(name: &str, component: Component) -> LabelSelector {
    LabelSelector { match_labels: Some(labels(name, component)), ..LabelSelector::default() }
}
