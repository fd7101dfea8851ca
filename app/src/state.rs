//! What the handlers share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use crate::auth::{Claims, Passwords, Tokens};
use crate::error::ApiError;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::sale::Sale;

/// Cheap to clone.
#[derive(Debug, Clone, FromRef)]
pub struct AppState {
    /// Sells.
    pub sale: Arc<Sale>,
    /// For accounts.
    pub ledger: Ledger,
    /// Signs and checks tokens.
    pub tokens: Arc<Tokens>,
    /// Hashes and checks passwords.
    pub passwords: Passwords,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// Why a replica takes no requests yet, or none any more.
#[derive(Debug, Default)]
pub struct Readiness {
    reasons: std::sync::Mutex<Vec<String>>,
    ready: AtomicBool,
}

impl Readiness {
    /// Says why not yet.
    pub fn not_yet(&self, reasons: Vec<String>) {
        *self.reasons.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = reasons;
        self.ready.store(false, std::sync::atomic::Ordering::Release);
    }

    /// From now on ready.
    pub fn ready(&self) {
        self.not_yet(Vec::new());
        self.ready.store(true, std::sync::atomic::Ordering::Release);
    }

    /// Whether it is, and if not, why.
    #[must_use]
    pub fn state(&self) -> (bool, Vec<String>) {
        let reasons = self.reasons.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        (self.ready.load(std::sync::atomic::Ordering::Acquire), reasons.clone())
    }
}

/// The claims of the token a request came with.
#[derive(Debug)]
pub struct Authenticated(pub Claims);

impl FromRequestParts<AppState> for Authenticated {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let header = parts.headers.get(AUTHORIZATION).ok_or(ApiError::MissingToken)?;
        let (scheme, token) = header
            .to_str()
            .ok()
            .and_then(|value| value.split_once(' '))
            .ok_or(ApiError::MissingToken)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(ApiError::MissingToken);
        }
        Ok(Self(state.tokens.verify(token.trim())?))
    }
}
