//! The errors of the API, as RFC 9457 problem documents with a stable `code`.
//!
//! Handlers and extractors return [`ApiError`]. The errors of the layers below convert into it; their
//! sources are logged where they occur and never sent.

use std::sync::LazyLock;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use ledger::LedgerError;
use sale::{
    ChangeError, CouponError, ErasureError, OrderError, PurchaseError, RuleError, WaitlistError,
};
use serde::Serialize;
use tracing::error;
use utoipa::ToSchema;

use super::refusal::Refusal;
use crate::auth::{CredentialsError, PasswordError, SignUpRefused, TokenError, TooManyAttempts};
use crate::http::body::BodyFault;
use crate::order_state::OrderState;
use crate::payments::PaymentError;

/// Why a request was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The sale refused, or failed.
    #[error(transparent)]
    Purchase(#[from] PurchaseError),
    /// An order was not placed or changed.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// A coupon was not made or issued.
    #[error(transparent)]
    Coupon(#[from] CouponError),
    /// A buyer does not wait for units.
    #[error(transparent)]
    Waitlist(WaitlistError),
    /// An event of a payment service changed nothing.
    #[error(transparent)]
    Payment(PaymentError),
    /// There is no such event, or it needs no administrator.
    #[error("no event with this id waits for an administrator")]
    UnknownPayment,
    /// No token.
    #[error("send a token: Authorization: Bearer <token>")]
    MissingToken,
    /// A token that is not accepted.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Unknown account or wrong password. The answer does not say which.
    #[error("id or password is wrong")]
    WrongCredentials,
    /// A buyer's token where an administrator's is needed.
    #[error("this is for administrators: log in as one")]
    Forbidden,
    /// Too many log-ins with one id or from one address failed.
    #[error("too many log-ins with this id or from this address have failed; wait, then try again")]
    TooManyAttempts(TooManyAttempts),
    /// Too many sign-ups from one address.
    #[error("too many sign-ups from this address; wait, then try again")]
    TooManySignUps(TooManyAttempts),
    /// Who may sign up is restricted.
    #[error("{}", match .0 {
        SignUpRefused::Closed => "nobody can sign up here: use the log-in of the shop",
        SignUpRefused::WrongInviteCode => "sign-up needs an invite code, in `invite_code`",
    })]
    SignUp(SignUpRefused),
    /// Nothing is known about a buyer.
    #[error("nothing is known about the buyer {0:?}")]
    UnknownBuyer(String),
    /// An administrator's account, where a buyer's is needed.
    #[error("{0:?} is an administrator; only buyers can be erased")]
    AdministratorAccount(String),
    /// There is no such receiver of events.
    #[error("no events go to a sink {0:?}; GET /v1/admin/events/sinks lists the sinks")]
    UnknownSink(String),
    /// An event that was not given up, or that is unknown.
    #[error("no event with this id was given up; GET /v1/admin/events/dead lists them")]
    UnknownEvent,
    /// Too many password hashes are being computed.
    #[error("too many are signing up or logging in")]
    Overloaded {
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// The id of the account is taken.
    #[error("the account {0:?} exists already")]
    AccountExists(String),
    /// The body cannot be read.
    #[error("{detail}")]
    Body {
        /// What is wrong with it.
        fault: BodyFault,
        /// The same, for people.
        detail: String,
    },
    /// A field breaks a rule.
    #[error("{field}: {rule}")]
    Field {
        /// The field, or header.
        field: &'static str,
        /// The rule.
        rule: &'static str,
    },
    /// The product's id is taken.
    #[error("the product {0:?} exists already; change it with PUT, or choose another id")]
    ProductExists(String),
    /// The `from` of a restock is not the product's stock.
    #[error("the product's stock is {stock} by now; read it again, then repeat the request")]
    StockChanged {
        /// Units that the sale was given in all.
        stock: i64,
    },
    /// The replica has its maximum of listeners.
    #[error("too many follow the stock on this replica; ask /v1/sale instead")]
    TooManyListeners,
    /// The client's address has its maximum of listeners.
    #[error("too many follow the stock from this address; ask /v1/sale instead")]
    TooManyListenersHere,
    /// The path cannot be decoded.
    #[error("the path is not UTF-8")]
    Path,
    /// The query cannot be parsed.
    #[error("{0}")]
    Query(String),
    /// No route has this path.
    #[error("there is nothing at this path; see /docs")]
    NotFound,
    /// The path has no such method.
    #[error("this path does not take that method; see /docs")]
    MethodNotAllowed,
    /// A defect, or a wrong setting.
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
    /// Explains this occurrence, for people.
    detail: String,
    /// Names the problem, for programs; stable.
    code: &'static str,
    /// With `order_state`: the state of the order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    state: Option<OrderState>,
}

