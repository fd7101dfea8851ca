//! Accounts and tokens.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRef, State};
use axum::http::StatusCode;
use ledger::{Account, Ledger};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::extract::{Authenticated, ClientAddress};
use crate::api::state::AppState;
use crate::auth::{
    LoginRateLimiter, PasswordError, Passwords, Role, Tokens, canonical_id, check_credentials,
};
use crate::http::json::JsonBody;
use crate::http::problem::{ApiError, Problem};
use crate::metrics::{LogIn, Metrics, SignUp};

/// An account's name and password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credentials {
    /// 1 to 64 letters, digits, `.`, `_`, `-` or `@`, of ASCII. Ids that differ in case only are one
    /// account.
    #[schema(example = "ann")]
    id: String,
    /// 8 to 128 characters.
    #[schema(example = "correct horse battery")]
    password: String,
}

/// An account that was made.
#[derive(Serialize, ToSchema)]
pub(crate) struct SignedUp {
    /// In small letters; the buyer of this account's tokens.
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
    (status = 400, description = "`invalid_json`", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`account_exists`", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "`body_too_large`", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "`invalid_request`", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "`too_many_attempts`: too many sign-ups from this address; try again after `Retry-After`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`overloaded`, `database_unavailable`: try again after `Retry-After`", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn sign_up(
    State(logins): State<LoginService>,
    ClientAddress(address): ClientAddress,
    body: Result<JsonBody<Credentials>, JsonRejection>,
) -> Result<(StatusCode, Json<SignedUp>), ApiError> {
    let JsonBody(credentials) = body?;
    check_credentials(&credentials.id, &credentials.password)?;
    let made = logins.make(credentials, address).await;
    logins.metrics.clients().sign_up(sign_up_outcome(&made));
    let account = made?;
    Ok((StatusCode::CREATED, Json(SignedUp { id: account.id, role: Role::Buyer })))
}

/// Gives a token for an account.
#[utoipa::path(post, path = "/v1/auth/login", tag = "auth", request_body = Credentials, responses(
    (status = 200, body = LoggedIn),
    (status = 400, description = "`invalid_json`", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "`wrong_credentials`", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "`body_too_large`", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "`invalid_request`", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "`too_many_attempts`: try again after `Retry-After`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`overloaded`, `database_unavailable`: try again after `Retry-After`", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn log_in(
    State(logins): State<LoginService>,
    State(tokens): State<Arc<Tokens>>,
    ClientAddress(address): ClientAddress,
    body: Result<JsonBody<Credentials>, JsonRejection>,
) -> Result<Json<LoggedIn>, ApiError> {
    let JsonBody(credentials) = body?;
    check_credentials(&credentials.id, &credentials.password)?;
    let account = logins.open(credentials, address).await?;
    let role = if account.role == "admin" { Role::Admin } else { Role::Buyer };
    let (access_token, expires_in) = tokens
        .sign(&account.id, role)
        .map_err(|error| ApiError::from(anyhow::Error::from(error)))?;
    Ok(Json(LoggedIn { access_token, token_type: "Bearer", expires_in }))
}

/// Signs up and logs in, within the limits of both.
pub(crate) struct LoginService {
    ledger: Ledger,
    passwords: Passwords,
    rate_limiter: Arc<LoginRateLimiter>,
    metrics: Arc<Metrics>,
}

impl FromRef<AppState> for LoginService {
    fn from_ref(state: &AppState) -> Self {
        Self {
            ledger: state.ledger.clone(),
            passwords: state.passwords.clone(),
            rate_limiter: Arc::clone(&state.rate_limiter),
            metrics: Arc::clone(&state.metrics),
        }
    }
}

impl LoginService {
    /// A new account.
    async fn make(
        &self,
        Credentials { id, password }: Credentials,
        address: IpAddr,
    ) -> Result<Account, ApiError> {
        let attempt =
            self.rate_limiter.charge_sign_up(address).map_err(ApiError::TooManySignUps)?;
        // Before the work of a hash; whether it is taken meanwhile is seen below.
        let taken = match self.ledger.account(&id).await {
            Ok(account) => account.is_some(),
            Err(error) => {
                attempt.refund();
                return Err(error.into());
            }
        };
        if taken {
            return Err(ApiError::AccountExists(id));
        }
        let password_hash = match self.passwords.hash(password).await {
            Ok(hash) => hash,
            Err(error) => {
                attempt.refund();
                return Err(error.into());
            }
        };
        let account = Account { id: canonical_id(&id), password_hash, role: "buyer".to_owned() };
        if !self.ledger.create_account(&account).await? {
            return Err(ApiError::AccountExists(id));
        }
        Ok(account)
    }

    /// The account, if the password is its own. An unknown id takes the same steps.
    async fn open(
        &self,
        Credentials { id, password }: Credentials,
        address: IpAddr,
    ) -> Result<Account, ApiError> {
        let metrics = self.metrics.clients();
        let attempt =
            self.rate_limiter.charge_log_in(&canonical_id(&id), address).map_err(|refused| {
                metrics.log_in(LogIn::TooMany);
                ApiError::TooManyAttempts(refused)
            })?;
        let account = match self.ledger.account(&id).await {
            Ok(account) => account,
            Err(error) => {
                attempt.refund();
                return Err(error.into());
            }
        };
        let hash = account.as_ref().map(|account| account.password_hash.clone());
        match self.passwords.verify_from(address, password, hash).await {
            Ok(matches) => {
                let Some(account) = account.filter(|_| matches) else {
                    metrics.log_in(LogIn::Wrong);
                    return Err(ApiError::WrongCredentials);
                };
                attempt.succeeded();
                metrics.log_in(LogIn::Succeeded);
                Ok(account)
            }
            Err(error) => {
                if let PasswordError::Overloaded { .. } = error {
                    metrics.log_in(LogIn::Overloaded);
                }
                attempt.refund();
                Err(error.into())
            }
        }
    }
}

/// Says who the token belongs to, and does nothing else.
#[utoipa::path(get, path = "/v1/auth/me", tag = "auth", security(("bearer" = [])), responses(
    (status = 200, body = Me),
    (status = 401, description = "`unauthenticated`, `token_expired`", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn me(Authenticated(claims): Authenticated) -> Json<Me> {
    Json(Me { id: claims.sub, role: claims.role })
}

fn sign_up_outcome<T>(made: &Result<T, ApiError>) -> SignUp {
    match made {
        Ok(_) => SignUp::Succeeded,
        Err(ApiError::AccountExists(_)) => SignUp::Exists,
        Err(ApiError::TooManySignUps(_)) => SignUp::TooMany,
        Err(ApiError::Overloaded { .. }) => SignUp::Overloaded,
        Err(_) => SignUp::Failed,
    }
}
