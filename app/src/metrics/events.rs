//! What is measured of events that are sent to systems outside.

use std::time::Duration;

use ledger::events::SinkCounts;
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, Result,
};

/// The sinks that there can be.
const SINKS: [&str; 2] = ["webhook", "nats"];
/// From the change of an order until its event was taken, in seconds.
const BUCKETS: [f64; 13] =
    [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 600.0, 3600.0];

/// Metrics of events.
#[derive(Debug)]
pub struct EventMetrics {
    delivered: HistogramVec,
    failed: IntCounterVec,
    pending: IntGaugeVec,
    dead: IntGaugeVec,
    lag: GaugeVec,
    disabled: IntGaugeVec,
}

impl EventMetrics {
    pub(super) fn registered(registry: &Registry) -> Result<Self> {
        let gauge = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &["sink"]);
        let metrics = Self {
            delivered: HistogramVec::new(
                HistogramOpts::new(
                    "flashsale_event_delivery_seconds",
                    "Time from the change of an order until the sink took its event, for events that this replica delivered.",
                )
                .buckets(BUCKETS.to_vec()),
                &["sink"],
            )?,
            failed: IntCounterVec::new(
                Opts::new(
                    "flashsale_event_attempts_failed_total",
                    "Attempts of this replica to deliver an event that failed, by sink.",
                ),
                &["sink"],
            )?,
            pending: gauge(
                "flashsale_events_pending",
                "Events that the sink does not have yet; read from the database every 5 s.",
            )?,
            dead: gauge(
                "flashsale_events_dead",
                "Events that were given up after 3 days of attempts, until an administrator replays them.",
            )?,
            lag: GaugeVec::new(
                Opts::new(
                    "flashsale_event_lag_seconds",
                    "Age of the oldest pending event of the sink; 0 if there is none.",
                ),
                &["sink"],
            )?,
            disabled: gauge(
                "flashsale_event_sink_disabled",
                "1 if the sink answered 410 and gets no events until an administrator enables it, else 0.",
            )?,
        };
        for sink in SINKS {
            metrics.delivered.with_label_values(&[sink]);
            metrics.failed.with_label_values(&[sink]);
            metrics.lag.with_label_values(&[sink]);
            for gauge in [&metrics.pending, &metrics.dead, &metrics.disabled] {
                gauge.with_label_values(&[sink]);
            }
        }
        // Without `..`: a metric that is not registered does not compile.
        let Self { delivered, failed, pending, dead, lag, disabled } = &metrics;
        registry.register(Box::new(delivered.clone()))?;
        registry.register(Box::new(failed.clone()))?;
        registry.register(Box::new(pending.clone()))?;
        registry.register(Box::new(dead.clone()))?;
        registry.register(Box::new(lag.clone()))?;
        registry.register(Box::new(disabled.clone()))?;
        Ok(metrics)
    }

    /// Counts an event that the sink took, this long after the change.
    pub fn delivered(&self, sink: &'static str, took: Duration) {
        self.delivered.with_label_values(&[sink]).observe(took.as_secs_f64());
    }

    /// Counts an attempt that failed.
    pub fn failed(&self, sink: &'static str) {
        self.failed.with_label_values(&[sink]).inc();
    }

    /// Takes over what the database has. Other sinks have nothing.
    pub fn set(&self, counts: &[SinkCounts]) {
        for sink in SINKS {
            let found = counts.iter().find(|counts| counts.name == sink);
            let count = |of: fn(&SinkCounts) -> i64| found.map_or(0, of);
            self.pending.with_label_values(&[sink]).set(count(|sink| sink.pending));
            self.dead.with_label_values(&[sink]).set(count(|sink| sink.dead));
            let is_disabled = count(|sink| sink.disabled_at_ms.is_some().into());
            self.disabled.with_label_values(&[sink]).set(is_disabled);
            #[expect(
                clippy::cast_precision_loss,
                reason = "a number of milliseconds is far below 2^52"
            )]
            self.lag.with_label_values(&[sink]).set(count(|sink| sink.lag_ms).max(0) as f64 / 1e3);
        }
    }
}
