//! The sale under test, from outside: whether it is as a scenario needs it, and what it is after the run.

pub mod log_ins;
pub mod orders;
mod prometheus;
pub mod restock;
pub mod scrape;

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use http::StatusCode;
use load_scenarios::Kind;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use self::orders::{OfRun, OrderSums};
use self::scrape::{Scrape, scrape};
use crate::buyers::users::{authorities, servers};
use crate::config::{MetricsSource, Settings};
use crate::error::{ConfigError, error_chain};
use crate::http::{Answer, Authorities, Call, Caller, Server};
use crate::observed::{DatabaseState, NodeStock};
use crate::stores::database::{Goods, SaleDatabase, Units};
use crate::stores::redis_nodes::RedisNodes;
use crate::terminal::note;
use crate::token;

const POLL: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_secs(5);

/// The sale before the run.
pub struct Before {
    pub metrics: Scrape,
    /// Each with the same position as in [`Sale::products`]
    pub products: Vec<ProductBefore>,
    /// The process of each Redis node
    pub run_ids: Vec<(String, Option<String>)>,
}

/// A product, or a coupon, before the run.
pub struct ProductBefore {
    pub id: String,
    /// Units ever put on sale
    pub declared: i64,
    /// Units left
    pub stock: i64,
    /// Its orders
    pub orders: OrderSums,
}

/// The sale under test.
pub struct Sale<'a> {
    pub settings: &'a Settings,
    pub servers: Vec<Arc<Server>>,
    pub redis: RedisNodes,
    authorities: Authorities,
    database: SaleDatabase,
}

#[derive(Deserialize)]
struct StockAnswer {
    remaining: i64,
}

impl<'a> Sale<'a> {
    /// Connects to nothing yet.
    pub fn new(settings: &'a Settings) -> Result<Self, ConfigError> {
        let redis = RedisNodes::new(
            &settings.redis_nodes,
            settings.redis_password.as_deref(),
            settings.redis_ca_file.as_deref(),
        )
        .map_err(|error| ConfigError::new("REDIS_NODES", error.to_string()))?;
        let database = settings.database_ca_file.as_deref();
        let database = SaleDatabase::connect_lazy(&settings.database_url, database)
            .map_err(|error| ConfigError::new("DATABASE_URL", error.to_string()))?;
        let (servers, authorities) = (servers(settings)?, authorities(settings)?);
        Ok(Self { settings, servers, redis, authorities, database })
    }

    /// Waits until everything is reachable and as the scenario needs it.
    pub async fn wait_until_ready(&self) -> Result<Before, ConfigError> {
        let deadline = Instant::now() + self.settings.wait;
        loop {
            match self.check().await {
                Err(error) if Instant::now() < deadline => {
                    note(format_args!("waiting: {error}"));
                    sleep(POLL).await;
                }
                done => return done,
            }
        }
    }

    /// Products that each user buys; none if they want coupons.
    fn products(&self) -> Vec<&str> {
        let scenario = &self.settings.scenario;
        match scenario.call {
            Kind::Coupon => Vec::new(),
            _ if scenario.products.is_empty() => vec![&self.settings.product_id],
            _ => scenario.products.iter().map(String::as_str).collect(),
        }
    }

    async fn check(&self) -> Result<Before, ConfigError> {
        let mut products = Vec::new();
        for id in self.products() {
            products.push(self.check_product(id).await?);
        }
        if products.is_empty() {
            for server in &self.servers {
                self.ask(server, &Call::get("/v1/products")).await?;
            }
        }
        let run_ids = self.redis.run_ids().await;
        if let Some((node, _)) = run_ids.iter().find(|(_, id)| id.is_none()) {
            return Err(unreadable(node, "does not answer INFO"));
        }
        let metrics = scrape(&self.authorities, &self.settings.metrics).await.map_err(|error| {
            let name = match self.settings.metrics {
                MetricsSource::Host(_) => "METRICS_HOST",
                MetricsSource::Urls(_) => "METRICS_URLS",
            };
            ConfigError::new(name, format!("cannot read the app's metrics: {error}"))
        })?;
        Ok(Before { metrics, products, run_ids })
    }

    /// With users who start at once nothing is sold yet; else enough is left. The API, the database and the nodes agree.
    async fn check_product(&self, id: &str) -> Result<ProductBefore, ConfigError> {
        let scenario = &self.settings.scenario;
        let no_orders = |error: sqlx::Error| match error {
            sqlx::Error::RowNotFound => {
                let remedy = "create it, or give another one with --product-id";
                ConfigError::new(
                    "PRODUCT_ID",
                    format!("the database knows no product {id:?}; {remedy}"),
                )
            }
            error => ConfigError::new("DATABASE_URL", format!("cannot read the orders: {error}")),
        };
        let units = self.database.units(Goods::Product, id).await.map_err(no_orders)?;
        let mut recorded = self.database.orders(Goods::Product, id);
        let mut orders = OrderSums::default();
        while let Some(order) = recorded.try_next().await.map_err(no_orders)? {
            orders.add(&order);
        }
        let stock = units.available;
        if scenario.users_per_second.is_none() {
            if stock != scenario.stock {
                let found = format!("the database says that {stock} units are left");
                return Err(self.not_fresh(id, &found));
            }
            if orders.count > 0 {
                let found = format!("there are {} orders already", orders.count);
                return Err(self.not_fresh(id, &found));
            }
        } else if stock < scenario.stock {
            let problem = format!(
                "scenario {} needs {} units of product {id:?}, but {stock} are left",
                scenario.name, scenario.stock
            );
            return Err(ConfigError::new("PRODUCT_ID", problem));
        }
        let differs = |source: &str, units: i64| {
            let problem = format!(
                "{source} says that {units} units of {id:?} are left, and the database {stock}"
            );
            Err(ConfigError::new("PRODUCT_ID", problem))
        };
        for (server, url) in self.servers.iter().zip(&self.settings.sale_urls) {
            let remaining = self.remaining(server, id).await?;
            if remaining != stock {
                return differs(url, remaining);
            }
        }
        for NodeStock { node, stock: units } in self.redis.stock(id).await {
            let units = units.map_err(|error| unreadable(&node, &error))?;
            if units != stock {
                return differs(&format!("Redis node {node}"), units);
            }
        }
        Ok(ProductBefore { id: id.to_owned(), declared: units.declared, stock, orders })
    }

