//! The state that all handlers share.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::FromRef;
use ledger::Ledger;
use sale::Coupons;
use sale::Sale;

use super::feed::Feed;
use crate::auth::{LoginRateLimiter, Passwords, SignUpPolicy, Tokens};
use crate::erasures::Erasures;
use crate::metrics::Metrics;
use crate::payments::Payments;

/// A single pointer. Each request clones it several times, and all cores share its reference count.
#[derive(Debug, Clone)]
pub struct AppState(Arc<Parts>);

/// See [`AppState`].
#[derive(Debug)]
pub struct Parts {
    /// Sells.
    pub sale: Arc<Sale>,
    /// Issues coupons.
    pub coupons: Arc<Coupons>,
    /// Stores accounts.
    pub ledger: Ledger,
    /// Signs and checks tokens.
    pub tokens: Arc<Tokens>,
    /// Hashes and checks passwords.
    pub passwords: Passwords,
    /// Who may sign up.
    pub sign_up: Arc<SignUpPolicy>,
    /// Takes the events of payment services.
    pub payments: Arc<Payments>,
    /// Who was erased.
    pub erasures: Arc<Erasures>,
    /// Limits log-ins and sign-ups.
    pub rate_limiter: Arc<LoginRateLimiter>,
    /// Number of trusted proxies that append to `X-Forwarded-For` or `Forwarded`.
    pub trusted_proxies: usize,
    /// Counts requests and outcomes.
    pub metrics: Arc<Metrics>,
    /// Publishes the stock to listeners.
    pub feed: Feed,
    /// The name of this replica.
    pub replica: Arc<str>,
}

impl AppState {
    /// Shares the parts.
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

/// Lets a handler extract a single part with `State`.
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
    erasures: Arc<Erasures>,
    payments: Arc<Payments>,
    metrics: Arc<Metrics>,
    feed: Feed,
    replica: Arc<str>,
}

/// Whether the replica accepts requests, and why not.
#[derive(Debug)]
pub struct Readiness {
    /// The reasons; `None`: ready.
    unready: Mutex<Option<Vec<String>>>,
    /// Set once: the replica shuts down, and is not ready again.
    ends: AtomicBool,
}

impl Default for Readiness {
    fn default() -> Self {
        Self {
            unready: Mutex::new(Some(vec!["starting".to_owned()])),
            ends: AtomicBool::new(false),
        }
    }
}

impl Readiness {
    /// Marks the replica as not ready, for these reasons.
    pub fn set_unready(&self, reasons: Vec<String>) {
        *self.lock() = Some(reasons);
    }

    /// Marks the replica as ready.
    pub fn set_ready(&self) {
        *self.lock() = None;
    }

    /// Marks the replica as not ready until its end, although it still answers.
    pub fn end(&self) {
        self.ends.store(true, Relaxed);
    }

    /// The reasons why the replica is not ready; `None`: it is.
    #[must_use]
    pub fn unready(&self) -> Option<Vec<String>> {
        if self.ends.load(Relaxed) {
            return Some(vec!["shutting down".to_owned()]);
        }
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<String>>> {
        self.unready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
