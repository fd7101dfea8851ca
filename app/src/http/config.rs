//! Limits for clients.

use std::time::Duration;

/// Limits of connections.
#[derive(Debug, Clone, Copy)]
pub struct HttpConfig {
    /// `HTTP_MAX_CONNECTIONS`
    pub max_connections: usize,
    /// `HTTP_HEADER_TIMEOUT_SECONDS`: also limits a TLS handshake.
    pub header_timeout: Duration,
    /// `HTTP_BODY_TIMEOUT_SECONDS`
    pub body_timeout: Duration,
    /// `HTTP_IDLE_TIMEOUT_SECONDS`
    pub idle_timeout: Duration,
    /// `HTTP_DRAIN_SECONDS`: from the signal to end until idle connections are closed.
    pub drain_time: Duration,
}
