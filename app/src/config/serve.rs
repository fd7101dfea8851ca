//! What `flashsale-app serve` reads.

use ::sale::SaleConfig;
use clap::Args;

use super::arguments::{ParseError, parse_variables};
use super::auth::{AuthArgs, AuthConfig};
use super::buyers::{BuyersArgs, BuyersConfig};
use super::cors::CorsArgs;
use super::database::DatabaseConfig;
use super::error::ConfigError;
use super::events::EventsArgs;
use super::http::{HttpArgs, SocketsConfig};
use super::listeners::ListenersArgs;
use super::lock::LockArgs;
use super::payments::PaymentsConfig;
use super::sale::SaleArgs;
use super::tls::TlsArgs;
use super::traces::TracesArgs;
use crate::api::{AllowedOrigins, ListenersConfig};
use crate::http::{HttpConfig, TlsConfig};
use crate::order_events::EventsConfig;
use crate::traces::TracesConfig;

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
    /// See [`BuyersConfig`].
    pub buyers: BuyersConfig,
    /// See [`PaymentsConfig`].
    pub payments: PaymentsConfig,
    /// See [`HttpConfig`].
    pub http: HttpConfig,
    /// See [`TlsConfig`].
    pub tls: Option<TlsConfig>,
    /// See [`ListenersConfig`].
    pub listeners: ListenersConfig,
    /// See [`AllowedOrigins`].
    pub cors: Option<AllowedOrigins>,
    /// See [`TracesConfig`].
    pub traces: Option<TracesConfig>,
    /// See [`EventsConfig`].
    pub events: EventsConfig,
    /// See [`SocketsConfig`].
    pub sockets: SocketsConfig,
    /// `HOSTNAME`
    pub replica: String,
}

/// Settings of [`ServeConfig`].
// No `Debug`: it holds secrets.
#[derive(Args)]
pub struct ServeArgs {
    #[command(flatten)]
    database: DatabaseConfig,
    #[command(flatten)]
    lock: LockArgs,
    #[command(flatten)]
    sale: SaleArgs,
    #[command(flatten)]
    auth: AuthArgs,
    #[command(flatten)]
    buyers: BuyersArgs,
    #[command(flatten)]
    payments: PaymentsConfig,
    #[command(flatten)]
    sockets: SocketsConfig,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    cors: CorsArgs,
    #[command(flatten)]
    listeners: ListenersArgs,
    #[command(flatten)]
    traces: TracesArgs,
    #[command(flatten)]
    events: EventsArgs,
    /// Name of the replica on the administrators' page: in Kubernetes the name of the pod.
    #[arg(
        long,
        env = "HOSTNAME",
        default_value = "",
        hide_default_value = true,
        help_heading = "Replica"
    )]
    hostname: String,
}

impl ServeConfig {
    /// Reads all settings of `serve` from these variables alone, not from the process.
    ///
    /// # Errors
    /// The first setting that is missing or wrong.
    pub fn from_variables(variables: impl Fn(&str) -> Option<String>) -> Result<Self, ParseError> {
        Ok(parse_variables::<ServeArgs>(&variables)?.try_into()?)
    }
}

impl TryFrom<ServeArgs> for ServeConfig {
    type Error = ConfigError;

    fn try_from(args: ServeArgs) -> Result<Self, ConfigError> {
        let sale = args.sale.into_config(args.database.sale_name.clone(), args.lock.try_into()?)?;
        let http = HttpConfig::from(args.http);
        Ok(Self {
            buyers: args.buyers.into_config(sale.window.ends_at.is_some())?,
            sale,
            database: args.database,
            auth: args.auth.try_into()?,
            payments: args.payments,
            http,
            tls: args.tls.into_config()?,
            listeners: args.listeners.into_config(http.idle_timeout),
            cors: args.cors.into_config()?,
            traces: args.traces.into_config()?,
            events: args.events.into_config()?,
            sockets: args.sockets,
            replica: args.hostname,
        })
    }
}