impl ApiError {
    /// The status of the answer and the code in its body.
    pub(crate) fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Purchase(error) => (error.status(), error.code()),
            Self::Order(error) => (error.status(), error.code()),
            Self::Coupon(error) => (error.status(), error.code()),
            Self::Waitlist(error) => (error.status(), error.code()),
            Self::Payment(error) => (payment_status(error), error.code()),
            Self::UnknownPayment => (StatusCode::NOT_FOUND, "unknown_payment"),
            Self::MissingToken | Self::Token(TokenError::Invalid) => {
                (StatusCode::UNAUTHORIZED, "unauthenticated")
            }
            Self::Token(TokenError::Expired) => (StatusCode::UNAUTHORIZED, "token_expired"),
            Self::Token(TokenError::Erased) => (StatusCode::UNAUTHORIZED, "account_erased"),
            Self::SignUp(SignUpRefused::Closed) => (StatusCode::FORBIDDEN, "sign_up_closed"),
            Self::SignUp(SignUpRefused::WrongInviteCode) => {
                (StatusCode::FORBIDDEN, "wrong_invite_code")
            }
            Self::UnknownBuyer(_) => (StatusCode::NOT_FOUND, "unknown_buyer"),
            Self::AdministratorAccount(_) => (StatusCode::CONFLICT, "administrator_account"),
            Self::UnknownSink(_) => (StatusCode::NOT_FOUND, "unknown_sink"),
            Self::UnknownEvent => (StatusCode::NOT_FOUND, "unknown_event"),
            Self::WrongCredentials => (StatusCode::UNAUTHORIZED, "wrong_credentials"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden"),
            Self::AccountExists(_) => (StatusCode::CONFLICT, "account_exists"),
            Self::TooManyAttempts(_) | Self::TooManySignUps(_) => {
                (StatusCode::TOO_MANY_REQUESTS, "too_many_attempts")
            }
            Self::Overloaded { .. } => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
            Self::Body { fault, .. } => (fault.status(), fault.code()),
            Self::ProductExists(_) => (StatusCode::CONFLICT, "product_exists"),
            Self::StockChanged { .. } => (StatusCode::CONFLICT, "stock_changed"),
            Self::TooManyListeners => (StatusCode::SERVICE_UNAVAILABLE, "too_many_listeners"),
            Self::TooManyListenersHere => (StatusCode::TOO_MANY_REQUESTS, "too_many_listeners"),
            Self::Field { .. } | Self::Path | Self::Query(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid_request")
            }
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }

    /// When a retry can succeed; `None`: not without a change.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Purchase(error) => error.retry_after(),
            Self::TooManyAttempts(error) | Self::TooManySignUps(error) => Some(error.retry_after),
            Self::Overloaded { retry_after } => Some(*retry_after),
            Self::TooManyListeners | Self::TooManyListenersHere => Some(Duration::from_secs(10)),
            Self::Order(error) => error.retry_after(),
            Self::Coupon(error) => error.retry_after(),
            Self::Waitlist(error) => error.retry_after(),
            _ => None,
        }
    }

    fn state(&self) -> Option<OrderState> {
        match self {
            Self::Order(OrderError::State(state)) => Some((*state).into()),
            _ => None,
        }
    }
}

