//! Configuration. The only place that reads the environment; every setting is here.

mod auth;
mod cors;
mod help;
mod http;
mod listeners;
mod sale;
mod source;
mod trimmed;
mod values;

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use self::auth::AuthConfig;
pub use self::help::{SEED_SETTINGS, SERVE_SETTINGS};
pub use self::source::{ConfigError, Environment, Source};
use self::trimmed::Trimmed;
use self::values::{number, optional, required, time, wrong};
use crate::api::{AllowedOrigins, ListenersConfig};
use crate::auth::check_credentials;
use crate::bounds;
use crate::http::HttpConfig;
use ::sale::{LockConfig, SaleConfig};

/// Where the order is decided.
// No `Debug`: it holds secrets.
#[derive(Clone)]
pub struct DatabaseConfig {
    /// `DATABASE_URL`
    pub url: String,
    /// `DATABASE_MAX_CONNECTIONS`
    pub max_connections: u32,
    /// `SALE_NAME`: the sale that the database belongs to
    pub sale_name: String,
}

/// What `serve` needs.
// No `Debug`: it holds secrets.
#[derive(Clone)]
pub struct ServeConfig {
    /// See [`DatabaseConfig`].
    pub database: DatabaseConfig,
    /// See [`SaleConfig`].
    pub sale: SaleConfig,
    /// See [`AuthConfig`].
    pub auth: AuthConfig,
    /// See [`HttpConfig`].
    pub http: HttpConfig,
    /// See [`ListenersConfig`].
    pub listeners: ListenersConfig,
    /// See [`AllowedOrigins`].
    pub cors: Option<AllowedOrigins>,
    /// `HOSTNAME`, the pod's name
    pub replica: String,
    /// `LISTEN`
    pub listen: SocketAddr,
    /// `METRICS_LISTEN`
    pub metrics_listen: SocketAddr,
}

/// What `seed` needs.
// No `Debug`: it holds secrets.
#[derive(Clone)]
pub struct SeedConfig {
    /// See [`DatabaseConfig`].
    pub database: DatabaseConfig,
    /// See [`LockConfig`].
    pub lock: LockConfig,
    /// `CATALOG_FILE`
    pub catalog_file: PathBuf,
    /// `ADMIN_ID` and `ADMIN_PASSWORD`
    pub admin: Option<(String, String)>,
    /// `DATABASE_ID`
    pub database_id: Option<String>,
    /// `SEED_TIMEOUT_SECONDS`
    pub timeout: Duration,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines, one object a line.
    Json,
}

impl ServeConfig {
    /// Reads all settings of `serve`.
    ///
    /// # Errors
    /// The first setting that is missing or wrong.
    pub fn read(source: &impl Source) -> Result<Self, ConfigError> {
        let source = &Trimmed(source);
        let address = |name, port| {
            let address = optional(source, name, "an address like [::]:8080")?;
            Ok(address.unwrap_or((Ipv6Addr::UNSPECIFIED, port).into()))
        };
        let database = DatabaseConfig::read(source)?;
        Ok(Self {
            sale: sale::read_sale(source, &database.sale_name)?,
            database,
            auth: AuthConfig::read(source)?,
            http: http::read(source)?,
            listeners: listeners::read(source)?,
            cors: cors::read(source)?,
            replica: source.get("HOSTNAME").unwrap_or_default(),
            listen: address("LISTEN", 8080)?,
            metrics_listen: address("METRICS_LISTEN", 9090)?,
        })
    }
}

impl SeedConfig {
    /// Reads all settings of `seed`.
    ///
    /// # Errors
    /// The first setting that is missing or wrong.
    pub fn read(source: &impl Source) -> Result<Self, ConfigError> {
        let source = &Trimmed(source);
        let admin = match (source.get("ADMIN_ID"), source.get("ADMIN_PASSWORD")) {
            (Some(id), Some(password)) => {
                check_credentials(&id, &password)
                    .map_err(|error| wrong("ADMIN_ID, ADMIN_PASSWORD", error.to_string()))?;
                Some((id, password))
            }
            (None, None) => None,
            (Some(_), None) => return Err(wrong("ADMIN_PASSWORD", "is needed with ADMIN_ID")),
            (None, Some(_)) => return Err(wrong("ADMIN_ID", "is needed with ADMIN_PASSWORD")),
        };
        Ok(Self {
            database: DatabaseConfig::read(source)?,
            lock: sale::read_lock(source)?,
            catalog_file: required(source, "CATALOG_FILE", "the path of the JSON catalog")?.into(),
            admin,
            database_id: source.get("DATABASE_ID"),
            timeout: time(source, "SEED_TIMEOUT_SECONDS", Duration::from_mins(2))?,
        })
    }
}

