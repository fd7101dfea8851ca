//! What is measured of payments that payment services report.

use ledger::PaymentTotals;
use prometheus::{IntCounterVec, IntGauge, Opts, Registry, Result};

/// A metric's help text is its documentation.
#[derive(Debug)]
pub(super) struct PaymentMetrics {
    events: IntCounterVec,
    open: IntGauge,
}

impl PaymentMetrics {
    pub(super) fn registered(registry: &Registry) -> Result<Self> {
        let metrics = Self {
            events: IntCounterVec::new(
                Opts::new(
                    "flashsale_payment_events_total",
                    "Events of payment services, by service and outcome.",
                ),
                &["provider", "outcome"],
            )?,
            open: IntGauge::new(
                "flashsale_payment_events_open",
                "Events of payment services that changed nothing and wait for an administrator; read from the \
                 database every 5 s.",
            )?,
        };
        // Without `..`: a metric that is not registered does not compile.
        let Self { events, open } = &metrics;
        registry.register(Box::new(events.clone()))?;
        registry.register(Box::new(open.clone()))?;
        Ok(metrics)
    }

    /// Makes the series of these outcomes of a service's events.
    pub(super) fn know_outcomes<'a>(
        &self,
        provider: &str,
        outcomes: impl Iterator<Item = &'a str>,
    ) {
        for outcome in outcomes {
            self.events.with_label_values(&[provider, outcome]);
        }
    }

    /// Counts an event.
    pub(super) fn received(&self, provider: &'static str, outcome: &'static str) {
        self.events.with_label_values(&[provider, outcome]).inc();
    }

    /// Takes over what the database has.
    pub(super) fn set(&self, totals: PaymentTotals) {
        self.open.set(totals.open_events);
    }
}
