//! CORS: requests from pages of other origins.

use std::time::Duration;

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, Method};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::purchases::{IDEMPOTENCY_KEY, REPLAYED};

/// How long a browser may cache the answer. Browsers cap this at two hours or less.
const CORS_MAX_AGE: Duration = Duration::from_hours(2);
/// Pages that are traced send these with every request.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Pages of other origins that may call the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// All origins: `*`.
    Any,
    /// These origins only.
    Listed(Vec<HeaderValue>),
}

/// Answers preflight requests, and adds the CORS headers. The API uses no cookies, so a page of any
/// origin needs the buyer's token.
pub(super) fn cors(origins: &AllowedOrigins) -> CorsLayer {
    let origins = match origins {
        AllowedOrigins::Any => AllowOrigin::any(),
        AllowedOrigins::Listed(origins) => AllowOrigin::list(origins.iter().cloned()),
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, IDEMPOTENCY_KEY, TRACEPARENT, TRACESTATE])
        .expose_headers([REPLAYED, RETRY_AFTER, WWW_AUTHENTICATE])
        .max_age(CORS_MAX_AGE)
}
