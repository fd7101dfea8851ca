//! `/v1/auth`: sign-ups and log-ins.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRef, State};
use axum::http::StatusCode;
use ledger::{Account, Ledger};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::extract::{Authenticated, ClientAddress};
use crate::api::problems::{JsonInput, LogIns, Login, Problems, SignUps};
use crate::api::state::AppState;
use crate::auth::{
    LoginRateLimiter, PasswordError, Passwords, Role, SignUpMode, SignUpPolicy, SignUpRefused,
    Tokens, canonical_id, check_credentials,
};
use crate::erasures::Erasures;
use crate::http::json::JsonBody;
use crate::http::problem::ApiError;
use crate::metrics::{LogIn, Metrics, SignUp};

/// The id and password of an account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credentials {
    /// 1 to 64 ASCII letters, digits, `.`, `_`, `-` or `@`. The id is not case-sensitive.
    #[schema(example = "ann", min_length = 1, max_length = 64, pattern = r"^[A-Za-z0-9._@-]+$")]
    id: String,
    /// 8 to 128 characters.
    #[schema(example = "correct horse battery", min_length = 8, max_length = 128, format = Password)]
    password: String,
}

/// The id and password of a new account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewAccount {
    /// 1 to 64 ASCII letters, digits, `.`, `_`, `-` or `@`. The id is not case-sensitive.
    #[schema(example = "ann", min_length = 1, max_length = 64, pattern = r"^[A-Za-z0-9._@-]+$")]
    id: String,
    /// 8 to 128 characters.
    #[schema(example = "correct horse battery", min_length = 8, max_length = 128, format = Password)]
    password: String,
    /// Where the sale asks for it (`wrong_invite_code`): a code that the seller handed out.
    #[schema(max_length = 256)]
    invite_code: Option<String>,
}

/// A new account.
#[derive(Serialize, ToSchema)]
pub(crate) struct SignedUp {
    /// The id in lower case; the `buyer` of the account's orders.
    id: String,
    role: Role,
}

/// A token to send as `Authorization: Bearer <token>`.
#[derive(Serialize, ToSchema)]
pub(crate) struct LoggedIn {
    access_token: String,
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// Seconds.
    #[schema(example = 3600)]
    expires_in: i64,
}

/// The account of a token.
#[derive(Serialize, ToSchema)]
pub(crate) struct Me {
    id: String,
    role: Role,
}

/// Creates an account
///
/// The account is a buyer's. Needs no token. A sale may ask for an invite code, or have no sign-up.
#[utoipa::path(post, path = "/v1/auth/signup", tag = "auth", request_body = NewAccount, responses(
    (status = 201, description = "Created", body = SignedUp),
    Problems<(JsonInput, SignUps)>,
))]
pub(crate) async fn sign_up(
    State(logins): State<LoginService>,
    ClientAddress(address): ClientAddress,
    JsonBody(request): JsonBody<NewAccount>,
) -> Result<(StatusCode, Json<SignedUp>), ApiError> {
    let NewAccount { id, password, invite_code } = request;
    check_credentials(&id, &password)?;
    let credentials = Credentials { id, password };
    let created = logins.sign_up(credentials, invite_code.as_deref(), address).await;
    logins.metrics.clients().sign_up(sign_up_outcome(&created));
    let account = created?;
    Ok((StatusCode::CREATED, Json(SignedUp { id: account.id, role: Role::Buyer })))
}

/// Logs in
///
/// Returns a token for an account. Needs no token.
#[utoipa::path(post, path = "/v1/auth/login", tag = "auth", request_body = Credentials, responses(
    (status = 200, description = "The token", body = LoggedIn),
    Problems<(JsonInput, LogIns)>,
))]
pub(crate) async fn log_in(
    State(logins): State<LoginService>,
    State(tokens): State<Arc<Tokens>>,
    ClientAddress(address): ClientAddress,
    JsonBody(credentials): JsonBody<Credentials>,
) -> Result<Json<LoggedIn>, ApiError> {
    check_credentials(&credentials.id, &credentials.password)?;
    let account = logins.log_in(credentials, address).await?;
    let role = if account.role == "admin" { Role::Admin } else { Role::Buyer };
    let (access_token, expires_in) = tokens
        .sign(&account.id, role)
        .map_err(|error| ApiError::from(anyhow::Error::from(error)))?;
    Ok(Json(LoggedIn { access_token, token_type: "Bearer", expires_in }))
}

