//! Where spans go, and whose they are.

use std::fmt;
use std::str::FromStr;

use axum::http::Uri;
use axum::http::{HeaderName, HeaderValue};

use super::sampler::Sampler;

/// How a replica exports its traces.
// No `Debug`: the headers hold secrets.
#[derive(Clone)]
pub struct TracesConfig {
    /// The collector.
    pub endpoint: Endpoint,
    /// Headers of each export, usually a key of the collector.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `service.name`
    pub service: String,
    /// Which requests are traced.
    pub sampler: Sampler,
}

/// Whose spans these are.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The sale's name.
    pub sale: String,
    /// The replica's name; may be empty.
    pub replica: String,
    /// The scheme of the API, `http` or `https`.
    pub scheme: &'static str,
    /// The database, as traces name it: `postgresql` or `sqlite`.
    pub database: &'static str,
}

/// The base URL of a collector that takes OTLP over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub(super) is_tls: bool,
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    /// The value of the header `Host`.
    pub(super) authority: String,
    /// Where spans are posted.
    pub(super) path: String,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The text stays out of the message: a user in it has a password.
        let wrong = || {
            "must be a URL such as http://collector:4318, with http or https and without user, query and fragment"
                .to_owned()
        };
        let uri: Uri = text.trim().parse().map_err(|_| wrong())?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let (host, authority) = uri.host().zip(uri.authority()).ok_or_else(wrong)?;
        let is_plain = !authority.as_str().contains('@') && !text.contains(['?', '#']);
        // A port that is no port is not in `port_u16`.
        let has_port = authority.as_str() != host;
        let is_valid = has_port == uri.port_u16().is_some_and(|port| port > 0);
        if host.is_empty() || !is_plain || !is_valid {
            return Err(wrong());
        }
        Ok(Self {
            is_tls,
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            authority: authority.to_string(),
            path: format!("{}/v1/traces", uri.path().trim_end_matches('/')),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_posted_below_the_base_url() {
        for (text, url, host, port) in [
            ("http://otel:4318", "http://otel:4318/v1/traces", "otel", 4318),
            ("http://otel", "http://otel/v1/traces", "otel", 80),
            ("https://[::1]/otlp/\n", "https://[::1]/otlp/v1/traces", "::1", 443),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), url);
            assert_eq!((endpoint.host.as_str(), endpoint.port), (host, port));
        }
        for wrong in [
            "",
            "otel:4318",
            "grpc://otel:4317",
            "http://",
            "/v1",
            "http://u:hunter2@otel",
            "http://otel/?key=hunter2",
            "http://otel/#a",
            "http://a b",
            "http://a:0",
            "http://a:65536",
            "http://a:",
        ] {
            let error = wrong.parse::<Endpoint>().unwrap_err();
            assert!(error.starts_with("must be a URL") && !error.contains("hunter2"), "{wrong}");
        }
    }
}
