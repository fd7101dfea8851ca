//! What a client is told when something is not done: RFC 9457 problem documents with a stable
//! `code`. Handlers return [`ApiError`]; the layers below have errors of their own, which become
//! one here and are logged where they happened, never sent.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tracing::error;
use utoipa::ToSchema;

use crate::auth::{CredentialsError, TokenError};
use crate::ledger::LedgerError;
use crate::sale::PurchaseError;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The sale said no.
    #[error(transparent)]
    Purchase(#[from] PurchaseError),
    /// No token.
    #[error("send a token: Authorization: Bearer <token>")]
    MissingToken,
    /// A token that is not accepted.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Unknown account or wrong password; which of them is not told.
    #[error("id or password is wrong")]
    WrongCredentials,
    /// The name is taken.
    #[error("the account {0:?} exists already")]
    AccountExists(String),
    /// The body is no JSON of the right form.
    #[error("{0}")]
    Body(#[from] JsonRejection),
    /// A field breaks a rule.
    #[error("{field}: {rule}")]
    Field {
        /// The field, or header.
        field: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// The path cannot be read.
    #[error("the path is not UTF-8")]
    Path(#[from] PathRejection),
    /// No route has this path.
    #[error("there is nothing at this path; see /docs")]
    NotFound,
    /// The path has no such method.
    #[error("this path does not take that method; see /docs")]
    MethodNotAllowed,
    /// Our fault.
    #[error("an internal error, which has been logged")]
    Internal,
}

/// An RFC 9457 problem document.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// A URN of the code.
    #[serde(rename = "type")]
    kind: String,
    /// The HTTP status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What happened this time, for people.
    detail: String,
    /// What happened, for programs; stable.
    code: &'static str,
}

impl PurchaseError {
    /// The stable code, in answers and in metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotStarted(_) | Self::Ended(_) => "sale_not_open",
            Self::UnknownProduct(_) => "unknown_product",
            Self::SoldOut => "sold_out",
            Self::LimitReached => "limit_reached",
            Self::KeyReused => "idempotency_key_reused",
            Self::LockTimeout => "lock_timeout",
            Self::QuorumUnavailable => "quorum_unavailable",
            Self::Overloaded { .. } => "overloaded",
            Self::DatabaseUnavailable => "database_unavailable",
            Self::Interrupted => "interrupted",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NotStarted(_) | Self::Ended(_) => StatusCode::FORBIDDEN,
            Self::UnknownProduct(_) => StatusCode::NOT_FOUND,
            Self::SoldOut | Self::LimitReached => StatusCode::CONFLICT,
            Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::LockTimeout => StatusCode::LOCKED,
            Self::QuorumUnavailable
            | Self::Overloaded { .. }
            | Self::DatabaseUnavailable
            | Self::Interrupted => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// When it is worth trying again, if it ever is.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NotStarted(starts_at) => {
                Duration::try_from(starts_at.duration_since(jiff::Timestamp::now())).ok()
            }
            Self::Overloaded { retry_after } => Some(*retry_after),
            Self::LockTimeout
            | Self::QuorumUnavailable
            | Self::DatabaseUnavailable
            | Self::Interrupted => Some(Duration::from_secs(1)),
            Self::Ended(_)
            | Self::UnknownProduct(_)
            | Self::SoldOut
            | Self::LimitReached
            | Self::KeyReused => None,
        }
    }
}

impl ApiError {
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Purchase(error) => (error.status(), error.code()),
            Self::MissingToken | Self::Token(TokenError::Invalid) => {
                (StatusCode::UNAUTHORIZED, "unauthenticated")
            }
            Self::Token(TokenError::Expired) => (StatusCode::UNAUTHORIZED, "token_expired"),
            Self::WrongCredentials => (StatusCode::UNAUTHORIZED, "wrong_credentials"),
            Self::AccountExists(_) => (StatusCode::CONFLICT, "account_exists"),
            Self::Body(rejection) => (rejection.status(), body_code(rejection)),
            Self::Field { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_request"),
            Self::Path(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }
}

fn body_code(rejection: &JsonRejection) -> &'static str {
    match rejection {
        JsonRejection::JsonSyntaxError(_) => "invalid_json",
        JsonRejection::MissingJsonContentType(_) => "unsupported_media_type",
        JsonRejection::BytesRejection(_) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            "body_too_large"
        }
        _ => "invalid_request",
    }
}

impl From<CredentialsError> for ApiError {
    fn from(CredentialsError { field, rule }: CredentialsError) -> Self {
        Self::Field { field, rule }
    }
}

impl From<LedgerError> for ApiError {
    fn from(error: LedgerError) -> Self {
        Self::Purchase(error.into())
    }
}

impl From<anyhow::Error> for ApiError {
    fn from(error: anyhow::Error) -> Self {
        error!(error = format!("{error:#}"), "internal error");
        Self::Internal
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code) = self.status_and_code();
        let problem = Problem {
            kind: format!("urn:flashsale:problem:{code}"),
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: self.to_string(),
            code,
        };
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Self::Purchase(error) = &self
            && let Some(after) = error.retry_after()
        {
            // Whole seconds, rounded up: earlier would be too early.
            let seconds = (after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
