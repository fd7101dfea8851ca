//! What the app measures, for Prometheus. A metric's doc comment is its help text.

mod buckets;
mod clients;
mod lock;
mod stores;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use sale::{Drift, Job, Listing, Observer, PurchaseError, Receipt};

use self::buckets::histogram;
pub use clients::{ClientMetrics, LogIn, SignUp};
pub use lock::{LockMetrics, LockWait};
use stores::StoreMetrics;
pub use tls::{HandshakeFailure, TlsMetrics};

/// All metrics of a replica.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    lock: Arc<LockMetrics>,
    clients: Arc<ClientMetrics>,
    stores: StoreMetrics,
    purchases: IntCounterVec,
    /// Of `purchases`: what is counted most is not looked up by its label each time.
    sold: IntCounter,
    /// The same.
    sold_out: IntCounter,
    orders: IntCounterVec,
    coupons: IntCounterVec,
    batch_size: Histogram,
    http_requests: IntCounterVec,
    http_seconds: HistogramVec,
}

/// Units left of each product. Made for each scrape: two at once share nothing, and products that
/// were deleted are not in it.
fn stock_remaining(listings: &[Listing]) -> prometheus::Result<Vec<MetricFamily>> {
    let help = Opts::new("flashsale_stock_remaining", "Units left, by product.");
    let gauges = IntGaugeVec::new(help, &["product"])?;
    for listing in listings {
        gauges.with_label_values(&[&listing.product.id]).set(listing.remaining);
    }
    // Without a product there is no family: an empty one cannot be encoded.
    Ok(if listings.is_empty() { Vec::new() } else { gauges.collect() })
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// Never with the names below, which differ.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let purchases = IntCounterVec::new(
            Opts::new("flashsale_purchases_total", "Purchases, by outcome."),
            &["outcome"],
        )?;
        // From the start: an alert on the first would miss a series that begins with it.
        purchases.with_label_values(&[PurchaseError::Internal.code()]);
        let metrics = Self {
            lock: Arc::new(LockMetrics::registered(&registry)?),
            clients: Arc::new(ClientMetrics::registered(&registry)?),
            stores: StoreMetrics::registered(&registry)?,
            registry,
            sold: purchases.with_label_values(&["sold"]),
            sold_out: purchases.with_label_values(&[PurchaseError::SoldOut.code()]),
            purchases,
            orders: IntCounterVec::new(
                Opts::new(
                    "flashsale_orders_total",
                    "Orders of several products placed, cancelled and paid, by outcome.",
                ),
                &["outcome"],
            )?,
            coupons: IntCounterVec::new(
                Opts::new("flashsale_coupons_total", "Coupons asked for, by outcome."),
                &["outcome"],
            )?,
            batch_size: Histogram::with_opts(
                HistogramOpts::new(
                    "flashsale_batch_size",
                    "Purchases decided under one acquisition of the lock.",
                )
                .buckets(prometheus::exponential_buckets(1.0, 2.0, 11)?),
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
            lock: _,
            clients: _,
            stores: _,
            purchases,
            sold: _,
            sold_out: _,
            orders,
            coupons,
            batch_size,
            http_requests,
            http_seconds,
        } = self;
        registry.register(Box::new(purchases.clone()))?;
        registry.register(Box::new(orders.clone()))?;
        registry.register(Box::new(coupons.clone()))?;
        registry.register(Box::new(batch_size.clone()))?;
        registry.register(Box::new(http_requests.clone()))?;
        registry.register(Box::new(http_seconds.clone()))
    }

    /// Everything in Prometheus's text format, with the stock of these products.
    ///
    /// # Errors
    /// When a metric cannot be encoded.
    pub fn encode(&self, listings: &[Listing]) -> prometheus::Result<String> {
        let mut families = self.registry.gather();
        families.extend(stock_remaining(listings)?);
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Is told what the lock does.
    #[must_use]
    pub fn lock(&self) -> &Arc<LockMetrics> {
        &self.lock
    }

    /// Is told what clients do before they buy.
    #[must_use]
    pub fn clients(&self) -> &Arc<ClientMetrics> {
        &self.clients
    }

    /// Registers the metrics of TLS. Without TLS they are absent: a certificate that expires at 0 would raise an alert.
    ///
    /// # Errors
    /// When they are registered already.
    pub fn with_tls(&self) -> prometheus::Result<Arc<TlsMetrics>> {
        Ok(Arc::new(TlsMetrics::registered(&self.registry)?))
    }

    /// Counts an HTTP request; `route` is the pattern, not the path.
    pub fn http(&self, method: &str, route: &str, status: &str, took: Duration) {
        self.http_requests.with_label_values(&[method, route, status]).inc();
        self.http_seconds.with_label_values(&[route]).observe(took.as_secs_f64());
    }
}

impl Observer for Metrics {
    fn purchase(&self, result: Result<&Receipt, &PurchaseError>) {
        let outcome = match result {
            Ok(Receipt { replayed: false, .. }) => return self.sold.inc(),
            Err(PurchaseError::SoldOut) => return self.sold_out.inc(),
            Ok(Receipt { replayed: true, .. }) => "replayed",
            Err(error) => error.code(),
        };
        self.purchases.with_label_values(&[outcome]).inc();
    }

    fn order(&self, outcome: &'static str) {
        self.orders.with_label_values(&[outcome]).inc();
    }

    fn coupon(&self, outcome: &'static str) {
        self.coupons.with_label_values(&[outcome]).inc();
    }

    fn batch(&self, size: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a batch is far below 2^52")]
        self.batch_size.observe(size as f64);
    }

    fn lease_lost(&self) {
        redlock::Observer::lease_lost(&*self.lock);
    }

    fn ran(&self, job: Job) {
        self.stores.ran(job);
    }

    fn drifted(&self, kind: Drift) {
        self.stores.drifted(kind);
    }

    fn repaired(&self, done: bool) {
        self.stores.repaired(done);
    }

    fn unrecorded(&self, orders: i64) {
        self.stores.unrecorded(orders);
    }

    fn recorded(&self, new: usize, refused: usize) {
        self.stores.recorded(new, refused);
    }
}
