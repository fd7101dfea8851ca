//! Accounts and tokens.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::{Passwords, Role, Tokens, check_credentials};
use crate::error::{ApiError, Problem};
use crate::ledger::{Account, Ledger};
use crate::state::Authenticated;

/// An account's name and password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credentials {
    /// 1 to 64 letters, digits, `.`, `_`, `-` or `@`.
    #[schema(example = "ann")]
    id: String,
    /// 8 to 128 characters.
    #[schema(example = "correct horse battery")]
    password: String,
}

/// An account that was made.
#[derive(Serialize, ToSchema)]
pub(crate) struct SignedUp {
    id: String,
    role: Role,
}

/// A token to send as `Authorization: Bearer <token>`.
#[derive(Serialize, ToSchema)]
pub(crate) struct LoggedIn {
    access_token: String,
    token_type: &'static str,
    /// Seconds.
    expires_in: i64,
}

/// Who a token belongs to.
#[derive(Serialize, ToSchema)]
pub(crate) struct Me {
    id: String,
    role: Role,
}

/// Signs a buyer up.
#[utoipa::path(post, path = "/v1/auth/signup", tag = "auth", request_body = Credentials, responses(
    (status = 201, body = SignedUp),
    (status = 409, description = "`account_exists`", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "`invalid_request`", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn sign_up(
    State(ledger): State<Ledger>,
    State(passwords): State<Passwords>,
    body: Result<Json<Credentials>, JsonRejection>,
) -> Result<(StatusCode, Json<SignedUp>), ApiError> {
    let Json(Credentials { id, password }) = body?;
    check_credentials(&id, &password)?;
    let password_hash = passwords.hash(password).await?;
    let account = Account { id, password_hash, role: "buyer".to_owned() };
    if !ledger.create_account(&account).await? {
        return Err(ApiError::AccountExists(account.id));
    }
    Ok((StatusCode::CREATED, Json(SignedUp { id: account.id, role: Role::Buyer })))
}

/// Gives a token for an account.
#[utoipa::path(post, path = "/v1/auth/login", tag = "auth", request_body = Credentials, responses(
    (status = 200, body = LoggedIn),
    (status = 401, description = "`wrong_credentials`", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "`invalid_request`", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn log_in(
    State(ledger): State<Ledger>,
    State(passwords): State<Passwords>,
    State(tokens): State<Arc<Tokens>>,
    body: Result<Json<Credentials>, JsonRejection>,
) -> Result<Json<LoggedIn>, ApiError> {
    let Json(credentials) = body?;
    check_credentials(&credentials.id, &credentials.password)?;
    let account = ledger.account(&credentials.id).await?;
    let hash = account.as_ref().map(|account| account.password_hash.clone());
    let matches = passwords.verify(credentials.password, hash).await?;
    let account = account.filter(|_| matches).ok_or(ApiError::WrongCredentials)?;
    let role = if account.role == "admin" { Role::Admin } else { Role::Buyer };
    let (access_token, expires_in) = tokens
        .sign(&account.id, role)
        .map_err(|error| ApiError::from(anyhow::Error::from(error)))?;
    Ok(Json(LoggedIn { access_token, token_type: "Bearer", expires_in }))
}

/// Says who the token belongs to, and does nothing else.
#[utoipa::path(get, path = "/v1/auth/me", tag = "auth", security(("bearer" = [])), responses(
    (status = 200, body = Me),
    (status = 401, description = "`unauthenticated`, `token_expired`", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn me(Authenticated(claims): Authenticated) -> Json<Me> {
    Json(Me { id: claims.sub, role: claims.role })
}
