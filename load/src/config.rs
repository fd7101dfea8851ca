//! Settings of a run, from flags and the environment. No other file reads either.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::error::ConfigError;
use crate::scenario::Scenario;

/// What a missed timing target means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TimingTargets {
    /// The run fails
    Judge,
    /// The report shows it and the run passes: for debug builds and busy machines
    Report,
}

/// The flags of `run`.
#[derive(Args)]
pub struct RunOptions {
    /// A built-in scenario (see `flashsale-load scenarios`)
    #[arg(long, required_unless_present = "scenario_file", conflicts_with = "scenario_file")]
    scenario: Option<String>,
    /// A scenario of your own, a YAML file like those under load/scenarios
    #[arg(long)]
    scenario_file: Option<PathBuf>,
    /// Base URLs of the API, `http://host:8080`, separated by commas
    #[arg(long, env = "SALE_URL")]
    sale_url: Option<String>,
    /// The replicas' metrics as host:9090; every address the name resolves to is read
    #[arg(long, env = "METRICS_HOST")]
    metrics_host: Option<String>,
    /// The replicas' metrics as `http://host:9090/metrics`, separated by commas; overrides `METRICS_HOST`
    #[arg(long, env = "METRICS_URLS")]
    metrics_urls: Option<String>,
    /// All Redis nodes of the sale as host:port, separated by commas
    #[arg(long, env = "REDIS_NODES")]
    redis_nodes: Option<String>,
    /// The password of every Redis node, if they have one
    #[arg(long, env = "REDIS_PASSWORD", hide_env_values = true)]
    redis_password: Option<String>,
    /// The certificates of the authorities of the Redis nodes, a PEM file, if they have TLS
    #[arg(long, env = "REDIS_CA_FILE")]
    redis_ca_file: Option<PathBuf>,
    /// The sale's database, `postgres://...` or `sqlite://path`
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// The certificates of the authorities of the database, a PEM file, if it has TLS
    #[arg(long, env = "DATABASE_CA_FILE")]
    database_ca_file: Option<PathBuf>,
    /// The signing key of the sale (HS256); the users' tokens are signed with it
    #[arg(long, env = "JWT_SECRET", hide_env_values = true)]
    jwt_secret: Option<String>,
    /// The product to buy
    #[arg(long, env = "PRODUCT_ID", default_value = "1")]
    product_id: String,
    /// Whether a missed timing target fails the run; correctness always counts
    #[arg(long, value_enum, default_value = "judge")]
    targets: TimingTargets,
    /// Seconds to wait at the start until the sale, its nodes and its database are reachable
    #[arg(long, default_value_t = 0)]
    wait_seconds: u64,
}

impl fmt::Debug for RunOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Some fields are secrets, so no field is printed.
        f.debug_struct("RunOptions").finish_non_exhaustive()
    }
}

/// Where the replicas' metrics are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricsSource {
    /// Every address of this `host:port`
    Host(String),
    /// These URLs
    Urls(Vec<String>),
}

/// What a run needs, complete.
#[derive(Clone)]
pub struct Settings {
    /// The scenario
    pub scenario: Scenario,
    /// Base URLs of the API, without a slash at the end
    pub sale_urls: Vec<String>,
    /// The replicas' metrics
    pub metrics: MetricsSource,
    /// `host:port` of each Redis node
    pub redis_nodes: Vec<String>,
    /// Their password
    pub redis_password: Option<String>,
    /// Their authorities; absent: plain text
    pub redis_ca_file: Option<PathBuf>,
    /// The database
    pub database_url: String,
    /// Its authorities; absent: the URL decides about TLS
    pub database_ca_file: Option<PathBuf>,
    /// Signs the users' tokens
    pub jwt_secret: String,
    /// The product to buy
    pub product_id: String,
    /// What a missed timing target means
    pub timing_targets: TimingTargets,
    /// How long to wait at the start until the sale is reachable
    pub wait: Duration,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("scenario", &self.scenario.name).finish_non_exhaustive()
    }
}

