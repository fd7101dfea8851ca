//! How logs are written.

use clap::Args;
use tracing_subscriber::EnvFilter;

use super::values::value;

/// Settings of the log.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Log")]
pub struct LogConfig {
    /// Format of log lines: `text` or `json`.
    #[arg(long = "log-format", env = "LOG_FORMAT", default_value = "text", value_parser = value::<LogFormat>("text or json"))]
    pub format: LogFormat,
    /// Log filter, as `tracing_subscriber::EnvFilter` reads it.
    // rustls warns of what any client can send, such as an address for a host name. What async-nats logs of its
    // connection is logged once as a sink that takes no events.
    #[arg(long = "rust-log", env = "RUST_LOG", default_value = "info,rustls=error,async_nats=off", value_parser = filter)]
    pub filter: String,
}

fn filter(text: &str) -> Result<String, String> {
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("{text:?} is no log filter, such as info,sqlx=debug: {error}")),
    }
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object per line.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_filter_is_refused_and_named() {
        assert_eq!(filter("info,sqlx=debug"), Ok("info,sqlx=debug".to_owned()));
        let error = filter("sqlx=loud").unwrap_err();
        assert!(error.starts_with(r#""sqlx=loud" is no log filter, such as"#), "{error}");
    }
}
