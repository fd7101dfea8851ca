//! Sockets, and what clients may take.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use clap::Args;

use super::values::{TIME, number, seconds, value};
use crate::http::HttpConfig;

/// Bounds of the drain time.
const DRAIN: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_mins(1);

/// The sockets of a replica.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "HTTP")]
pub struct SocketsConfig {
    /// Listening address of the API; `[::]` is IPv6 and IPv4, or IPv4 alone on a system without IPv6.
    #[arg(
        long = "listen",
        value_name = "ADDRESS",
        env = "LISTEN",
        default_value = "[::]:8080",
        value_parser = value::<SocketAddr>("an address like [::]:8080")
    )]
    pub api: SocketAddr,
    /// Listening address of metrics and probes.
    #[arg(
        long = "metrics-listen",
        value_name = "ADDRESS",
        env = "METRICS_LISTEN",
        default_value = "[::]:9090",
        value_parser = value::<SocketAddr>("an address like [::]:9090")
    )]
    pub metrics: SocketAddr,
}

/// Settings of [`HttpConfig`].
#[derive(Args, Debug)]
#[expect(clippy::struct_field_names, reason = "each field is named as its setting")]
#[command(next_help_heading = "HTTP")]
pub struct HttpArgs {
    /// Maximum number of open connections. One more is refused with 503.
    #[arg(
        long,
        env = "HTTP_MAX_CONNECTIONS",
        default_value = "10000",
        value_parser = number::<usize>(1..=1_000_000)
    )]
    http_max_connections: usize,
    /// Maximum time for the whole header of a request, from its first byte, and for a TLS handshake, in seconds.
    #[arg(
        long,
        env = "HTTP_HEADER_TIMEOUT_SECONDS",
        default_value = "10",
        value_parser = seconds(TIME)
    )]
    http_header_timeout_seconds: Duration,
    /// Maximum time for the whole body of a request, in seconds.
    #[arg(
        long,
        env = "HTTP_BODY_TIMEOUT_SECONDS",
        default_value = "20",
        value_parser = seconds(TIME)
    )]
    http_body_timeout_seconds: Duration,
    /// Maximum time that a connection may be idle between requests, in seconds.
    #[arg(
        long,
        env = "HTTP_IDLE_TIMEOUT_SECONDS",
        default_value = "75",
        value_parser = seconds(TIME)
    )]
    http_idle_timeout_seconds: Duration,
    /// Time from SIGTERM until idle connections are closed, in seconds. In this time, new connections are accepted, and each
    /// answer closes its connection and says so. Requests under way then have 10 more seconds.
    #[arg(
        long,
        env = "HTTP_DRAIN_SECONDS",
        default_value = "5",
        value_parser = seconds(DRAIN)
    )]
    http_drain_seconds: Duration,
}

impl From<HttpArgs> for HttpConfig {
    fn from(args: HttpArgs) -> Self {
        Self {
            max_connections: args.http_max_connections,
            header_timeout: args.http_header_timeout_seconds,
            body_timeout: args.http_body_timeout_seconds,
            idle_timeout: args.http_idle_timeout_seconds,
            drain_time: args.http_drain_seconds,
        }
    }
}
