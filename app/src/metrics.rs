//! What the app measures, for Prometheus. A metric's doc comment is its help text.

mod clients;
mod durations;
mod events;
mod exposition;
mod family;
mod holds;
mod lock;
mod orders;
mod payments;
mod protobuf;
mod stock;
mod stores;
mod tls;
mod traces;

use std::sync::Arc;
use std::time::Duration;

use ledger::PaymentTotals;
use ledger::orders::{HoldCounts, OrderState, UnitCount};
use process_metrics::ProcessMetrics;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use sale::{CouponError, Drift, Job, Listing, Observer, OrderError, PurchaseError, Receipt};

pub use clients::{ClientMetrics, LogIn, SignUp};
use durations::DurationFamily;
pub use events::EventMetrics;
pub use exposition::Exposition;
use family::Family;
use holds::HoldMetrics;
pub use lock::{LockMetrics, LockWait};
use orders::OrderedMetrics;
use payments::PaymentMetrics;
use stores::StoreMetrics;
pub use tls::{HandshakeFailure, TlsMetrics};
pub use traces::{SpanLoss, TraceMetrics};

/// Outcomes of orders beside errors.
const PLACED: [&str; 3] = ["placed", "replayed", "unchanged"];
/// Outcomes of coupons beside errors.
const ISSUED: [&str; 2] = ["issued", "replayed"];
/// Requests that match no route.
const NO_ROUTE: &str = "none";

