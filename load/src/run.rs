//! One run: check the sale, let the users buy, observe the result, judge it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::arrivals::{Pace, Sold, Stop, at_once, one_by_one};
use crate::buyer::{Buyer, PurchaseOptions};
use crate::config::{MetricsSource, Settings};
use crate::database::SaleDatabase;
use crate::error::ConfigError;
use crate::log_ins::LogIns;
use crate::observed::{NodeStock, Observed};
use crate::redis_nodes::RedisNodes;
use crate::scrape::{Scrape, error_chain, locks, scrape};
use crate::timeline::{answers, latency, series, timeline};
use crate::token;
use crate::verdict::{Report, judge};

/// How long the nodes may lag behind the database after the last answer.
const SETTLE: Duration = Duration::from_secs(5);
/// The same if users come one after the other: a node may just have restarted.
const SETTLE_AFTER_CHANGES: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(100);
const PREFLIGHT_POLL: Duration = Duration::from_millis(500);
const PREFLIGHT_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs a scenario.
///
/// # Errors
/// When the sale is unreachable or not as the scenario needs it. Nothing was bought then.
pub async fn run(settings: &Settings) -> Result<Report, ConfigError> {
    let sale = Sale::new(settings)?;
    let run_id = Uuid::new_v4().simple().to_string();
    let scenario = &settings.scenario;
    let buyer = |index: usize| {
        let subject = format!("load-{run_id}-{index}");
        let token = token::sign(&settings.jwt_secret, &subject)?;
        Ok(Buyer { index, subject, token })
    };
    let options = Arc::new(sale.purchase_options());
    let (before, sold, new_tokens) = if let Some(between) = scenario.between_users() {
        let stop = Stop::listen()?;
        let before = sale.wait_until(Sale::check_ready).await?;
        let log_ins = sale.start_log_ins(&run_id)?;
        let pace = Pace {
            between,
            duration: scenario.duration(),
            users: scenario.users as usize,
            deadline: scenario.deadline(),
        };
        let sold = one_by_one(buyer, options, &pace, stop).await?;
        let new_tokens = match log_ins {
            Some(log_ins) => log_ins.finish().await,
            None => BTreeMap::new(),
        };
        (before, sold, new_tokens)
    } else {
        let buyers = (0..scenario.users as usize).map(buyer).collect::<Result<Vec<_>, _>>()?;
        let before = sale.wait_until(Sale::check_fresh).await?;
        let sold = at_once(buyers, options, scenario.deadline()).await;
        (before, sold, BTreeMap::new())
    };
    let observed = sale.observe(before, sold, new_tokens).await;
    Ok(judge(scenario, settings.timing_targets, &observed))
}

