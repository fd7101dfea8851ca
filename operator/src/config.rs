//! What the operator is told at start: flags and environment. No other file reads either.

use std::net::SocketAddr;

use clap::Args;

/// Settings of `flashsale-operator run`.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Reconcile this namespace only; absent: all of them.
    #[arg(long, env = "WATCH_NAMESPACE")]
    pub watch_namespace: Option<String>,
    /// Images of sales that name none.
    #[command(flatten)]
    pub images: DefaultImages,
    /// Where metrics and probes are served; `[::]` is IPv6 and IPv4, or IPv4 alone where the system
    /// has no IPv6.
    #[arg(long, env = "LISTEN", default_value = "[::]:8081")]
    pub listen: SocketAddr,
    /// Reconcile only while holding a Lease, so that several replicas may run.
    #[arg(long, env = "LEADER_ELECTION", requires = "pod_namespace")]
    pub leader_election: bool,
    /// Namespace of the Lease: the operator's own.
    #[arg(long, env = "POD_NAMESPACE")]
    pub pod_namespace: Option<String>,
    /// Name of the Lease: the same for all replicas of a release, and for no other release.
    #[arg(long, env = "LEASE_NAME", default_value = "flashsale-operator")]
    pub lease_name: String,
    /// Who holds the Lease and reports events: the operator's pod.
    #[arg(long, env = "POD_NAME", default_value = "flashsale-operator")]
    pub pod_name: String,
    /// `text` or `json`.
    #[arg(long, env = "LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// Images of sales that name none.
#[derive(Args, Clone, Debug, Default)]
pub struct DefaultImages {
    /// The purchase API.
    #[arg(long = "default-app-image", env = "DEFAULT_APP_IMAGE")]
    pub app: Option<String>,
    /// A Redis node.
    #[arg(long = "default-redis-image", env = "DEFAULT_REDIS_IMAGE")]
    pub redis: Option<String>,
    /// A sale's own database.
    #[arg(long = "default-postgres-image", env = "DEFAULT_POSTGRES_IMAGE")]
    pub postgres: Option<String>,
}

/// How log lines look.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For log collectors.
    Json,
}
