//! Settings of a run, from flags and the environment. No other file reads either.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::Uri;
use load_scenarios::positive_seconds;

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
    /// Seconds after which no more users start, instead of the scenario's
    #[arg(long, value_parser = positive_seconds)]
    seconds: Option<Duration>,
    /// Base URLs of the API, `http://host:8080` or `https://host`, separated by commas
    #[arg(long, env = "SALE_URL")]
    sale_url: Option<String>,
    /// The certificates of the authorities of the API, a PEM file; absent: the public authorities
    #[arg(long, env = "SALE_CA_FILE")]
    sale_ca_file: Option<PathBuf>,
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
    #[command(flatten)]
    pods: PodOptions,
}

/// The flags of a run on several pods.
#[derive(Args)]
#[command(next_help_heading = "Several pods that share the users")]
pub struct PodOptions {
    /// Number of pods
    #[arg(long, env = "PODS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pods: u32,
    /// Number of this pod; pod 0 gives the verdict
    #[arg(long, env = "JOB_COMPLETION_INDEX", default_value_t = 0)]
    pod: u32,
    /// Where the other pods find pod 0, host:port
    #[arg(long, env = "COORDINATOR")]
    coordinator: Option<String>,
    /// Where pod 0 waits for the others
    #[arg(long, env = "LISTEN", default_value = "[::]:7070")]
    listen: SocketAddr,
}

/// The pods of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pods {
    /// How many there are
    pub number: u32,
    /// Which one this is; 0 gives the verdict
    pub index: u32,
    /// Where pod 0 is; empty if there is one pod
    pub coordinator: String,
    /// Where pod 0 waits for the others
    pub listen: SocketAddr,
}

impl Pods {
    /// One pod.
    #[must_use]
    pub fn alone() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { number: 1, index: 0, coordinator: String::new(), listen }
    }

    fn read(options: PodOptions, scenario: &Scenario) -> Result<Self, ConfigError> {
        let PodOptions { pods, pod, coordinator, listen } = options;
        if pod >= pods {
            let problem = format!("{pod} is not the number of one of {pods} pods; set PODS");
            return Err(ConfigError::new("JOB_COMPLETION_INDEX", problem));
        }
        if pods > 1 && scenario.in_turn {
            let problem = format!("users of scenario {} start in turn, in one pod", scenario.name);
            return Err(ConfigError::new("PODS", problem));
        }
        let coordinator = match given(coordinator) {
            Some(coordinator) => coordinator,
            None if pods == 1 => String::new(),
            None => return Err(missing("COORDINATOR", "--coordinator", "host:7070 of pod 0")),
        };
        Ok(Self { number: pods, index: pod, coordinator, listen })
    }
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
    /// The authorities of URLs with https; absent: the public ones
    pub sale_ca_file: Option<PathBuf>,
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
    /// The pods that share the users
    pub pods: Pods,
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
        let scenario = match options.seconds {
            None => scenario,
            Some(time) => scenario.lasting(time)?,
        };
        let sale_urls = list(options.sale_url.as_deref());
        if sale_urls.is_empty() {
            return Err(missing("SALE_URL", "--sale-url", "http://host:8080"));
        }
        for url in &sale_urls {
            check_url("SALE_URL", url, &["http://", "https://"])?;
        }
        let metrics_urls = list(options.metrics_urls.as_deref());
        for url in &metrics_urls {
            check_url("METRICS_URLS", url, &["http://"])?;
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
            pods: Pods::read(options.pods, &scenario)?,
            scenario,
            sale_ca_file: options.sale_ca_file,
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

fn check_url(name: &'static str, url: &str, schemes: &[&str]) -> Result<(), ConfigError> {
    let starts = schemes.iter().any(|scheme| url.starts_with(scheme));
    let valid = starts && url.parse::<Uri>().is_ok_and(|url| url.host().is_some());
    valid.then_some(()).ok_or_else(|| {
        let schemes = schemes.join(" or ");
        ConfigError::new(name, format!("{url:?} is not a URL that starts with {schemes}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> RunOptions {
        RunOptions {
            scenario: Some("v1-single".to_owned()),
            scenario_file: None,
            seconds: None,
            sale_ca_file: None,
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
            pods: pods(1, 0, None),
        }
    }

    fn pods(pods: u32, pod: u32, coordinator: Option<&str>) -> PodOptions {
        let coordinator = coordinator.map(str::to_owned);
        PodOptions { pods, pod, coordinator, listen: Pods::alone().listen }
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
        let tls = RunOptions { sale_url: Some("https://shop".to_owned()), ..options() };
        assert_eq!(Settings::read(tls).unwrap().sale_urls, ["https://shop"]);
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
        let seconds = error(|o| o.seconds = Some(Duration::from_secs(1)));
        assert!(seconds.starts_with("--seconds: all users"), "{seconds}");
        let index = error(|o| o.pods = pods(2, 2, Some("a:7070")));
        assert!(index.starts_with("JOB_COMPLETION_INDEX: 2 is not the number"), "{index}");
        assert!(error(|o| o.pods = pods(2, 1, None)).starts_with("COORDINATOR: is not set"));
    }
}
