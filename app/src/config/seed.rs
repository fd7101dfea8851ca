//! What `flashsale-app seed` reads.

use std::path::PathBuf;
use std::time::Duration;

use ::sale::LockConfig;
use clap::{ArgAction, Args};

use super::arguments::{ParseError, parse_variables};
use super::database::DatabaseConfig;
use super::error::ConfigError;
use super::lock::LockArgs;
use super::values::{TIME, seconds, value};
use crate::auth::check_credentials;

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
    /// `TAKE_OVER_DATABASE`
    pub take_over_database: bool,
    /// `SEED_TIMEOUT_SECONDS`
    pub timeout: Duration,
}

/// Settings of [`SeedConfig`].
// No `Debug`: it holds secrets.
#[derive(Args)]
pub struct SeedArgs {
    #[command(flatten)]
    database: DatabaseConfig,
    #[command(flatten)]
    lock: LockArgs,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// The catalog, and how it is brought into the stores.
// No `Debug`: it holds secrets.
#[derive(Args)]
#[command(next_help_heading = "Seed")]
struct CatalogArgs {
    /// Path of the JSON catalog: `{"products": [{"id": "1", "name": "Console", "stock": 100}]}`; optional per
    /// product: `max_per_buyer`, `wait_timeout_ms`, `lease_time_ms`, `hold_seconds`, `price`. Beside `products`, optional:
    /// `limit_claim`, the claim of access tokens that stands for the person whom `max_per_buyer` limits. Default: the
    /// account.
    #[arg(long, env = "CATALOG_FILE")]
    catalog_file: PathBuf,
    /// Id of the administrator. The account is created if it is absent.
    #[arg(long, env = "ADMIN_ID")]
    admin_id: Option<String>,
    /// Password of the administrator. It replaces the one of an existing account.
    #[arg(long, env = "ADMIN_PASSWORD", hide_env_values = true)]
    admin_password: Option<String>,
    /// Identity of the database, as `/sale` shows it. Another database is refused. Default: any.
    #[arg(long, env = "DATABASE_ID")]
    database_id: Option<String>,
    /// Take the database over from the sale that has it, with its orders, instead of being refused.
    #[arg(
        long,
        env = "TAKE_OVER_DATABASE",
        default_value = "false",
        action = ArgAction::Set,
        value_parser = value::<bool>("true or false")
    )]
    take_over_database: bool,
    /// Maximum time to wait for the database and a quorum of the nodes, in seconds.
    #[arg(long, env = "SEED_TIMEOUT_SECONDS", default_value = "120", value_parser = seconds(TIME))]
    seed_timeout_seconds: Duration,
}

impl SeedConfig {
    /// Reads all settings of `seed` from these variables alone, not from the process.
    ///
    /// # Errors
    /// The first setting that is missing or wrong.
    pub fn from_variables(variables: impl Fn(&str) -> Option<String>) -> Result<Self, ParseError> {
        Ok(parse_variables::<SeedArgs>(&variables)?.try_into()?)
    }
}

impl TryFrom<SeedArgs> for SeedConfig {
    type Error = ConfigError;

    fn try_from(args: SeedArgs) -> Result<Self, ConfigError> {
        let SeedArgs { database, lock, catalog } = args;
        Ok(Self {
            database,
            lock: lock.try_into()?,
            catalog_file: catalog.catalog_file,
            admin: admin(catalog.admin_id, catalog.admin_password)?,
            database_id: catalog.database_id,
            take_over_database: catalog.take_over_database,
            timeout: catalog.seed_timeout_seconds,
        })
    }
}

fn admin(
    id: Option<String>,
    password: Option<String>,
) -> Result<Option<(String, String)>, ConfigError> {
    match (id, password) {
        (Some(id), Some(password)) => {
            check_credentials(&id, &password)
                .map_err(|error| ConfigError::unusable("ADMIN_ID, ADMIN_PASSWORD", &error))?;
            Ok(Some((id, password)))
        }
        (None, None) => Ok(None),
        (Some(_), None) => Err(ConfigError::new("ADMIN_PASSWORD", "is needed with ADMIN_ID")),
        (None, Some(_)) => Err(ConfigError::new("ADMIN_ID", "is needed with ADMIN_PASSWORD")),
    }
}
