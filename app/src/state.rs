//! What the handlers share.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{FromRef, FromRequestParts};
use axum::http::header::AUTHORIZATION;
use axum::http::request;

use crate::auth::{Attempts, Claims, Passwords, Role, Tokens, client_address};
use crate::coupons::Coupons;
use crate::error::ApiError;
use crate::feed::Feed;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::sale::Sale;
use crate::serve::Peer;

/// One pointer: each request clones it more than once, and all cores share the counts behind it.
#[derive(Debug, Clone)]
pub struct AppState(Arc<Parts>);

/// See [`AppState`].
#[derive(Debug)]
pub struct Parts {
    /// Sells.
    pub sale: Arc<Sale>,
    /// Issues coupons.
    pub coupons: Arc<Coupons>,
    /// For accounts.
    pub ledger: Ledger,
    /// Signs and checks tokens.
    pub tokens: Arc<Tokens>,
    /// Hashes and checks passwords.
    pub passwords: Passwords,
    /// Bounds log-ins and sign-ups.
    pub attempts: Arc<Attempts>,
    /// Proxies in front that add to `X-Forwarded-For` or `Forwarded`.
    pub trusted_proxies: usize,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Tells listeners of the stock.
    pub feed: Feed,
    /// This replica's name.
    pub replica: Arc<str>,
}

impl AppState {
    /// Shares them.
    #[must_use]
    pub fn of(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for AppState {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// What a handler may ask for alone.
macro_rules! parts {
    ($($part:ident: $of:ty,)*) => {$(
        impl FromRef<AppState> for $of {
            fn from_ref(state: &AppState) -> Self {
                state.$part.clone()
            }
        }
    )*};
}

parts! {
    sale: Arc<Sale>,
    coupons: Arc<Coupons>,
    ledger: Ledger,
    tokens: Arc<Tokens>,
    passwords: Passwords,
    metrics: Arc<Metrics>,
    feed: Feed,
    replica: Arc<str>,
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

    async fn from_request_parts(
        parts: &mut request::Parts,
        state: &AppState,
    ) -> Result<Self, ApiError> {
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

/// The claims of an administrator's token.
#[derive(Debug)]
pub struct Admin(pub Claims);

impl FromRequestParts<AppState> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut request::Parts,
        state: &AppState,
    ) -> Result<Self, ApiError> {
        let Authenticated(claims) = Authenticated::from_request_parts(parts, state).await?;
        match claims.role {
            Role::Admin => Ok(Self(claims)),
            Role::Buyer => Err(ApiError::Forbidden),
        }
    }
}

/// The client's address: of the connection, or what the trusted proxies say.
#[derive(Debug)]
pub(crate) struct ClientAddress(pub IpAddr);

impl FromRequestParts<AppState> for ClientAddress {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut request::Parts,
        state: &AppState,
    ) -> Result<Self, Self::Rejection> {
        // Absent only where a test calls the router itself.
        let peer = parts.extensions.get::<Peer>();
        let peer = peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.0.ip());
        Ok(Self(client_address(peer, &parts.headers, state.trusted_proxies)))
    }
}
