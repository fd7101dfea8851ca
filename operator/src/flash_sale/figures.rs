//! Stock, sold and remaining as the app counts them, and which database it counts in. Behind a trait,
//! so that tests need no app.
//!
//! A sale that sells is asked on a slow timer, and reconciled only when its counts differ from its
//! status: neither each purchase nor an idle sale causes a pass.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt, stream};
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use serde::Deserialize;

use super::build::names;
use super::update_status::condition;
use crate::crd::{FlashSale, FlashSaleStatus, ProductStatus};

/// What the app says of its sale.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct Report {
    /// The app says that its database does not answer; then it says nothing else.
    #[serde(skip)]
    pub database_away: bool,
    /// Absent: the app is of a version that does not say.
    #[serde(default)]
    pub database: Option<DatabaseReport>,
    /// The counts.
    pub products: Vec<ProductStatus>,
}

impl Report {
    /// What the app answered at `/sale`; `None` where that is neither counts nor a database away.
    #[must_use]
    pub fn of_answer(http_status: u16, body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Problem {
            code: String,
        }
        if http_status == 200 {
            return serde_json::from_slice(body).ok();
        }
        let problem: Problem = serde_json::from_slice(body).ok()?;
        let database_away = problem.code == "database_unavailable";
        database_away.then(|| Self { database_away, ..Self::default() })
    }
}

/// Which database it is.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct DatabaseReport {
    /// When its tables were made; absent: there are none.
    pub id: Option<String>,
}

/// Where the counts of a sale come from.
pub trait Figures: Send + Sync {
    /// What the app says; absent when nobody answers. That is no error: the last counts stay.
    fn read<'a>(&'a self, namespace: &'a str, sale: &'a str) -> BoxFuture<'a, Option<Report>>;

    /// Why the replica at this address takes no requests, in its own words; nothing if it is silent.
    fn unready<'a>(&'a self, _pod_ip: &'a str) -> BoxFuture<'a, Vec<String>> {
        std::future::ready(Vec::new()).boxed()
    }
}

/// How often counts are read.
const INTERVAL: Duration = Duration::from_secs(10);
/// Sales that are asked at the same time.
const CONCURRENCY: usize = 8;

/// Sales whose counts have changed, as they are noticed.
pub fn changes(
    sales: Store<DeserializeGuard<FlashSale>>,
    figures: Arc<dyn Figures>,
) -> impl Stream<Item = ObjectRef<DeserializeGuard<FlashSale>>> {
    let ticks = stream::unfold(tokio::time::interval(INTERVAL), |mut interval| async move {
        interval.tick().await;
        Some(((), interval))
    });
    ticks
        .flat_map(move |()| stream::iter(sales.state()))
        .map(move |sale| {
            let figures = figures.clone();
            async move { differs(&sale, &*figures).await.then(|| ObjectRef::from_obj(&*sale)) }
        })
        .buffer_unordered(CONCURRENCY)
        .filter_map(std::future::ready)
}

async fn differs(sale: &DeserializeGuard<FlashSale>, figures: &dyn Figures) -> bool {
    let Ok(sale) = &sale.0 else { return false };
    let Some(status) = &sale.status else { return false };
    if status.app.as_ref().is_none_or(|app| app.ready == 0) {
        return false;
    }
    let now = figures.read(&sale.namespace().unwrap_or_default(), &sale.name_any()).await;
    now.is_some_and(|now| is_news(now, status))
}

fn is_news(report: Report, status: &FlashSaleStatus) -> bool {
    if report.database_away {
        let mut conditions = status.conditions.iter();
        return conditions.any(|it| it.type_ == condition::DATABASE_READY && it.status == "True");
    }
    let known = status.database.as_ref().map(|database| &database.id);
    let other_database = report.database.is_some_and(|database| database.id.as_ref() != known);
    other_database || sorted(report.products) != status.products
}

/// By id: an order of its own would be a change of the status.
#[must_use]
pub fn sorted(mut products: Vec<ProductStatus>) -> Vec<ProductStatus> {
    products.sort_by(|a, b| a.id.cmp(&b.id));
    products
}

/// Asks the app's own port for metrics and probes.
#[derive(Clone, Debug)]
pub struct AppFigures {
    client: reqwest::Client,
}

/// Longer than the app waits for a connection to its database, so that it can say that there is none.
const TIMEOUT: Duration = Duration::from_secs(4);

impl AppFigures {
    /// A reader that waits at most four seconds.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new() -> reqwest::Result<Self> {
        // The app is next door: no proxy is on the way.
        let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
        Ok(Self { client })
    }

    async fn ask(&self, namespace: &str, sale: &str) -> reqwest::Result<Option<Report>> {
        let host = names::app_host(namespace, sale);
        let url = format!("http://{host}:{}/sale", names::METRICS_PORT);
        let answer = self.client.get(url).send().await?;
        let http_status = answer.status().as_u16();
        Ok(Report::of_answer(http_status, &answer.bytes().await?))
    }

    async fn ask_readiness(&self, ip: &str) -> reqwest::Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Readiness {
            reasons: Vec<String>,
        }
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        let url = format!("http://{host}:{}/readyz", names::METRICS_PORT);
        let readiness: Readiness = self.client.get(url).send().await?.json().await?;
        Ok(readiness.reasons)
    }
}

impl Figures for AppFigures {
    fn read<'a>(&'a self, namespace: &'a str, sale: &'a str) -> BoxFuture<'a, Option<Report>> {
        async move {
            match self.ask(namespace, sale).await {
                Ok(report) => report,
                Err(error) => {
                    tracing::debug!(namespace, sale, %error, "no counts from the app");
                    None
                }
            }
        }
        .boxed()
    }

    fn unready<'a>(&'a self, pod_ip: &'a str) -> BoxFuture<'a, Vec<String>> {
        async move {
            self.ask_readiness(pod_ip).await.unwrap_or_else(|error| {
                tracing::debug!(pod_ip, %error, "a replica does not say why it is not ready");
                Vec::new()
            })
        }
        .boxed()
    }
}