/// All metrics of a replica.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    lock: Arc<LockMetrics>,
    clients: Arc<ClientMetrics>,
    stores: StoreMetrics,
    holds: HoldMetrics,
    payments: PaymentMetrics,
    events: Arc<EventMetrics>,
    ordered: OrderedMetrics,
    purchases: IntCounterVec,
    /// Of `purchases`: what is counted most is not looked up by its label each time.
    sold: IntCounter,
    /// The same.
    sold_out: IntCounter,
    orders: IntCounterVec,
    coupons: IntCounterVec,
    database: IntGauge,
    batch_size: Histogram,
    http_requests: IntCounterVec,
    http_seconds: DurationFamily,
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
        let metrics = Self {
            lock: Arc::new(LockMetrics::registered(&registry)?),
            clients: Arc::new(ClientMetrics::registered(&registry)?),
            stores: StoreMetrics::registered(&registry)?,
            holds: HoldMetrics::registered(&registry)?,
            payments: PaymentMetrics::registered(&registry)?,
            events: Arc::new(EventMetrics::registered(&registry)?),
            ordered: OrderedMetrics::default(),
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
            database: IntGauge::new(
                "flashsale_database_up",
                "1 if the database answered this replica's last read of the catalog (each second), else 0.",
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
            http_seconds: DurationFamily::by(
                "route",
                "flashsale_http_request_seconds",
                "Time to answer an HTTP request, by route.",
            ),
        };
        metrics.register()?;
        metrics.start_series();
        Ok(metrics)
    }

    fn register(&self) -> prometheus::Result<()> {
        // Without `..`: a metric that is not registered does not compile.
        let Self {
            registry,
            lock: _,
            clients: _,
            stores: _,
            holds: _,
            payments: _,
            events: _,
            ordered: _,
            purchases,
            sold: _,
            sold_out: _,
            orders,
            coupons,
            database,
            batch_size,
            http_requests,
            http_seconds: _,
        } = self;
        let build = Opts::new("flashsale_build_info", "1, with the version of the app as a label.");
        let build = IntGauge::with_opts(build.const_label("version", env!("CARGO_PKG_VERSION")))?;
        build.set(1);
        registry.register(Box::new(build))?;
        registry.register(Box::new(ProcessMetrics::of_this_process()))?;
        registry.register(Box::new(purchases.clone()))?;
        registry.register(Box::new(orders.clone()))?;
        registry.register(Box::new(coupons.clone()))?;
        registry.register(Box::new(database.clone()))?;
        registry.register(Box::new(batch_size.clone()))?;
        registry.register(Box::new(http_requests.clone()))
    }

    /// Makes the series of all outcomes. `rate` and `increase` do not see the first event of a series that begins
    /// with it.
    fn start_series(&self) {
        let errors = PurchaseError::CODES.iter();
        for outcome in errors.clone().chain(&["sold", "replayed"]) {
            self.purchases.with_label_values(&[*outcome]);
        }
        let states = OrderState::ALL.map(OrderState::name);
        for outcome in errors.clone().chain(&OrderError::CODES).chain(&PLACED).chain(&states) {
            self.orders.with_label_values(&[*outcome]);
        }
        for outcome in errors.chain(&CouponError::CODES).chain(&ISSUED) {
            self.coupons.with_label_values(&[*outcome]);
        }
        self.know_responses([("GET", NO_ROUTE, "404")]);
    }

    /// Makes the series of these responses: method, route and status.
    pub fn know_responses<'a>(
        &self,
        responses: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>,
    ) {
        for (method, route, status) in responses {
            self.http_requests.with_label_values(&[method, route, status]);
            self.http_seconds.with(route);
        }
    }

    /// Everything in this format, with the stock of these products.
    ///
    /// # Errors
    /// When a metric cannot be encoded.
    pub fn encode(&self, listings: &[Listing], format: Exposition) -> prometheus::Result<Vec<u8>> {
        let made = stock::families(listings)?.into_iter().chain(self.ordered.families()?);
        let classic = self.registry.gather().into_iter().chain(made);
        let mut families: Vec<_> =
            classic.map(|classic| Family { classic, native: Vec::new() }).collect();
        families.extend(self.lock.durations());
        families.extend(self.clients.durations());
        families.extend(self.http_seconds.collect());
        format.encode(families)
    }

    /// What the lock did, for its observer.
    #[must_use]
    pub fn lock(&self) -> &Arc<LockMetrics> {
        &self.lock
    }

    /// What became of events.
    #[must_use]
    pub fn events(&self) -> &Arc<EventMetrics> {
        &self.events
    }

    /// What clients did before they bought.
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

    /// Registers the metrics of traces. Without traces they are absent.
    ///
    /// # Errors
    /// When they are registered already.
    pub fn with_traces(&self) -> prometheus::Result<Arc<TraceMetrics>> {
        Ok(Arc::new(TraceMetrics::registered(&self.registry)?))
    }

    /// Sets how many holds are open, and for how long the first of them is overdue.
    pub fn set_holds(&self, counts: HoldCounts) {
        self.holds.set(counts);
    }

    /// Makes the series of these outcomes of a payment service's events.
    pub fn know_payment_outcomes<'a>(
        &self,
        provider: &str,
        outcomes: impl Iterator<Item = &'a str>,
    ) {
        self.payments.know_outcomes(provider, outcomes);
    }

    /// Counts an event of a payment service.
    pub fn payment_event(&self, provider: &'static str, outcome: &'static str) {
        self.payments.received(provider, outcome);
    }

    /// Sets what waits for an administrator.
    pub fn set_payments(&self, totals: PaymentTotals) {
        self.payments.set(totals);
    }

    /// Counts an HTTP request; `route` is the pattern, not the path, and absent if none matches.
    pub fn http(&self, method: &str, route: Option<&str>, status: &str, took: Duration) {
        let route = route.unwrap_or(NO_ROUTE);
        self.http_requests.with_label_values(&[method, route, status]).inc();
        self.http_seconds.with(route).observe(took);
    }

    /// Sets whether the database answers.
    pub fn set_database(&self, up: bool) {
        self.database.set(up.into());
    }

    /// Sets the units of all orders, with those that were put on sale.
    pub fn set_ordered(&self, count: UnitCount) {
        self.ordered.set(count);
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

    fn expired(&self, orders: u64) {
        self.holds.expired(orders);
        self.orders.with_label_values(&[OrderState::Expired.name()]).inc_by(orders);
    }

    fn handed_out(&self, orders: usize) {
        self.holds.handed_out(orders);
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