/// Signs up and logs in, within the rate limits of both.
pub(crate) struct LoginService {
    ledger: Ledger,
    passwords: Passwords,
    rate_limiter: Arc<LoginRateLimiter>,
    policy: Arc<SignUpPolicy>,
    erasures: Arc<Erasures>,
    metrics: Arc<Metrics>,
}

impl FromRef<AppState> for LoginService {
    fn from_ref(state: &AppState) -> Self {
        Self {
            ledger: state.ledger.clone(),
            passwords: state.passwords.clone(),
            rate_limiter: Arc::clone(&state.rate_limiter),
            policy: Arc::clone(&state.sign_up),
            erasures: Arc::clone(&state.erasures),
            metrics: Arc::clone(&state.metrics),
        }
    }
}

impl LoginService {
    /// Creates an account.
    async fn sign_up(
        &self,
        Credentials { id, password }: Credentials,
        invite_code: Option<&str>,
        address: IpAddr,
    ) -> Result<Account, ApiError> {
        if self.policy.mode() == SignUpMode::Closed {
            return Err(ApiError::SignUp(SignUpRefused::Closed));
        }
        let attempt =
            self.rate_limiter.charge_sign_up(address).await.map_err(ApiError::TooManySignUps)?;
        // A wrong code counts, so codes cannot be guessed.
        self.policy.check(invite_code).map_err(ApiError::SignUp)?;
        if self.erasures.contains(&canonical_id(&id)) {
            return Err(ApiError::AccountExists(id));
        }
        // Saves the cost of a hash. A sign-up at the same time is detected by the insert below.
        let taken = match self.ledger.account(&id).await {
            Ok(account) => account.is_some(),
            Err(error) => {
                attempt.refund().await;
                return Err(error.into());
            }
        };
        if taken {
            return Err(ApiError::AccountExists(id));
        }
        let password_hash = match self.passwords.hash(password).await {
            Ok(hash) => hash,
            Err(error) => {
                attempt.refund().await;
                return Err(error.into());
            }
        };
        let account = Account { id: canonical_id(&id), password_hash, role: "buyer".to_owned() };
        if !self.ledger.create_account(&account).await? {
            return Err(ApiError::AccountExists(id));
        }
        Ok(account)
    }

    /// Returns the account if the password is right. An unknown id takes the same steps and the same
    /// time.
    async fn log_in(
        &self,
        Credentials { id, password }: Credentials,
        address: IpAddr,
    ) -> Result<Account, ApiError> {
        let metrics = self.metrics.clients();
        let attempt = self.rate_limiter.charge_log_in(&canonical_id(&id), address).await.map_err(
            |refused| {
                metrics.log_in(LogIn::TooMany);
                ApiError::TooManyAttempts(refused)
            },
        )?;
        let account = match self.ledger.account(&id).await {
            Ok(account) => account,
            Err(error) => {
                attempt.refund().await;
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
                attempt.succeeded().await;
                metrics.log_in(LogIn::Succeeded);
                Ok(account)
            }
            Err(error) => {
                if let PasswordError::Overloaded { .. } = error {
                    metrics.log_in(LogIn::Overloaded);
                }
                attempt.refund().await;
                Err(error.into())
            }
        }
    }
}

/// Returns the owner of the token
///
/// Its account and role, as the token has them.
#[utoipa::path(get, path = "/v1/auth/me", operation_id = "get_account", tag = "auth", security(("bearer" = [])), responses(
    (status = 200, description = "The owner", body = Me),
    Problems<Login>,
))]
pub(crate) async fn me(Authenticated(claims): Authenticated) -> Json<Me> {
    Json(Me { id: claims.sub, role: claims.role })
}

fn sign_up_outcome<T>(result: &Result<T, ApiError>) -> SignUp {
    match result {
        Ok(_) => SignUp::Succeeded,
        Err(ApiError::AccountExists(_)) => SignUp::Exists,
        Err(ApiError::TooManySignUps(_)) => SignUp::TooMany,
        Err(ApiError::Overloaded { .. }) => SignUp::Overloaded,
        Err(_) => SignUp::Failed,
    }
}
