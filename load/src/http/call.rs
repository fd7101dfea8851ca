//! A request and its answer, for any connection.

use std::io;
use std::time::Duration;

use http::{Method, StatusCode};

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("{0}")]
    Url(String),
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("no TLS")]
    Tls(#[source] io::Error),
    #[error("the connection failed")]
    Connection(#[from] io::Error),
    #[error("the answer is no HTTP/1.1: {0}")]
    Malformed(String),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// A request.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: Method,
    pub path: String,
    /// JSON
    pub body: Option<String>,
}

impl Call {
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: None }
    }

    pub fn post(path: impl Into<String>, body: &serde_json::Value) -> Self {
        Self { method: Method::POST, path: path.into(), body: Some(body.to_string()) }
    }
}

/// Who calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct Caller<'a> {
    pub token: Option<&'a str>,
    pub idempotency_key: Option<&'a str>,
}

impl<'a> Caller<'a> {
    pub fn with_token(token: &'a str) -> Self {
        Self { token: Some(token), idempotency_key: None }
    }
}

/// A whole response.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: StatusCode,
    /// The header `Retry-After`, at most 30 s; 0 without it.
    pub retry_after: Duration,
    pub body: Vec<u8>,
}
