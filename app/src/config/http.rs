//! What clients may take.

use std::time::Duration;

use super::{ConfigError, Source, number, time};
use crate::bounds;

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
        let time = |name, default| time(source, name, Duration::from_secs(default));
        let bounds = bounds::CONNECTIONS;
        Ok(Self {
            max_connections: number(source, "HTTP_MAX_CONNECTIONS", 10_000, bounds)?,
            header_timeout: time("HTTP_HEADER_TIMEOUT_SECONDS", 10)?,
            body_timeout: time("HTTP_BODY_TIMEOUT_SECONDS", 20)?,
            idle_timeout: time("HTTP_IDLE_TIMEOUT_SECONDS", 75)?,
        })
    }
}
