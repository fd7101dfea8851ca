//! Sends events as webhooks: one event a request, over connections that are kept.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER, USER_AGENT};
use axum::http::{Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use tokio::time::timeout;

use super::attempt::AttemptError;
use super::cloud_event::MEDIA_TYPE;
use super::config::WebhookConfig;
use super::signature::signatures;
use super::tls::client_config;

/// How long the receiver may take for an event.
const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(30);
/// Bytes of an answer that are read, so that its connection can be used again.
const LARGEST_ANSWER: usize = 16 * 1024;
/// The longest pause that a receiver can ask for.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// A receiver of webhooks.
pub(super) struct Webhook {
    config: WebhookConfig,
    client: Client<HttpsConnector<HttpConnector>, Body>,
}

impl Webhook {
    /// Does not connect yet.
    ///
    /// # Errors
    /// When the file with the authorities cannot be used.
    pub(super) fn new(config: WebhookConfig) -> io::Result<Self> {
        let mut http = HttpConnector::new();
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        http.set_nodelay(true);
        http.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(client_config(config.authorities.as_deref())?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Ok(Self { config, client })
    }

    /// Posts an event. Any answer but 2xx is a failure; redirects are not followed.
    pub(super) async fn send(&self, id: &str, body: Bytes) -> Result<(), AttemptError> {
        let sent = timeout(TIMEOUT, self.post(id, body)).await;
        sent.unwrap_or_else(|_| Err(AttemptError::new(format!("no answer within {TIMEOUT:?}"))))
    }

    async fn post(&self, id: &str, body: Bytes) -> Result<(), AttemptError> {
        let seconds = Timestamp::now().as_second();
        let request = Request::post(self.config.url.0.clone())
            .header(CONTENT_TYPE, MEDIA_TYPE)
            .header(USER_AGENT, concat!("flashsale/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signatures(&self.config.keys, id, seconds, &body))
            .body(Body::from(body))
            .map_err(|error| AttemptError::of(&error))?;
        let answer = self.client.request(request).await;
        let (head, body) = answer.map_err(|error| AttemptError::of(&error))?.into_parts();
        // A long answer costs its connection, and no more.
        let _ = to_bytes(Body::new(body), LARGEST_ANSWER).await;
        if head.status.is_success() {
            return Ok(());
        }
        Err(AttemptError {
            text: format!("it answered {}", head.status),
            retry_after: retry_after(&head.headers, Timestamp::now()),
            is_gone: head.status == StatusCode::GONE,
        })
    }
}

/// Seconds, or a time.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        let until = DateTimeParser::new().parse_timestamp(text).ok()?;
        Duration::try_from(until.duration_since(now)).unwrap_or_default()
    };
    Some(pause.min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_asks_for_a_pause_in_seconds_or_until_a_time() {
        let now: Timestamp = "2026-11-27T00:00:00Z".parse().unwrap();
        let pause = |text: &'static str| {
            let headers = [(RETRY_AFTER, text.parse().unwrap())].into_iter().collect();
            retry_after(&headers, now)
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(pause("7"), seconds(7));
        assert_eq!(pause("Fri, 27 Nov 2026 00:01:00 GMT"), seconds(60));
        assert_eq!(pause("Thu, 26 Nov 2026 00:01:00 GMT"), seconds(0));
        assert_eq!(pause("86400"), seconds(3600));
        assert_eq!(pause("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
