//! Names in the pods of a sale that belong to the operator. A pod template that declares one of them is refused. A test
//! compares them with the built pods.

use super::settings::{self, Setting};

/// Names that belong to the operator in the pods of one part.
#[derive(Clone, Copy, Debug)]
pub struct Reserved {
    /// Environment variables that the part shares with another one.
    shared_env: &'static [&'static str],
    /// Its other environment variables, including those that only some sales have.
    own_env: &'static [&'static str],
    /// Settings of its program that are left to users.
    pub settings: &'static [Setting],
    /// Volumes.
    pub volumes: &'static [&'static str],
    /// Folders that the operator mounts.
    pub paths: &'static [&'static str],
    /// Container.
    pub container: &'static str,
    /// Whether the pods end by themselves, as those of a Job.
    pub ends: bool,
}

impl Reserved {
    /// All environment variables.
    #[must_use]
    pub fn env(&self) -> Vec<&'static str> {
        [self.shared_env, self.own_env].concat()
    }
}

/// Prefix of the operator's own labels and annotations.
pub const PREFIX: &str = "flashsale.dev/";

/// Labels that select the pods.
pub const LABELS: [&str; 4] = [
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app.kubernetes.io/managed-by",
];

/// Folder of the certificates of Redis and of the database.
const STORES_TLS: &str = "/etc/flashsale-stores";

/// A Redis node.
pub const REDIS: Reserved = Reserved {
    shared_env: &[],
    own_env: &["REDIS_PASSWORD", "REDIS_PASSWORD_ACCEPTED", "REDISCLI_AUTH"],
    settings: &[],
    volumes: &["data", "stores-tls"],
    paths: &["/data", STORES_TLS],
    container: "redis",
    ends: false,
};

/// The sale's own database.
pub const DATABASE: Reserved = Reserved {
    shared_env: &[],
    own_env: &["POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB", "PGDATA"],
    settings: &[],
    volumes: &["data", "run", "tmp", "stores-tls"],
    paths: &["/var/lib/postgresql/data", "/var/run/postgresql", "/tmp", STORES_TLS],
    container: "postgres",
    ends: false,
};

/// What the purchase API and the seed Job share: the stores, the lock and the times of the sale.
const STORES_AND_LOCK: &[&str] = &[
    "DATABASE_URL",
    "SALE_NAME",
    "USE_REDLOCK",
    "REDIS_NODES",
    "REDIS_PASSWORD",
    "REDIS_CA_FILE",
    "DATABASE_CA_FILE",
    "LOCK_TIMEOUT_SECONDS",
    "LOCK_LONGEST_LEASE_SECONDS",
    "LOCK_WAIT_SECONDS",
    "LOCK_NODE_TIMEOUT_SECONDS",
    "LOCK_ORDER",
    "LOG_FORMAT",
    "STRATEGY",
    "SALE_STARTS_AT",
    "SALE_ENDS_AT",
];

/// The purchase API.
pub const APP: Reserved = Reserved {
    shared_env: STORES_AND_LOCK,
    own_env: &[
        "JWT_SECRET",
        "JWT_ACCEPTED_SECRET",
        "JWKS_ISSUER",
        "JWKS_AUDIENCE",
        "JWKS_FILE",
        "LISTEN",
        "METRICS_LISTEN",
        "TRUSTED_PROXIES",
        "SIGN_UP",
        "INVITE_CODES",
        "RETENTION_DAYS",
        "HTTP_MAX_CONNECTIONS",
        "EVENT_LISTENERS",
        "EVENT_LISTENERS_PER_ADDRESS",
        "EVENT_KEEP_ALIVE_SECONDS",
        "HTTP_IDLE_TIMEOUT_SECONDS",
        "HTTP_DRAIN_SECONDS",
        "OPERATOR_TOKEN",
        "TLS_CERT_FILE",
        "TLS_KEY_FILE",
        "CORS_ALLOWED_ORIGINS",
        "COMPARE_SECONDS",
        "HOLD_SECONDS",
        "LOAD_SECONDS",
        "STRIPE_WEBHOOK_FILE",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_TRACES_SAMPLER",
        "OTEL_TRACES_SAMPLER_ARG",
        "EVENTS_WEBHOOK_URL",
        "EVENTS_WEBHOOK_SECRET",
        "EVENTS_WEBHOOK_STATES",
        "EVENTS_WEBHOOK_CA_FILE",
        "EVENTS_NATS_SERVERS",
        "EVENTS_NATS_SUBJECT",
        "EVENTS_NATS_STREAM",
        "EVENTS_NATS_STATES",
        "EVENTS_NATS_CA_FILE",
        "EVENTS_NATS_USERNAME",
        "EVENTS_NATS_PASSWORD",
        "EVENTS_NATS_TOKEN",
        "EVENTS_NATS_NKEY",
        "EVENTS_NATS_CREDENTIALS",
    ],
    settings: settings::APP,
    volumes: &["jwks", "tls", "stripe", "stores-tls", "events-ca", "events-nats-ca"],
    paths: &["/etc/flashsale", "/etc/flashsale-events", "/etc/flashsale-events-nats", STORES_TLS],
    container: "app",
    ends: false,
};

/// The seed Job.
pub const SEED: Reserved = Reserved {
    shared_env: STORES_AND_LOCK,
    own_env: &["CATALOG_FILE", "ADMIN_ID", "ADMIN_PASSWORD", "DATABASE_ID", "TAKE_OVER_DATABASE"],
    settings: settings::SEED,
    volumes: &["catalog", "stores-tls"],
    paths: &["/etc/flashsale", STORES_TLS],
    container: "seed",
    ends: true,
};
