//! What clients may take.

use std::time::Duration;

use super::source::{ConfigError, Source};
use super::values::{number, time};
use crate::bounds;
use crate::http::HttpConfig;

pub(super) fn read(source: &impl Source) -> Result<HttpConfig, ConfigError> {
    let time = |name, default| time(source, name, Duration::from_secs(default));
    let bounds = bounds::CONNECTIONS;
    Ok(HttpConfig {
        max_connections: number(source, "HTTP_MAX_CONNECTIONS", 10_000, bounds)?,
        header_timeout: time("HTTP_HEADER_TIMEOUT_SECONDS", 10)?,
        body_timeout: time("HTTP_BODY_TIMEOUT_SECONDS", 20)?,
        idle_timeout: time("HTTP_IDLE_TIMEOUT_SECONDS", 75)?,
    })
}
