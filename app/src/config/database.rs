//! The database, where orders are decided.

use clap::Args;

use super::values::number;

/// Which database.
// No `Debug`: it holds secrets.
#[derive(Args, Clone)]
#[command(next_help_heading = "Database")]
pub struct DatabaseUrl {
    /// URL of the database: `postgres://user@host/name` or `sqlite://path`.
    #[arg(long = "database-url", env = "DATABASE_URL", hide_env_values = true)]
    pub url: String,
}

/// The database and the sale that it belongs to.
// No `Debug`: it holds secrets.
#[derive(Args, Clone)]
#[command(next_help_heading = "Database")]
pub struct DatabaseConfig {
    /// See [`DatabaseUrl`].
    #[command(flatten)]
    pub location: DatabaseUrl,
    /// Number of connections to the database. They are kept open.
    #[arg(
        long = "database-max-connections",
        env = "DATABASE_MAX_CONNECTIONS",
        default_value = "8",
        value_parser = number::<u32>(1..=10_000)
    )]
    pub max_connections: u32,
    // A sale without a name has one too, so that it shares no database with sales that have names.
    /// Name of the sale that the database belongs to. The database of another sale is refused.
    #[arg(long, env = "SALE_NAME", default_value = "default", value_parser = sale_name)]
    pub sale_name: String,
}

/// Parses the name of a sale; the operator's is `namespace/name`.
///
/// # Errors
/// The rule that it breaks.
pub fn sale_name(name: &str) -> Result<String, &'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_/".contains(&byte);
    if (1..=320).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(name.to_owned());
    }
    Err("must be 1 to 320 letters, digits, '.', '_', '-' or '/', like shop/black-friday")
}
