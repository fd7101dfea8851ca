//! What the handlers share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
#[derive(Debug)]
pub struct Readiness {
    /// `None`: it takes them.
    unready: Mutex<Option<Vec<String>>>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self { unready: Mutex::new(Some(vec!["starting".to_owned()])) }
    }
}

impl Readiness {
    /// Says why not.
    pub fn set_unready(&self, reasons: Vec<String>) {
        *self.lock() = Some(reasons);
    }

    /// From now on ready.
    pub fn set_ready(&self) {
        *self.lock() = None;
    }

    /// Why not; `None` when it is ready.
    #[must_use]
    pub fn unready(&self) -> Option<Vec<String>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<String>>> {
        self.unready.lock().unwrap_or_else(PoisonError::into_inner)
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
