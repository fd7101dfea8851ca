//! The database, where orders are decided.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;

use super::values::number;

/// Which database.
// No `Debug`: it holds secrets.
#[derive(Args, Clone)]
#[command(next_help_heading = "Database")]
pub struct DatabaseUrl {
    /// URL of the database: `postgres://user@host/name` or `sqlite://path`.
    #[arg(long = "database-url", env = "DATABASE_URL", hide_env_values = true)]
    url: String,
    /// PEM file with the certificates of the authorities that issue the certificate of the database. With it, all
    /// connections use TLS and verify the certificate and the host of the URL. It is read again for each connection.
    /// Default: none, the parameters `sslmode` and `sslrootcert` of the URL decide.
    #[arg(long, env = "DATABASE_CA_FILE")]
    database_ca_file: Option<PathBuf>,
}

impl DatabaseUrl {
    /// The URL, with the parameters for TLS.
    #[must_use]
    pub fn url(&self) -> String {
        let Some(file) = self.database_ca_file.as_ref().filter(|_| self.is_postgres()) else {
            return self.url.clone();
        };
        let separator = if self.url.contains('?') { '&' } else { '?' };
        // The last value of a parameter counts.
        let mut url = format!("{}{separator}sslmode=verify-full&sslrootcert=", self.url);
        for byte in file.as_os_str().as_encoded_bytes() {
            if byte.is_ascii_alphanumeric() || b"/.-_".contains(byte) {
                url.push(char::from(*byte));
            } else {
                // Writing to a string does not fail.
                let _ = write!(url, "%{byte:02X}");
            }
        }
        url
    }

    /// The database's name in traces.
    #[must_use]
    pub fn system(&self) -> &'static str {
        if self.is_postgres() { "postgresql" } else { "sqlite" }
    }

    fn is_postgres(&self) -> bool {
        self.url.starts_with("postgres")
    }
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
