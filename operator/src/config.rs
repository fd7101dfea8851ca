//! Settings from flags and the environment. No other file reads either.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use clap::Args;

/// Settings of `flashsale-operator run`.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Namespace to reconcile; absent: all namespaces.
    #[arg(long, env = "WATCH_NAMESPACE")]
    pub watch_namespace: Option<String>,
    /// Images of sales that do not set their own.
    #[command(flatten)]
    pub images: DefaultImages,
    /// Listening address of metrics and probes; `[::]` is IPv6 and IPv4, or IPv4 alone on a system without
    /// IPv6.
    #[arg(long, env = "LISTEN", default_value = "[::]:8081")]
    pub listen: SocketAddr,
    /// Reconcile only while holding a Lease, so that several replicas can run.
    #[arg(long, env = "LEADER_ELECTION", requires = "pod_namespace")]
    pub leader_election: bool,
    /// Namespace of the Lease: the namespace of the operator.
    #[arg(long, env = "POD_NAMESPACE")]
    pub pod_namespace: Option<String>,
    /// Name of the Lease: shared by all replicas of a release, unique among releases.
    #[arg(long, env = "LEASE_NAME", default_value = "flashsale-operator")]
    pub lease_name: String,
    /// Name of the operator's pod: the holder of the Lease and the reporter of events.
    #[arg(long, env = "POD_NAME", default_value = "flashsale-operator")]
    pub pod_name: String,
    /// Labels of the operator's pods, such as `a=b,c=d`: network policies of sales admit pods with these labels in the
    /// operator's namespace. Absent: all pods of that namespace.
    #[arg(long, env = "POD_LABELS", default_value = "", value_parser = labels)]
    pub pod_labels: Labels,
    /// Log format: `text` or `json`.
    #[arg(long, env = "LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// Images of sales that do not set their own.
#[derive(Args, Clone, Debug, Default)]
pub struct DefaultImages {
    /// Image of the purchase API.
    #[arg(long = "default-app-image", env = "DEFAULT_APP_IMAGE")]
    pub app: Option<String>,
    /// Image of a Redis node.
    #[arg(long = "default-redis-image", env = "DEFAULT_REDIS_IMAGE")]
    pub redis: Option<String>,
    /// Image of a sale's own database.
    #[arg(long = "default-postgres-image", env = "DEFAULT_POSTGRES_IMAGE")]
    pub postgres: Option<String>,
}

/// Labels of a pod.
pub type Labels = BTreeMap<String, String>;

fn labels(text: &str) -> Result<Labels, String> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let label = |pair: &str| {
        let (key, value) = pair.split_once('=').ok_or(format!("{pair:?} is not key=value"))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    pairs.map(label).collect()
}

/// Log format.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Human-readable lines.
    Text,
    /// One JSON object per line, for log collectors.
    Json,
}
