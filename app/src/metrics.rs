//! What the app measures, for Prometheus. A metric's doc comment is its help text.

use std::time::Duration;

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};
use prometheus::{Histogram, IntGauge};
use redlock::{AcquireOutcome, Observer};

use crate::sale::{Listing, PurchaseError, Receipt};

/// From a tenth of a millisecond to ten seconds.
const SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
    10.0,
];

/// All metrics of a replica.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    lock_wait: HistogramVec,
    lock_hold: Histogram,
    lock_node: HistogramVec,
    lock_node_failures: IntCounterVec,
    lock_acquisitions: IntCounterVec,
    lock_nodes_connected: IntGauge,
    purchases: IntCounterVec,
    batch_size: Histogram,
    stock_remaining: IntGaugeVec,
    http_requests: IntCounterVec,
    http_seconds: HistogramVec,
}

fn histogram(name: &str, help: &str) -> HistogramOpts {
    HistogramOpts::new(name, help).buckets(SECONDS.to_vec())
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// Never with the names below, which differ.
    pub fn new() -> prometheus::Result<Self> {
        let metrics = Self {
            registry: Registry::new(),
            lock_wait: HistogramVec::new(
                histogram(
                    "flashsale_lock_wait_seconds",
                    "Time until the lock was acquired or given up, by outcome.",
                ),
                &["outcome"],
            )?,
            lock_hold: Histogram::with_opts(histogram(
                "flashsale_lock_hold_seconds",
                "Time from the acquisition of the lock to its release.",
            ))?,
            lock_node: HistogramVec::new(
                histogram(
                    "flashsale_lock_node_seconds",
                    "Time one Redis node took to vote, by node; one that did not vote in time counts with its timeout.",
                ),
                &["node"],
            )?,
            lock_node_failures: IntCounterVec::new(
                Opts::new(
                    "flashsale_lock_node_failures_total",
                    "Votes that a Redis node did not give in time, by node.",
                ),
                &["node"],
            )?,
            lock_acquisitions: IntCounterVec::new(
                Opts::new(
                    "flashsale_lock_acquisitions_total",
                    "Attempts to acquire the lock, by outcome.",
                ),
                &["outcome"],
            )?,
            lock_nodes_connected: IntGauge::new(
                "flashsale_lock_nodes_connected",
                "Redis nodes this replica is connected to.",
            )?,
            purchases: IntCounterVec::new(
                Opts::new("flashsale_purchases_total", "Purchases, by outcome."),
                &["outcome"],
            )?,
            batch_size: Histogram::with_opts(
                HistogramOpts::new(
                    "flashsale_batch_size",
                    "Purchases decided under one acquisition of the lock.",
                )
                .buckets(prometheus::exponential_buckets(1.0, 2.0, 11)?),
            )?,
            stock_remaining: IntGaugeVec::new(
                Opts::new("flashsale_stock_remaining", "Units left, by product."),
                &["product"],
            )?,
            http_requests: IntCounterVec::new(
                Opts::new(
                    "flashsale_http_requests_total",
                    "HTTP requests, by method, route and status.",
                ),
                &["method", "route", "status"],
            )?,
            http_seconds: HistogramVec::new(
                histogram(
                    "flashsale_http_request_seconds",
                    "Time to answer an HTTP request, by route.",
                ),
                &["route"],
            )?,
        };
        metrics.register()?;
        Ok(metrics)
    }

    fn register(&self) -> prometheus::Result<()> {
        // Without `..`: a metric that is not registered does not compile.
        let Self {
            registry,
            lock_wait,
            lock_hold,
            lock_node,
            lock_node_failures,
            lock_acquisitions,
            lock_nodes_connected,
            purchases,
            batch_size,
            stock_remaining,
            http_requests,
            http_seconds,
        } = self;
        registry.register(Box::new(lock_wait.clone()))?;
        registry.register(Box::new(lock_hold.clone()))?;
        registry.register(Box::new(lock_node.clone()))?;
        registry.register(Box::new(lock_node_failures.clone()))?;
        registry.register(Box::new(lock_acquisitions.clone()))?;
        registry.register(Box::new(lock_nodes_connected.clone()))?;
        registry.register(Box::new(purchases.clone()))?;
        registry.register(Box::new(batch_size.clone()))?;
        registry.register(Box::new(stock_remaining.clone()))?;
        registry.register(Box::new(http_requests.clone()))?;
        registry.register(Box::new(http_seconds.clone()))
    }

    /// Everything in Prometheus's text format.
    ///
    /// # Errors
    /// When a metric cannot be encoded.
    pub fn encode(&self) -> prometheus::Result<String> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Counts an answer to a buyer.
    pub fn purchase(&self, result: Result<&Receipt, &PurchaseError>) {
        let outcome = match result {
            Ok(Receipt { replayed: false, .. }) => "sold",
            Ok(Receipt { replayed: true, .. }) => "replayed",
            Err(error) => error.code(),
        };
        self.purchases.with_label_values(&[outcome]).inc();
    }

    /// Counts purchases that are decided together.
    pub fn batch(&self, size: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a batch is far below 2^52")]
        self.batch_size.observe(size as f64);
    }

    /// Takes over what is read only when somebody asks.
    pub fn refresh(&self, listings: &[Listing], nodes_connected: usize) {
        for listing in listings {
            self.stock_remaining.with_label_values(&[&listing.product.id]).set(listing.remaining);
        }
        self.lock_nodes_connected.set(i64::try_from(nodes_connected).unwrap_or(i64::MAX));
    }

    /// Counts an HTTP request; `route` is the pattern, not the path.
    pub fn http(&self, method: &str, route: &str, status: &str, took: Duration) {
        self.http_requests.with_label_values(&[method, route, status]).inc();
        self.http_seconds.with_label_values(&[route]).observe(took.as_secs_f64());
    }
}

impl Observer for Metrics {
    fn acquired(&self, outcome: AcquireOutcome, waited: Duration) {
        let outcome = match outcome {
            AcquireOutcome::Acquired => "acquired",
            AcquireOutcome::Timeout => "timeout",
            AcquireOutcome::QuorumUnavailable => "quorum_unavailable",
        };
        self.lock_wait.with_label_values(&[outcome]).observe(waited.as_secs_f64());
        self.lock_acquisitions.with_label_values(&[outcome]).inc();
    }

    fn released(&self, held: Duration) {
        self.lock_hold.observe(held.as_secs_f64());
    }

    fn node_voted(&self, node: usize, took: Duration, answered: bool) {
        let node = node_label(node);
        self.lock_node.with_label_values(&[node]).observe(took.as_secs_f64());
        if !answered {
            self.lock_node_failures.with_label_values(&[node]).inc();
        }
    }
}

/// A sale has one node or five.
fn node_label(node: usize) -> &'static str {
    ["0", "1", "2", "3", "4"].get(node).copied().unwrap_or("other")
}
