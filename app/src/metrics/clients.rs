//! What clients do before they buy: connect and log in.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry, Result};

use super::durations::{DurationFamily, DurationHistogram};
use super::family::Family;

/// Metrics of connections and log-ins.
#[derive(Debug)]
pub struct ClientMetrics {
    connections: IntGauge,
    refused: IntCounter,
    dropped: IntCounter,
    log_ins: IntCounterVec,
    sign_ups: IntCounterVec,
    budgets_shared: IntGauge,
    budget_fallbacks: IntCounter,
    password_seconds: DurationFamily,
    hashes: Arc<DurationHistogram>,
}

/// How a log-in ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogIn {
    /// With a token.
    Succeeded,
    /// Unknown id or wrong password.
    Wrong,
    /// After too many.
    TooMany,
    /// Too many were waiting.
    Overloaded,
}

impl LogIn {
    const ALL: [Self; 4] = [Self::Succeeded, Self::Wrong, Self::TooMany, Self::Overloaded];

    fn label(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Wrong => "wrong_credentials",
            Self::TooMany => "too_many_attempts",
            Self::Overloaded => "overloaded",
        }
    }
}

/// How a sign-up ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignUp {
    /// With an account.
    Succeeded,
    /// The id is taken.
    Exists,
    /// Too many from this address.
    TooMany,
    /// Too many were waiting.
    Overloaded,
    /// The database was away, or something failed.
    Failed,
}

impl SignUp {
    const ALL: [Self; 5] =
        [Self::Succeeded, Self::Exists, Self::TooMany, Self::Overloaded, Self::Failed];

    fn label(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Exists => "account_exists",
            Self::TooMany => "too_many_attempts",
            Self::Overloaded => "overloaded",
            Self::Failed => "failed",
        }
    }
}

impl ClientMetrics {
    pub(super) fn registered(registry: &Registry) -> Result<Self> {
        let (password_seconds, hashes) = DurationFamily::single(
            "flashsale_password_hash_seconds",
            "Time to hash a password, once it was its turn.",
        );
        let metrics = Self {
            connections: IntGauge::new("flashsale_http_connections", "Open connections.")?,
            refused: IntCounter::new(
                "flashsale_http_connections_refused_total",
                "Connections refused because HTTP_MAX_CONNECTIONS were open.",
            )?,
            dropped: IntCounter::new(
                "flashsale_http_connections_dropped_total",
                "Connections dropped because the client was too slow, or idle for too long.",
            )?,
            log_ins: IntCounterVec::new(
                Opts::new("flashsale_log_ins_total", "Log-ins, by outcome."),
                &["outcome"],
            )?,
            sign_ups: IntCounterVec::new(
                Opts::new("flashsale_sign_ups_total", "Sign-ups, by outcome."),
                &["outcome"],
            )?,
            budgets_shared: IntGauge::new(
                "flashsale_rate_limits_shared",
                "1: the replica shares the limits of log-ins and sign-ups with the others; 0: it has its own.",
            )?,
            budget_fallbacks: IntCounter::new(
                "flashsale_rate_limit_fallbacks_total",
                "Log-ins and sign-ups that the replica's own limits decided, because the shared ones were away.",
            )?,
            password_seconds,
            hashes,
        };
        for outcome in LogIn::ALL {
            metrics.log_ins.with_label_values(&[outcome.label()]);
        }
        for outcome in SignUp::ALL {
            metrics.sign_ups.with_label_values(&[outcome.label()]);
        }
        // Without `..`: a metric that is not registered does not compile.
        let Self {
            connections,
            refused,
            dropped,
            log_ins,
            sign_ups,
            budgets_shared,
            budget_fallbacks,
            password_seconds: _,
            hashes: _,
        } = &metrics;
        registry.register(Box::new(connections.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        registry.register(Box::new(dropped.clone()))?;
        registry.register(Box::new(log_ins.clone()))?;
        registry.register(Box::new(sign_ups.clone()))?;
        registry.register(Box::new(budgets_shared.clone()))?;
        registry.register(Box::new(budget_fallbacks.clone()))?;
        Ok(metrics)
    }

    /// The histograms.
    pub(super) fn durations(&self) -> Option<Family> {
        self.password_seconds.collect()
    }

    /// Counts a connection until what is returned is dropped.
    #[must_use]
    pub fn connected(&self) -> impl Drop + use<> {
        self.connections.inc();
        Open(self.connections.clone())
    }

    /// Counts a connection that was refused.
    pub fn refused(&self) {
        self.refused.inc();
    }

    /// Counts a connection that was dropped.
    pub fn dropped(&self) {
        self.dropped.inc();
    }

    /// Counts a log-in.
    pub fn log_in(&self, outcome: LogIn) {
        self.log_ins.with_label_values(&[outcome.label()]).inc();
    }

    /// Counts a sign-up.
    pub fn sign_up(&self, outcome: SignUp) {
        self.sign_ups.with_label_values(&[outcome.label()]).inc();
    }

    /// Whether the limits of log-ins and sign-ups are those of all replicas.
    pub fn set_budgets_shared(&self, shared: bool) {
        self.budgets_shared.set(i64::from(shared));
    }

    /// Counts an attempt that this replica's own limits decide.
    pub fn budget_fallback(&self) {
        self.budget_fallbacks.inc();
    }

    /// Counts a hash.
    pub fn hashed(&self, took: Duration) {
        self.hashes.observe(took);
    }
}

struct Open(IntGauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