fn payment_status(error: &PaymentError) -> StatusCode {
    match error {
        PaymentError::NotConfigured(_) => StatusCode::NOT_FOUND,
        PaymentError::Signature | PaymentError::Time | PaymentError::Json(_) => {
            StatusCode::BAD_REQUEST
        }
        PaymentError::Field { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        PaymentError::Amount { .. } => StatusCode::CONFLICT,
        PaymentError::Order(error) => error.status(),
        PaymentError::Ledger(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

impl From<WaitlistError> for ApiError {
    fn from(error: WaitlistError) -> Self {
        match error {
            WaitlistError::Purchase(error) => Self::Purchase(error),
            error => Self::Waitlist(error),
        }
    }
}

impl From<PaymentError> for ApiError {
    fn from(error: PaymentError) -> Self {
        match error {
            PaymentError::Order(error) => Self::Order(error),
            PaymentError::Ledger(error) => error.into(),
            error => Self::Payment(error),
        }
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self::Body { fault: BodyFault::of(&rejection), detail: rejection.body_text() }
    }
}

impl From<PathRejection> for ApiError {
    fn from(_: PathRejection) -> Self {
        Self::Path
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::Query(rejection.body_text())
    }
}

impl From<CredentialsError> for ApiError {
    fn from(CredentialsError { field, rule }: CredentialsError) -> Self {
        Self::Field { field, rule }
    }
}

impl From<RuleError> for ApiError {
    fn from(RuleError { field, rule }: RuleError) -> Self {
        Self::Field { field, rule }
    }
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Lock(error) => Self::Purchase(error.into()),
            ChangeError::Ledger(LedgerError::ProductExists(id)) => Self::ProductExists(id),
            ChangeError::Ledger(LedgerError::StockChanged { stock, .. }) => {
                Self::StockChanged { stock }
            }
            ChangeError::Ledger(error) => error.into(),
            ChangeError::Stock(_) => Self::Purchase(PurchaseError::StockUnavailable),
            ChangeError::LeaseOver => Self::Purchase(PurchaseError::DatabaseUnavailable),
        }
    }
}

impl From<ErasureError> for ApiError {
    fn from(error: ErasureError) -> Self {
        match error {
            ErasureError::Ledger(error) => error.into(),
            ErasureError::Redis(problem) => {
                error!(problem, "a buyer is not erased in Redis yet");
                Self::Purchase(PurchaseError::StockUnavailable)
            }
        }
    }
}

impl From<PasswordError> for ApiError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Overloaded { retry_after } => Self::Overloaded { retry_after },
            PasswordError::Internal(error) => error.into(),
        }
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

impl Problem {
    fn of(error: &ApiError) -> Self {
        let (status, code) = error.status_and_code();
        Self {
            kind: format!("urn:flashsale:problem:{code}"),
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: error.to_string(),
            code,
            state: error.state(),
        }
    }

    fn to_json(&self) -> Vec<u8> {
        // Text and numbers always become JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The most frequent answer of a sale, thousands a second. It is rendered once; a static slice has no
/// reference count that all cores would share.
static SOLD_OUT: LazyLock<&[u8]> =
    LazyLock::new(|| Problem::of(&PurchaseError::SoldOut.into()).to_json().leak());

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, _) = self.status_and_code();
        let document = match &self {
            Self::Purchase(PurchaseError::SoldOut) => Bytes::from_static(*SOLD_OUT),
            error => Problem::of(error).to_json().into(),
        };
        let mut response = Response::new(Body::from(document));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = self.retry_after() {
            // Whole seconds, rounded up: earlier would be too early.
            let seconds = (after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