/// The sale before the run.
struct Before {
    metrics: Scrape,
    /// Units left.
    stock: i64,
    /// Ids of the orders that exist.
    orders: HashSet<String>,
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
        let http = client(Client::builder())?;
        Ok(Self { settings, http, redis, database })
    }

    /// Waits until everything is reachable and as the scenario needs it.
    async fn wait_until(
        &self,
        check: impl AsyncFn(&Self) -> Result<Before, ConfigError>,
    ) -> Result<Before, ConfigError> {
        let deadline = Instant::now() + self.settings.wait;
        loop {
            match check(self).await {
                Err(error) if Instant::now() < deadline => {
                    eprintln!("waiting: {error}");
                    sleep(PREFLIGHT_POLL).await;
                }
                done => return done,
            }
        }
    }

    /// Nothing is sold.
    async fn check_fresh(&self) -> Result<Before, ConfigError> {
        for url in &self.settings.sale_urls {
            let remaining = self.remaining(url).await?;
            self.require_full(&format!("{url} says that"), remaining)?;
        }
        let (stock, orders) = self.database_before().await?;
        self.require_full("the database says that", stock)?;
        if !orders.is_empty() {
            return Err(self.not_fresh(&format!("there are {} orders already", orders.len())));
        }
        for NodeStock { node, stock } in self.redis.stock(&self.settings.product_id).await {
            let stock = stock.map_err(|error| unreadable(&node, &error))?;
            self.require_full(&format!("Redis node {node} says that"), stock)?;
        }
        Ok(Before { metrics: self.metrics_before().await?, stock, orders })
    }

    /// Enough is left, and the API, the database and the nodes agree on it.
    async fn check_ready(&self) -> Result<Before, ConfigError> {
        let Settings { scenario, product_id, .. } = self.settings;
        let (stock, orders) = self.database_before().await?;
        let wrong = |problem| Err(ConfigError::new("PRODUCT_ID", problem));
        if stock < scenario.stock {
            return wrong(format!(
                "scenario {} needs {} units of product {product_id:?}, but {stock} are left",
                scenario.name, scenario.stock
            ));
        }
        let differs = |source: &str, units: i64| {
            wrong(format!("{source} says that {units} units are left, and the database {stock}"))
        };
        for url in &self.settings.sale_urls {
            let remaining = self.remaining(url).await?;
            if remaining != stock {
                return differs(url, remaining);
            }
        }
        for NodeStock { node, stock: units } in self.redis.stock(product_id).await {
            let units = units.map_err(|error| unreadable(&node, &error))?;
            if units != stock {
                return differs(&format!("Redis node {node}"), units);
            }
        }
        Ok(Before { metrics: self.metrics_before().await?, stock, orders })
    }

    async fn database_before(&self) -> Result<(i64, HashSet<String>), ConfigError> {
        let product = &self.settings.product_id;
        let database = self.database.state(product).await.map_err(|error| match error {
            sqlx::Error::RowNotFound => {
                ConfigError::new("PRODUCT_ID", format!("the database knows no product {product:?}"))
            }
            error => ConfigError::new("DATABASE_URL", format!("cannot read the orders: {error}")),
        })?;
        Ok((database.available, database.orders.into_iter().map(|order| order.id).collect()))
    }

    async fn metrics_before(&self) -> Result<Scrape, ConfigError> {
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

    fn purchase_options(&self) -> PurchaseOptions {
        let scenario = &self.settings.scenario;
        PurchaseOptions {
            http: self.http.clone(),
            urls: self.settings.sale_urls.clone(),
            product_id: self.settings.product_id.clone(),
            quantity: scenario.quantity,
            pause: scenario.pause(),
            max_tries: scenario.max_tries,
            answer_timeout: scenario.answer_timeout(),
            connections: scenario.connections.map(|number| Semaphore::new(number as usize)),
            honours_retry_after: scenario.users_per_second.is_some(),
        }
    }

    fn start_log_ins(&self, run_id: &str) -> Result<Option<LogIns>, ConfigError> {
        let (Some(between), Some(url)) =
            (self.settings.scenario.between_log_ins(), self.settings.sale_urls.first())
        else {
            return Ok(None);
        };
        let http = client(Client::builder().pool_max_idle_per_host(0))?;
        Ok(Some(LogIns::start(http, url.clone(), format!("load-{run_id}"), between)))
    }

    /// Observes the sale after the run; waits until the database and all nodes agree, but not for long.
    async fn observe(
        &self,
        before: Before,
        sold: Sold,
        new_tokens: BTreeMap<String, u32>,
    ) -> Observed {
        let product = &self.settings.product_id;
        let after = scrape(&self.http, &self.settings.metrics).await;
        let mut observed = Observed {
            stock_before: before.stock,
            latency: latency(&sold),
            answers: answers(&sold),
            timeline: timeline(&sold),
            series: series(&sold),
            new_tokens,
            elapsed: sold.ended - sold.started,
            purchases: sold.results.into_iter().map(|result| result.purchase).collect(),
            locks: after.and_then(|after| locks(&before.metrics, &after)),
            nodes: Vec::new(),
            database: Err("not read yet".to_owned()),
        };
        let came_slowly = self.settings.scenario.users_per_second.is_some();
        let settle = if came_slowly { SETTLE_AFTER_CHANGES } else { SETTLE };
        let deadline = Instant::now() + settle;
        loop {
            observed.database =
                self.database.state(product).await.map_err(|error| error.to_string());
            if let Ok(database) = &mut observed.database {
                database.orders.retain(|order| !before.orders.contains(&order.id));
            }
            observed.nodes = self.redis.stock(product).await;
            if observed.stock_agrees() || Instant::now() >= deadline {
                return observed;
            }
            sleep(POLL).await;
        }
    }
}

fn client(builder: reqwest::ClientBuilder) -> Result<Client, ConfigError> {
    builder.build().map_err(|error| {
        ConfigError::new("SALE_URL", format!("no HTTP client: {}", error_chain(&error)))
    })
}

fn unreadable(node: &str, error: &str) -> ConfigError {
    let remedy = "is REDIS_PASSWORD right, and the sale seeded?";
    ConfigError::new("REDIS_NODES", format!("{node}: {error}; {remedy}"))
}
