//! Where events go.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use axum::http::Uri;

use super::nats_config::NatsConfig;
use super::signature::SigningKey;

/// The systems that get the events of orders.
// No `Debug`: it holds keys.
#[derive(Clone, Default)]
pub struct EventsConfig {
    /// Gets each event as a request.
    pub webhook: Option<WebhookConfig>,
    /// Gets each event as a message.
    pub nats: Option<NatsConfig>,
}

/// A receiver of webhooks, by the Standard Webhooks rules.
// No `Debug`: it holds keys.
#[derive(Clone)]
pub struct WebhookConfig {
    /// Where events are posted.
    pub url: WebhookUrl,
    /// The keys of the signatures: one, or two while the key changes.
    pub keys: Vec<SigningKey>,
    /// The states of orders that are sent; empty: all.
    pub states: Vec<String>,
    /// PEM file with authorities that are trusted beside the public ones.
    pub authorities: Option<PathBuf>,
}

/// An `http` or `https` URL without user and fragment.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(pub(super) Uri);

/// Without the query, which may have a key of the receiver.
impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.0.authority().map_or("", |authority| authority.as_str());
        write!(f, "{}://{authority}{}", self.0.scheme_str().unwrap_or_default(), self.0.path())
    }
}

impl FromStr for WebhookUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The text stays out of the message: a user in it has a password.
        let wrong = "must be a URL such as https://shop.example/events, with http or https and without user and fragment";
        let text = text.trim();
        let uri: Uri = text.parse().map_err(|_| wrong)?;
        let (host, authority) = uri.host().zip(uri.authority()).ok_or(wrong)?;
        let has_port = authority.as_str() != host;
        let is_valid = matches!(uri.scheme_str(), Some("http" | "https"))
            && !host.is_empty()
            && !authority.as_str().contains('@')
            && !text.contains('#')
            // A port that is no port is not in `port_u16`.
            && has_port == uri.port_u16().is_some_and(|port| port > 0);
        is_valid.then_some(Self(uri)).ok_or(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_query() {
        let url: WebhookUrl = " https://shop.example:8443/events?key=hunter2\n".parse().unwrap();
        assert_eq!(url.to_string(), "https://shop.example:8443/events");
        for wrong in [
            "",
            "shop.example/events",
            "ftp://shop.example",
            "https://",
            "/events",
            "https://u:hunter2@shop.example",
            "https://shop.example/#a",
            "https://a b",
            "https://a:0",
            "https://a:65536",
            "https://a:",
        ] {
            assert!(wrong.parse::<WebhookUrl>().is_err(), "{wrong}");
        }
    }
}