impl Settings {
    /// Checks the options.
    ///
    /// # Errors
    /// The first setting that is missing or wrong.
    pub fn read(options: RunOptions) -> Result<Self, ConfigError> {
        let scenario = match (&options.scenario_file, &options.scenario) {
            (Some(path), _) => Scenario::from_file(path)?,
            (None, Some(name)) => Scenario::named(name)?,
            (None, None) => return Err(ConfigError::new("--scenario", "is not given")),
        };
        let sale_urls = list(options.sale_url.as_deref());
        if sale_urls.is_empty() {
            return Err(missing("SALE_URL", "--sale-url", "http://host:8080"));
        }
        for url in &sale_urls {
            http("SALE_URL", url)?;
        }
        let metrics_urls = list(options.metrics_urls.as_deref());
        for url in &metrics_urls {
            http("METRICS_URLS", url)?;
        }
        let metrics = match given(options.metrics_host) {
            _ if !metrics_urls.is_empty() => MetricsSource::Urls(metrics_urls),
            Some(host) => MetricsSource::Host(host),
            None => {
                return Err(missing(
                    "METRICS_HOST",
                    "--metrics-host",
                    "host:9090, or METRICS_URLS",
                ));
            }
        };
        let redis_nodes: Vec<String> = list(options.redis_nodes.as_deref())
            .iter()
            .map(|node| node.trim_start_matches("redis://").to_owned())
            .collect();
        if redis_nodes.len() != scenario.nodes {
            let problem = format!(
                "names {} node(s), but scenario {} is for a sale with {}; \
                 give host:port of every node, separated by commas, or choose another scenario",
                redis_nodes.len(),
                scenario.name,
                scenario.nodes
            );
            return Err(ConfigError::new("REDIS_NODES", problem));
        }
        let database_url = given(options.database_url).ok_or_else(|| {
            missing("DATABASE_URL", "--database-url", "postgres://... or sqlite://path")
        })?;
        let jwt_secret = given(options.jwt_secret)
            .ok_or_else(|| missing("JWT_SECRET", "--jwt-secret", "the key of the sale's tokens"))?;
        Ok(Self {
            scenario,
            sale_urls: sale_urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect(),
            metrics,
            redis_nodes,
            redis_password: given(options.redis_password),
            redis_ca_file: options.redis_ca_file,
            database_url,
            database_ca_file: options.database_ca_file,
            jwt_secret,
            product_id: options.product_id,
            timing_targets: options.targets,
            wait: Duration::from_secs(options.wait_seconds),
        })
    }
}

/// Without trailing line ends, as in the app; an empty variable counts as absent.
fn given(value: Option<String>) -> Option<String> {
    let value = value?.trim_end_matches(['\r', '\n']).to_owned();
    (!value.trim().is_empty()).then_some(value)
}

fn list(value: Option<&str>) -> Vec<String> {
    let items = value.unwrap_or_default().split(',').map(str::trim);
    items.filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

fn missing(name: &'static str, flag: &str, expected: &str) -> ConfigError {
    ConfigError::new(name, format!("is not set; set it, or give {flag}, to {expected}"))
}

fn http(name: &'static str, url: &str) -> Result<(), ConfigError> {
    let valid = url.starts_with("http://") && reqwest::Url::parse(url).is_ok();
    valid.then_some(()).ok_or_else(|| {
        ConfigError::new(name, format!("{url:?} is not a URL that starts with http://"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> RunOptions {
        RunOptions {
            scenario: Some("v1-single".to_owned()),
            scenario_file: None,
            sale_url: Some("http://a:8080/, http://b:8080".to_owned()),
            metrics_host: Some("pods:9090".to_owned()),
            metrics_urls: None,
            redis_nodes: Some("redis://r:6379".to_owned()),
            redis_password: Some(String::new()),
            redis_ca_file: None,
            database_ca_file: None,
            database_url: Some("sqlite://sale.db".to_owned()),
            jwt_secret: Some("0123456789abcdef0123456789abcdef".to_owned()),
            product_id: "1".to_owned(),
            targets: TimingTargets::Judge,
            wait_seconds: 0,
        }
    }

    fn error(change: impl FnOnce(&mut RunOptions)) -> String {
        let mut options = options();
        change(&mut options);
        Settings::read(options).unwrap_err().to_string()
    }

    #[test]
    fn reads_lists() {
        let settings = Settings::read(options()).unwrap();
        assert_eq!(settings.sale_urls, ["http://a:8080", "http://b:8080"]);
        assert_eq!(settings.redis_nodes, ["r:6379"]);
        assert_eq!(settings.redis_password, None);
        assert_eq!(settings.metrics, MetricsSource::Host("pods:9090".to_owned()));
    }

    #[test]
    fn line_ends_after_a_value_are_no_part_of_it() {
        let key = "0123456789abcdef0123456789abcdef";
        let options = RunOptions {
            jwt_secret: Some(format!("{key}\n")),
            redis_password: Some(" pass word\r\n".to_owned()),
            database_url: Some("sqlite://sale.db\n".to_owned()),
            ..options()
        };
        let settings = Settings::read(options).unwrap();
        assert_eq!(settings.jwt_secret, key);
        assert_eq!(settings.redis_password.as_deref(), Some(" pass word"));
        assert_eq!(settings.database_url, "sqlite://sale.db");
    }

    #[test]
    fn errors_name_the_variable() {
        assert!(error(|o| o.sale_url = None).starts_with("SALE_URL: is not set"));
        assert!(error(|o| o.sale_url = Some("shop:8080".to_owned())).starts_with("SALE_URL: "));
        assert!(error(|o| o.metrics_host = None).starts_with("METRICS_HOST: "));
        assert!(error(|o| o.metrics_urls = Some("a".to_owned())).starts_with("METRICS_URLS: "));
        assert!(error(|o| o.redis_nodes = None).starts_with("REDIS_NODES: names 0 node(s)"));
        assert!(error(|o| o.database_url = Some(" ".to_owned())).starts_with("DATABASE_URL: "));
        assert!(error(|o| o.jwt_secret = None).starts_with("JWT_SECRET: "));
        assert!(error(|o| o.scenario = Some("x".to_owned())).starts_with("--scenario: "));
    }
}