impl DatabaseConfig {
    /// Reads where the database is.
    ///
    /// # Errors
    /// The first setting that is missing or wrong.
    pub fn read(source: &impl Source) -> Result<Self, ConfigError> {
        let source = &Trimmed(source);
        let url = required(source, "DATABASE_URL", "postgres://user@host/name or sqlite://path")?;
        let bounds = bounds::DATABASE_CONNECTIONS;
        let max_connections = number(source, "DATABASE_MAX_CONNECTIONS", 8, bounds)?;
        let sale_name = source.get("SALE_NAME").unwrap_or_else(|| DEFAULT_SALE.to_owned());
        check_sale_name(&sale_name).map_err(|problem| wrong("SALE_NAME", problem))?;
        Ok(Self { url, max_connections, sale_name })
    }
}

/// A sale without a name has this one, so that it shares no database with sales that have names.
const DEFAULT_SALE: &str = "default";

/// Checks the name of a sale; the operator's is `namespace/name`.
///
/// # Errors
/// The rule that it breaks.
pub fn check_sale_name(name: &str) -> Result<(), &'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_/".contains(&byte);
    if (1..=320).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    Err("must be 1 to 320 letters, digits, '.', '_', '-' or '/', like shop/black-friday")
}

impl LogFormat {
    /// Reads `LOG_FORMAT`.
    ///
    /// # Errors
    /// When it is neither `text` nor `json`.
    pub fn read(source: &impl Source) -> Result<Self, ConfigError> {
        match Trimmed(source).get("LOG_FORMAT").as_deref() {
            None | Some("text") => Ok(Self::Text),
            Some("json") => Ok(Self::Json),
            Some(_) => Err(wrong("LOG_FORMAT", "must be text or json")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    struct Settings(HashMap<&'static str, &'static str>);

    impl Source for Settings {
        fn get(&self, name: &str) -> Option<String> {
            self.0.get(name).map(|&value| value.to_owned())
        }
    }

    fn settings(changes: &[(&'static str, &'static str)]) -> Settings {
        let mut settings = HashMap::from([
            ("DATABASE_URL", "sqlite://sale.db"),
            ("REDIS_NODES", "a:6379, b:6379 ,c:6379"),
            ("JWT_SECRET", "0123456789abcdef0123456789abcdef"),
        ]);
        settings.extend(changes.iter().copied());
        Settings(settings)
    }

    fn message(name: &'static str, value: &'static str) -> String {
        ServeConfig::read(&settings(&[(name, value)])).err().unwrap().to_string()
    }

    #[test]
    fn has_defaults() {
        let config = ServeConfig::read(&settings(&[])).unwrap();
        assert_eq!(config.sale.lock.nodes.nodes.len(), 3);
        assert_eq!(config.sale.lock.nodes.nodes[1].address, "b:6379");
        assert_eq!(config.sale.lock.policy.lease_time, Duration::from_secs(5));
        assert_eq!(config.listen.port(), 8080);
    }

    #[test]
    fn one_node_without_redlock() {
        let settings = settings(&[("USE_REDLOCK", "false"), ("LOCK_TIMEOUT_SECONDS", "0.5")]);
        let config = ServeConfig::read(&settings).unwrap();
        assert_eq!(config.sale.lock.nodes.nodes.len(), 1);
        assert_eq!(config.sale.lock.policy.lease_time, Duration::from_millis(500));
    }

    #[test]
    fn errors_name_the_setting() {
        assert!(message("JWT_SECRET", "short").starts_with("JWT_SECRET: "));
        assert!(message("JWT_ACCEPTED_SECRET", "short").starts_with("JWT_ACCEPTED_SECRET: "));
        assert!(message("JWKS_ISSUER", "shop").starts_with("JWKS_ISSUER: "));
        assert!(message("SALE_NAME", "black friday").starts_with("SALE_NAME: must be 1 to 320"));
        assert!(message("HTTP_MAX_CONNECTIONS", "0").starts_with("HTTP_MAX_CONNECTIONS: "));
        assert!(message("LOCK_WAIT_SECONDS", "0").starts_with("LOCK_WAIT_SECONDS: "));
        assert!(message("LOCK_WAIT_SECONDS", "soon").starts_with("LOCK_WAIT_SECONDS: "));
        assert!(message("LOCK_ORDER", "fifo").starts_with("LOCK_ORDER: "));
        assert!(message("LOCK_WAIT_SECONDS", "1e19").starts_with("LOCK_WAIT_SECONDS: "));
        assert!(message("LOCK_TIMEOUT_SECONDS", "0.1").starts_with("LOCK_TIMEOUT_SECONDS: "));
        assert!(message("REDIS_NODES", " , ").starts_with("REDIS_NODES: "));
        assert!(message("STRATEGY", "Atomic").starts_with("STRATEGY: Atomic needs one node"));
        assert!(message("STRATEGY", "Both").starts_with("STRATEGY: "));
        assert!(message("COMPARE_SECONDS", "0").starts_with("COMPARE_SECONDS: "));
        assert!(message("LOAD_SECONDS", "often").starts_with("LOAD_SECONDS: "));
        assert!(message("USE_REDLOCK", "maybe").starts_with("USE_REDLOCK: "));
        assert!(message("SALE_STARTS_AT", "tomorrow").starts_with("SALE_STARTS_AT: "));
        let error = ServeConfig::read(&Settings(HashMap::new())).err().unwrap().to_string();
        assert!(error.contains("is not set"), "{error}");
    }
}