    /// Creates a coupon for the run.
    pub async fn create_coupon(&self, id: &str) -> Result<ProductBefore, ConfigError> {
        let stock = self.settings.scenario.stock;
        let Some(server) = self.servers.first() else {
            return Err(ConfigError::new("SALE_URL", "names no server"));
        };
        self.ask(server, &Call::post("/v1/coupons", &json!({"id": id, "quantity": stock}))).await?;
        Ok(ProductBefore {
            id: id.to_owned(),
            declared: stock,
            stock,
            orders: OrderSums::default(),
        })
    }

    fn not_fresh(&self, id: &str, found: &str) -> ConfigError {
        let scenario = &self.settings.scenario;
        let problem = format!(
            "scenario {} needs a fresh sale with {} units of product {id:?}, but {found}; \
             delete the FlashSale with its volumes and apply it again, or stop `cargo xtask local` \
             and start it again with --stock {}",
            scenario.name, scenario.stock, scenario.stock
        );
        ConfigError::new("PRODUCT_ID", problem)
    }

    async fn remaining(&self, server: &Server, id: &str) -> Result<i64, ConfigError> {
        let answer = self.ask(server, &Call::get(format!("/v1/products/{id}/stock"))).await?;
        let answer: StockAnswer = serde_json::from_slice(&answer.body).map_err(|error| {
            ConfigError::new("SALE_URL", format!("answers something else than a stock: {error}"))
        })?;
        Ok(answer.remaining)
    }

    /// A call as an administrator that must succeed.
    async fn ask(&self, server: &Server, call: &Call) -> Result<Answer, ConfigError> {
        let position = self.servers.iter().position(|one| std::ptr::eq(&raw const **one, server));
        let url = position.and_then(|index| self.settings.sale_urls.get(index));
        let url = url.map(String::as_str).unwrap_or_default();
        let token = token::sign_admin(&self.settings.jwt_secret, "load-preflight")?;
        let wrong = |problem: String| ConfigError::new("SALE_URL", format!("{url}: {problem}"));
        let answer = server.call(call, Caller::with_token(&token), TIMEOUT).await;
        let answer = answer.map_err(|error| wrong(error_chain(&error)))?;
        match answer.status {
            status if status.is_success() => Ok(answer),
            StatusCode::UNAUTHORIZED => {
                let problem =
                    format!("{url} refuses a token signed with it; give the sale's own key");
                Err(ConfigError::new("JWT_SECRET", problem))
            }
            StatusCode::NOT_FOUND => {
                let problem = format!("{url} knows no {}", call.path);
                Err(ConfigError::new("PRODUCT_ID", problem))
            }
            status => {
                let body = String::from_utf8_lossy(&answer.body);
                Err(wrong(format!("answers {} {} with {status}: {body}", call.method, call.path)))
            }
        }
    }

    /// The metrics of all replicas.
    pub async fn metrics(&self) -> Result<Scrape, String> {
        scrape(&self.authorities, &self.settings.metrics).await
    }

    fn goods(&self) -> Goods {
        if self.settings.scenario.call == Kind::Coupon { Goods::Coupon } else { Goods::Product }
    }

    /// A product, or the coupon, in the database, without orders.
    pub async fn units(&self, before: &ProductBefore) -> Result<DatabaseState, String> {
        let units = self.database.units(self.goods(), &before.id).await;
        let Units { declared, available } = units.map_err(|error| error.to_string())?;
        let orders = Vec::new();
        Ok(DatabaseState { declared, available, orders, foreign: None, given_back: 0 })
    }

    /// The same with the orders of the run. The stock is read after the orders: if it is still what it was before, both
    /// are of the same moment.
    pub async fn database(
        &self,
        before: &ProductBefore,
        of_run: &OfRun,
    ) -> Result<DatabaseState, String> {
        let (mut orders, mut others) = (Vec::new(), OrderSums::default());
        let mut recorded = self.database.orders(self.goods(), &before.id);
        while let Some(order) = recorded.try_next().await.map_err(|error| error.to_string())? {
            if of_run.has(&order) {
                orders.push(order);
            } else {
                others.add(&order);
            }
        }
        // It has the only connection.
        drop(recorded);
        let foreign = others.since(&before.orders);
        let given_back = others.given_back(&before.orders);
        Ok(DatabaseState { orders, foreign, given_back, ..self.units(before).await? })
    }

    /// A product on the Redis nodes; a coupon is only in the database.
    pub async fn nodes(&self, before: &ProductBefore) -> Vec<NodeStock> {
        match self.settings.scenario.call {
            Kind::Coupon => Vec::new(),
            _ => self.redis.stock(&before.id).await,
        }
    }
}

fn unreadable(node: &str, error: &str) -> ConfigError {
    let remedy = "is REDIS_PASSWORD right, and the sale seeded?";
    ConfigError::new("REDIS_NODES", format!("{node}: {error}; {remedy}"))
}
