//! Settings from flags and the environment. No other file reads either.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use tracing_subscriber::EnvFilter;

/// Settings of `flashsale-operator run`.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Namespaces with the sales to reconcile.
    #[command(flatten)]
    pub watch: WatchedNamespaces,
    /// Images of sales that do not set their own.
    #[command(flatten)]
    pub images: DefaultImages,
    /// Listening address of metrics and probes; `[::]` is IPv6 and IPv4, or IPv4 alone on a system without
    /// IPv6.
    #[arg(long, env = "LISTEN", default_value = "[::]:8081")]
    pub listen: SocketAddr,
    /// Folder with `tls.crt` and `tls.key`, such as a mounted Secret of cert-manager: metrics and probes are
    /// served over TLS. Absent: over HTTP. Changed files take effect without a restart.
    #[arg(long, env = "TLS_CERT_DIR")]
    pub tls_cert_dir: Option<PathBuf>,
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
    /// Log filter, as `tracing_subscriber::EnvFilter` reads it.
    #[arg(long = "rust-log", env = "RUST_LOG", default_value = "info,kube_runtime=warn,kube_lease_manager=warn",
        value_parser = log_filter)]
    pub log_filter: String,
}

/// Namespaces with the sales to reconcile.
#[derive(Args, Clone, Debug, Default)]
pub struct WatchedNamespaces {
    /// Namespaces to reconcile, separated by commas; the flag can be repeated. Absent: all namespaces.
    #[arg(
        long = "watch-namespace",
        env = "WATCH_NAMESPACE",
        value_name = "NAMESPACE",
        value_delimiter = ',',
        value_parser = namespace
    )]
    pub namespaces: Vec<String>,
    /// Namespaces of the `OperatorGroup` as OLM writes them into an annotation of the pod, separated by commas.
    /// Empty: all namespaces.
    #[arg(
        long,
        env = "OLM_TARGET_NAMESPACES",
        value_name = "NAMESPACES",
        value_parser = target_namespaces,
        conflicts_with = "namespaces"
    )]
    pub olm_target_namespaces: Option<TargetNamespaces>,
}

impl WatchedNamespaces {
    /// Their names; none: all namespaces.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        self.olm_target_namespaces.unwrap_or(self.namespaces)
    }
}

/// Namespaces of an `OperatorGroup`.
pub type TargetNamespaces = Vec<String>;

fn target_namespaces(text: &str) -> Result<TargetNamespaces, String> {
    if text.is_empty() { Ok(Vec::new()) } else { text.split(',').map(namespace).collect() }
}

fn log_filter(text: &str) -> Result<String, String> {
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("{error}; expected for example info,flashsale_operator=debug")),
    }
}

/// A namespace's name without surrounding blanks.
fn namespace(text: &str) -> Result<String, String> {
    let name = text.trim();
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != b'-');
    let bytes = name.as_bytes();
    if bytes.is_empty() {
        return Err(
            "the name of a namespace is empty; to watch all namespaces, set none".to_owned()
        );
    }
    if bytes.len() > 63
        || !bytes.iter().copied().all(allowed)
        || !edge(bytes.first())
        || !edge(bytes.last())
    {
        return Err("not the name of a namespace: a-z, 0-9 and `-`, at most 63".to_owned());
    }
    Ok(name.to_owned())
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        watch: WatchedNamespaces,
    }

    fn namespaces(arguments: &[&str]) -> Result<Vec<String>, String> {
        let arguments = std::iter::once(&"operator").chain(arguments);
        let parsed = Cli::try_parse_from(arguments).map_err(|error| error.to_string())?;
        Ok(parsed.watch.names())
    }

    #[test]
    fn namespaces_are_separated_by_commas_or_flags() {
        assert_eq!(namespaces(&[]).unwrap(), Vec::<String>::new());
        assert_eq!(namespaces(&["--watch-namespace", "a, b"]).unwrap(), ["a", "b"]);
        let repeated = ["--watch-namespace=a,b", "--watch-namespace=c"];
        assert_eq!(namespaces(&repeated).unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn an_empty_list_of_olm_means_all_namespaces() {
        assert_eq!(namespaces(&["--olm-target-namespaces="]).unwrap(), Vec::<String>::new());
        assert_eq!(namespaces(&["--olm-target-namespaces=a,b"]).unwrap(), ["a", "b"]);
        for wrong in ["a,,b", ",", "A"] {
            let error = namespaces(&[&format!("--olm-target-namespaces={wrong}")]).unwrap_err();
            assert!(error.contains("name of a namespace"), "{wrong:?}: {error}");
        }
        let both = ["--olm-target-namespaces=a", "--watch-namespace=b"];
        assert!(namespaces(&both).unwrap_err().contains("cannot be used with"));
    }

    #[test]
    fn a_wrong_log_filter_is_refused_and_named() {
        assert_eq!(log_filter("info,kube=debug"), Ok("info,kube=debug".to_owned()));
        let error = log_filter("kube=loud").unwrap_err();
        assert!(error.contains("expected for example info,flashsale_operator=debug"), "{error}");
    }

    #[test]
    fn what_no_namespace_is_called_is_refused() {
        for wrong in ["", "a,,b", "A", "-a", "a-", "a.b", "a b"] {
            let error = namespaces(&[&format!("--watch-namespace={wrong}")]).unwrap_err();
            assert!(error.contains("name of a namespace"), "{wrong:?}: {error}");
        }
    }
}
