//! What the handlers share.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::FromRef;
use ledger::Ledger;
use sale::Coupons;
use sale::Sale;

use super::feed::Feed;
use crate::auth::{LoginRateLimiter, Passwords, Tokens};
use crate::metrics::Metrics;

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
    pub rate_limiter: Arc<LoginRateLimiter>,
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
