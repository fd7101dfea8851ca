//! One run: check the sale, start all users at once, observe the result, judge it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use reqwest::{Client, StatusCode};
use serde::Deserialize;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};
use uuid::Uuid;

use crate::buyer::{Buyer, BuyerResult, PurchaseOptions};
use crate::config::{MetricsSource, Settings};
use crate::database::SaleDatabase;
use crate::error::ConfigError;
use crate::observed::{Latency, Observed, Outcome};
use crate::redis_nodes::RedisNodes;
use crate::scrape::{Scrape, error_chain, locks, scrape};
use crate::token;
use crate::verdict::{Report, judge};

/// How long the nodes may lag behind the database after the last answer.
const SETTLE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(100);
const PREFLIGHT_POLL: Duration = Duration::from_millis(500);
const PREFLIGHT_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs a scenario.
///
/// # Errors
/// When the sale is unreachable or not fresh. Nothing was bought then.
pub async fn run(settings: &Settings) -> Result<Report, ConfigError> {
    let sale = Sale::new(settings)?;
    let run_id = Uuid::new_v4().simple().to_string();
    let buyers = (0..settings.scenario.users as usize)
        .map(|index| {
            let subject = format!("load-{run_id}-{index}");
            let token = token::sign(&settings.jwt_secret, &subject)?;
            Ok(Buyer { index, subject, token })
        })
        .collect::<Result<Vec<_>, ConfigError>>()?;

    let before = sale.wait_until_fresh().await?;
    let (elapsed, results) = sale.sell(buyers).await;
    let observed = sale.observe(&before, elapsed, results).await;
    Ok(judge(&settings.scenario, settings.timing_targets, &observed))
}

/// The sale under test, from outside.
struct Sale<'a> {
    settings: &'a Settings,
    http: Client,
    redis: RedisNodes,
    database: SaleDatabase,
}

#[derive(Deserialize)]
struct StockAnswer {
    remaining: i64,
}

#[derive(Default)]
struct Progress {
    done: AtomicU32,
    sold: AtomicU32,
}

impl<'a> Sale<'a> {
    fn new(settings: &'a Settings) -> Result<Self, ConfigError> {
        let redis = RedisNodes::new(
            &settings.redis_nodes,
            settings.redis_password.as_deref(),
            settings.redis_ca_file.as_deref(),
        )
        .map_err(|error| ConfigError::new("REDIS_NODES", error.to_string()))?;
        let database = settings.database_ca_file.as_deref();
        let database = SaleDatabase::connect_lazy(&settings.database_url, database)
            .map_err(|error| ConfigError::new("DATABASE_URL", error.to_string()))?;
        let http = Client::builder().build().map_err(|error| {
            ConfigError::new("SALE_URL", format!("no HTTP client: {}", error_chain(&error)))
        })?;
        Ok(Self { settings, http, redis, database })
    }

    /// Waits until everything is reachable and checks that nothing is sold; returns the metrics before the run.
    async fn wait_until_fresh(&self) -> Result<Scrape, ConfigError> {
        let deadline = Instant::now() + self.settings.wait;
        loop {
            match self.check_fresh().await {
                Err(error) if Instant::now() < deadline => {
                    eprintln!("waiting: {error}");
                    sleep(PREFLIGHT_POLL).await;
                }
                done => return done,
            }
        }
    }

    async fn check_fresh(&self) -> Result<Scrape, ConfigError> {
        let product = &self.settings.product_id;
        for url in &self.settings.sale_urls {
            let remaining = self.remaining(url).await?;
            self.require_full(&format!("{url} says that"), remaining)?;
        }
        let database = self.database.state(product).await.map_err(|error| match error {
            sqlx::Error::RowNotFound => {
                ConfigError::new("PRODUCT_ID", format!("the database knows no product {product:?}"))
            }
            error => ConfigError::new("DATABASE_URL", format!("cannot read the orders: {error}")),
        })?;
        self.require_full("the database says that", database.available)?;
        if !database.orders.is_empty() {
            return Err(
                self.not_fresh(&format!("there are {} orders already", database.orders.len()))
            );
        }
        for node in self.redis.stock(product).await {
            let stock = node.stock.map_err(|error| {
                let remedy = "is REDIS_PASSWORD right, and the sale seeded?";
                ConfigError::new("REDIS_NODES", format!("{}: {error}; {remedy}", node.node))
            })?;
            self.require_full(&format!("Redis node {} says that", node.node), stock)?;
        }
        scrape(&self.http, &self.settings.metrics).await.map_err(|error| {
            let name = match self.settings.metrics {
                MetricsSource::Host(_) => "METRICS_HOST",
                MetricsSource::Urls(_) => "METRICS_URLS",
            };
            ConfigError::new(name, format!("cannot read the app's metrics: {error}"))
        })
    }

    fn require_full(&self, source: &str, units: i64) -> Result<(), ConfigError> {
        let stock = self.settings.scenario.stock;
        (units == stock)
            .then_some(())
            .ok_or_else(|| self.not_fresh(&format!("{source} {units} units are left")))
    }

    fn not_fresh(&self, found: &str) -> ConfigError {
        let Settings { scenario, product_id, .. } = self.settings;
        let problem = format!(
            "scenario {} needs a fresh sale with {} units of product {product_id:?}, but {found}; \
             delete the FlashSale with its volumes and apply it again, or stop `cargo xtask local` \
             and start it again with --stock {}",
            scenario.name, scenario.stock, scenario.stock
        );
        ConfigError::new("PRODUCT_ID", problem)
    }

