//! TLS on the API's port.

use jiff::Timestamp;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry, Result};

/// Metrics of TLS.
#[derive(Debug)]
pub struct TlsMetrics {
    expires: IntGauge,
    reload_failures: IntCounter,
    handshake_failures: IntCounterVec,
}

/// Why there is no TLS connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// The client did not complete the handshake in time.
    Timeout,
    /// The client speaks HTTP without TLS.
    PlainHttp,
    /// The client refuses the certificate, has no common version or cipher, or speaks no TLS.
    Failed,
}

impl HandshakeFailure {
    const ALL: [Self; 3] = [Self::Timeout, Self::PlainHttp, Self::Failed];

    fn label(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::PlainHttp => "plain_http",
            Self::Failed => "failed",
        }
    }
}

impl TlsMetrics {
    pub(super) fn registered(registry: &Registry) -> Result<Self> {
        let metrics = Self {
            expires: IntGauge::new(
                "flashsale_tls_certificate_expiration_timestamp_seconds",
                "End of validity of the TLS certificate in use, as Unix time.",
            )?,
            reload_failures: IntCounter::new(
                "flashsale_tls_reload_failures_total",
                "Attempts to reload a changed TLS certificate that failed; the previous one stays in use.",
            )?,
            handshake_failures: IntCounterVec::new(
                Opts::new(
                    "flashsale_tls_handshake_failures_total",
                    "Connections without a completed TLS handshake, by reason.",
                ),
                &["reason"],
            )?,
        };
        for reason in HandshakeFailure::ALL {
            metrics.handshake_failures.with_label_values(&[reason.label()]);
        }
        // Without `..`: a metric that is not registered does not compile.
        let Self { expires, reload_failures, handshake_failures } = &metrics;
        registry.register(Box::new(expires.clone()))?;
        registry.register(Box::new(reload_failures.clone()))?;
        registry.register(Box::new(handshake_failures.clone()))?;
        Ok(metrics)
    }

    /// Sets the end of validity of the certificate in use.
    pub fn certificate(&self, expires: Timestamp) {
        self.expires.set(expires.as_second());
    }

    /// Counts a failed reload.
    pub fn reload_failed(&self) {
        self.reload_failures.inc();
    }

    /// Counts a failed handshake.
    pub fn handshake_failed(&self, reason: HandshakeFailure) {
        self.handshake_failures.with_label_values(&[reason.label()]).inc();
    }
}
