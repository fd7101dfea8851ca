//! Configuration. The only place that reads the environment and flags.
//!
//! A file per concern. It declares each setting once: name, help text, default and bounds. It turns the
//! settings into the configuration of a layer, and checks rules across settings.

mod arguments;
mod auth;
mod buyers;
mod cors;
mod database;
mod error;
mod event_states;
mod events;
mod events_nats;
mod http;
mod listeners;
mod lock;
mod log;
mod payments;
mod sale;
mod seed;
mod serve;
mod tls;
mod traces;
mod values;

pub use self::arguments::{ParseError, parse_process};
pub use self::auth::AuthConfig;
pub use self::buyers::BuyersConfig;
pub use self::database::{DatabaseConfig, DatabaseUrl, sale_name};
pub use self::error::ConfigError;
pub use self::http::SocketsConfig;
pub use self::log::{LogConfig, LogFormat};
pub use self::payments::PaymentsConfig;
pub use self::seed::{SeedArgs, SeedConfig};
pub use self::serve::{ServeArgs, ServeConfig};

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use clap::{Args, Command};
    use redlock::Policy;

    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    type Settings = HashMap<&'static str, &'static str>;

    fn settings(changes: &[(&'static str, &'static str)]) -> Settings {
        let mut settings = HashMap::from([
            ("DATABASE_URL", "sqlite://sale.db"),
            ("REDIS_NODES", "a:6379, b:6379 ,c:6379"),
            ("JWT_SECRET", KEY),
        ]);
        settings.extend(changes.iter().copied());
        settings
    }

    fn read(settings: &Settings) -> Result<ServeConfig, ParseError> {
        ServeConfig::from_variables(|name| settings.get(name).map(|&value| value.to_owned()))
    }

    fn read_seed(settings: &Settings) -> Result<SeedConfig, ParseError> {
        SeedConfig::from_variables(|name| settings.get(name).map(|&value| value.to_owned()))
    }

    fn message(name: &'static str, value: &'static str) -> String {
        read(&settings(&[(name, value)])).err().unwrap().to_string()
    }

    #[test]
    fn has_defaults() {
        let config = read(&settings(&[])).unwrap();
        assert_eq!(config.sale.lock.nodes.nodes.len(), 3);
        assert_eq!(config.sale.lock.nodes.nodes[1].address, "b:6379");
        assert_eq!(config.sale.lock.policy, Policy::default());
        assert_eq!(config.sockets.api.port(), 8080);
        assert_eq!(config.sale.name, "default");
    }

    #[test]
    fn one_node_without_redlock() {
        let settings = settings(&[("USE_REDLOCK", "false"), ("LOCK_TIMEOUT_SECONDS", "0.5")]);
        let config = read(&settings).unwrap();
        assert_eq!(config.sale.lock.nodes.nodes.len(), 1);
        assert_eq!(config.sale.lock.policy.lease_time, Duration::from_millis(500));
    }

    #[test]
    fn errors_name_the_setting() {
        assert!(message("JWT_SECRET", "short").starts_with("JWT_SECRET: "));
        assert!(message("OPERATOR_TOKEN", "short").starts_with("OPERATOR_TOKEN: "));
        assert!(
            message("EVENT_KEEP_ALIVE_SECONDS", "0.5").starts_with("EVENT_KEEP_ALIVE_SECONDS: ")
        );
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
        assert!(message("SIGN_UP", "Nobody").starts_with("SIGN_UP: "));
        assert_eq!(message("SIGN_UP", "Invited"), "INVITE_CODES: is needed with SIGN_UP=Invited");
        assert!(
            message("INVITE_CODES", "short").starts_with("INVITE_CODES: each code must have 8")
        );
        assert!(message("RETENTION_DAYS", "30").starts_with("RETENTION_DAYS: needs SALE_ENDS_AT"));
        assert!(message("RETENTION_DAYS", "0").starts_with("RETENTION_DAYS: "));
        assert_eq!(message("TLS_CERT_FILE", "a"), "TLS_KEY_FILE: is needed with TLS_CERT_FILE");
        assert_eq!(message("TLS_KEY_FILE", "a"), "TLS_CERT_FILE: is needed with TLS_KEY_FILE");
        let error = read(&HashMap::new()).err().unwrap().to_string();
        assert!(error.contains("is not set"), "{error}");
    }

    #[test]
    fn line_ends_after_a_value_are_no_part_of_it() {
        let config = read(&settings(&[
            ("REDIS_NODES", "a:6379\n"),
            ("JWT_SECRET", "0123456789abcdef0123456789abcdef\n"),
            ("JWT_ACCEPTED_SECRET", "0123456789abcdef0123456789abcdef\r\n"),
            ("JWKS_FILE", "/keys/jwks.json\n"),
            ("JWKS_ISSUER", "shop\n\n"),
            ("JWKS_AUDIENCE", "sale\n"),
            ("REDIS_PASSWORD", " pass word \n"),
            ("DATABASE_URL", "sqlite://sale.db\n"),
            ("SALE_ENDS_AT", "\n"),
        ]))
        .unwrap();
        assert_eq!(config.auth.secret, KEY);
        assert_eq!(config.auth.accepted_secret.as_deref(), Some(KEY));
        let provider = config.auth.provider.unwrap();
        assert_eq!(provider.file.to_str(), Some("/keys/jwks.json"));
        assert_eq!(provider.issuer.as_deref(), Some("shop"));
        assert_eq!(provider.audience.as_deref(), Some("sale"));
        let password = config.sale.lock.nodes.nodes[0].password.as_deref();
        assert_eq!(password, Some(" pass word "), "spaces are part of it");
        assert_eq!(config.database.location.url(), "sqlite://sale.db");
        assert_eq!(config.sale.window.ends_at, None);
        let seed = read_seed(&settings(&[
            ("ADMIN_ID", "admin\n"),
            ("ADMIN_PASSWORD", "correct horse\r\n"),
            ("CATALOG_FILE", "catalog.json\n"),
        ]))
        .unwrap();
        assert_eq!(seed.admin, Some(("admin".to_owned(), "correct horse".to_owned())));
        assert_eq!(seed.catalog_file.to_str(), Some("catalog.json"));
    }

    #[test]
    fn a_ca_file_requires_tls_to_its_store() {
        let nodes = |config: &ServeConfig| config.sale.lock.nodes.ca_file.clone();
        let plain = read(&settings(&[])).unwrap();
        assert_eq!(nodes(&plain), None);
        let files = [("REDIS_CA_FILE", "/tls/ca.crt\n"), ("DATABASE_CA_FILE", "/my tls/ca.crt")];
        let url = |url: &'static str| {
            let config = read(&settings(&[&files[..], &[("DATABASE_URL", url)]].concat())).unwrap();
            assert_eq!(nodes(&config).unwrap().to_str(), Some("/tls/ca.crt"));
            config.database.location.url()
        };
        let verify = "sslmode=verify-full&sslrootcert=/my%20tls/ca.crt";
        assert_eq!(url("postgres://u:p@db/shop"), format!("postgres://u:p@db/shop?{verify}"));
        assert_eq!(url("postgres://db/shop?a=b"), format!("postgres://db/shop?a=b&{verify}"));
        assert_eq!(url("sqlite://sale.db"), "sqlite://sale.db", "a file needs no TLS");
    }

    #[test]
    fn secrets_are_in_no_error() {
        let error = message("JWT_SECRET", "hunter2");
        let remedy = "has fewer than 32 bytes; make one with: openssl rand -hex 32";
        assert_eq!(error, format!("JWT_SECRET: {remedy}"));
        let changes = [("ADMIN_ID", "boss"), ("ADMIN_PASSWORD", "hunter2"), ("CATALOG_FILE", "f")];
        let error = read_seed(&settings(&changes)).err().unwrap().to_string();
        assert!(error.starts_with("ADMIN_ID, ADMIN_PASSWORD: "), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn each_setting_has_help_and_a_flag_of_its_name_and_secrets_are_hidden() {
        let commands = [
            ServeArgs::augment_args(Command::new("serve")),
            SeedArgs::augment_args(Command::new("seed")),
            LogConfig::augment_args(Command::new("log")),
        ];
        for argument in commands.iter().flat_map(Command::get_arguments) {
            let name = argument.get_env().unwrap().to_str().unwrap();
            let flag = argument.get_long().unwrap().replace('-', "_").to_uppercase();
            assert_eq!(flag, name);
            assert!(argument.get_help().is_some(), "{name}");
            let secrets = ["SECRET", "PASSWORD", "TOKEN", "CODES", "NKEY", "CREDENTIALS"];
            let secret = secrets.iter().any(|word| name.contains(word));
            assert_eq!(
                argument.is_hide_env_values_set(),
                secret
                    || ["DATABASE_URL", "EVENTS_WEBHOOK_URL", "OTEL_EXPORTER_OTLP_HEADERS"]
                        .contains(&name),
                "{name}"
            );
        }
    }
}
