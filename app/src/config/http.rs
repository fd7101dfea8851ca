//! What clients may take.

use std::num::NonZero;
use std::time::Duration;

use super::{ConfigError, Source, optional, seconds};

/// Bounds on connections.
#[derive(Debug, Clone, Copy)]
pub struct HttpConfig {
    /// `HTTP_MAX_CONNECTIONS`
    pub max_connections: usize,
    /// `HTTP_HEADER_TIMEOUT_SECONDS`
    pub header_timeout: Duration,
    /// `HTTP_BODY_TIMEOUT_SECONDS`
    pub body_timeout: Duration,
    /// `HTTP_IDLE_TIMEOUT_SECONDS`
    pub idle_timeout: Duration,
}

impl HttpConfig {
    pub(super) fn read(source: &impl Source) -> Result<Self, ConfigError> {
        let max_connections: Option<NonZero<u32>> =
            optional(source, "HTTP_MAX_CONNECTIONS", "a whole number above 0")?;
        let time = |name, default| seconds(source, name, Duration::from_secs(default));
        Ok(Self {
            max_connections: max_connections.map_or(10_000, NonZero::get) as usize,
            header_timeout: time("HTTP_HEADER_TIMEOUT_SECONDS", 10)?,
            body_timeout: time("HTTP_BODY_TIMEOUT_SECONDS", 20)?,
            idle_timeout: time("HTTP_IDLE_TIMEOUT_SECONDS", 75)?,
        })
    }
}