    async fn remaining(&self, url: &str) -> Result<i64, ConfigError> {
        let settings = self.settings;
        let wrong = |problem: String| ConfigError::new("SALE_URL", format!("{url}: {problem}"));
        let request = self
            .http
            .get(format!("{url}/v1/products/{}/stock", settings.product_id))
            .timeout(PREFLIGHT_TIMEOUT)
            .bearer_auth(token::sign(&settings.jwt_secret, "load-preflight")?);
        let answer = request.send().await.map_err(|error| wrong(error_chain(&error)))?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => {
                let problem =
                    format!("{url} refuses a token signed with it; give the sale's own key");
                return Err(ConfigError::new("JWT_SECRET", problem));
            }
            StatusCode::NOT_FOUND => {
                let problem = format!("{url} knows no product {:?}", settings.product_id);
                return Err(ConfigError::new("PRODUCT_ID", problem));
            }
            status => return Err(wrong(format!("answers {status} when asked for the stock"))),
        }
        let answer: StockAnswer =
            answer.json().await.map_err(|error| wrong(error_chain(&error)))?;
        Ok(answer.remaining)
    }

    /// Starts all users at once; returns the elapsed time and the results.
    async fn sell(&self, buyers: Vec<Buyer>) -> (Duration, Vec<BuyerResult>) {
        let scenario = &self.settings.scenario;
        let options = Arc::new(PurchaseOptions {
            http: self.http.clone(),
            urls: self.settings.sale_urls.clone(),
            product_id: self.settings.product_id.clone(),
            quantity: scenario.quantity,
            pause: scenario.pause(),
            max_tries: scenario.max_tries,
            answer_timeout: scenario.answer_timeout(),
        });
        let gate = Arc::new(Barrier::new(buyers.len() + 1));
        let progress = Arc::new(Progress::default());
        let mut users = JoinSet::new();
        for buyer in buyers {
            let (options, gate, progress) =
                (Arc::clone(&options), Arc::clone(&gate), Arc::clone(&progress));
            let limit = scenario.deadline();
            users.spawn(async move {
                gate.wait().await;
                let result = buyer.buy(&options, Instant::now() + limit).await;
                progress.done.fetch_add(1, Ordering::Relaxed);
                if matches!(result.purchase.outcome, Outcome::Sold(_)) {
                    progress.sold.fetch_add(1, Ordering::Relaxed);
                }
                result
            });
        }
        let started = Instant::now();
        gate.wait().await;
        let total = users.len();
        let mut results = std::pin::pin!(users.join_all());
        let mut tick = interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                results = &mut results => {
                    let elapsed = started.elapsed();
                    progress.show(total, elapsed);
                    return (elapsed, results);
                }
                _ = tick.tick() => progress.show(total, started.elapsed()),
            }
        }
    }

    /// Observes the sale after the run; waits up to [`SETTLE`] until the database and all nodes agree.
    async fn observe(
        &self,
        before: &Scrape,
        elapsed: Duration,
        results: Vec<BuyerResult>,
    ) -> Observed {
        let product = &self.settings.product_id;
        let after = scrape(&self.http, &self.settings.metrics).await;
        let mut observed = Observed {
            latency: latency(&results),
            answers: answers(&results),
            purchases: results.into_iter().map(|result| result.purchase).collect(),
            elapsed,
            locks: after.and_then(|after| locks(before, &after)),
            nodes: Vec::new(),
            database: Err("not read yet".to_owned()),
        };
        let deadline = Instant::now() + SETTLE;
        loop {
            observed.database =
                self.database.state(product).await.map_err(|error| error.to_string());
            observed.nodes = self.redis.stock(product).await;
            if observed.stock_agrees() || Instant::now() >= deadline {
                return observed;
            }
            sleep(POLL).await;
        }
    }
}

impl Progress {
    fn show(&self, total: usize, elapsed: Duration) {
        let (done, sold) = (self.done.load(Ordering::Relaxed), self.sold.load(Ordering::Relaxed));
        eprintln!("{:5.1} s  {done}/{total} users done, {sold} sold", elapsed.as_secs_f64());
    }
}

fn answers(results: &[BuyerResult]) -> BTreeMap<String, u32> {
    let mut all = BTreeMap::new();
    for (code, count) in results.iter().flat_map(|result| &result.answers) {
        *all.entry(code.clone()).or_default() += count;
    }
    all
}

fn latency(results: &[BuyerResult]) -> Latency {
    // Microseconds, up to an hour, three digits.
    let Ok(mut histogram) = Histogram::<u64>::new_with_bounds(1, 3_600_000_000, 3) else {
        return Latency::default();
    };
    for took in results.iter().flat_map(|result| &result.latencies) {
        histogram.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
    Latency {
        requests: u32::try_from(histogram.len()).unwrap_or(u32::MAX),
        p50: Duration::from_micros(histogram.value_at_quantile(0.5)),
        average: Duration::try_from_secs_f64(histogram.mean() / 1e6).unwrap_or_default(),
        p99: Duration::from_micros(histogram.value_at_quantile(0.99)),
        max: Duration::from_micros(histogram.max()),
    }
}
