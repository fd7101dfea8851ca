//! Client of the app: counts, the identity of its database, and reasons why a replica is not ready. It is a trait,
//! so that tests need no app.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Deserialize;

use super::names;
use crate::crd::ProductStatus;

/// The app's report on its sale.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct SaleReport {
    /// The app's database does not respond. The other fields are empty then.
    #[serde(skip)]
    pub database_unavailable: bool,
    /// Identity of the database; absent: the version of the app does not report it.
    #[serde(default)]
    pub database: Option<DatabaseReport>,
    /// Counts per product.
    pub products: Vec<ProductStatus>,
}

impl SaleReport {
    /// Parses the response of `/sale`; `None` if it has neither counts nor the code `database_unavailable`.
    #[must_use]
    pub fn from_response(http_status: u16, body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Problem {
            code: String,
        }
        if http_status == 200 {
            return serde_json::from_slice(body).ok();
        }
        let problem: Problem = serde_json::from_slice(body).ok()?;
        let database_unavailable = problem.code == "database_unavailable";
        database_unavailable.then(|| Self { database_unavailable, ..Self::default() })
    }
}

/// Identity of a database.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct DatabaseReport {
    /// The time at which its tables were created; absent: the database has no tables.
    pub id: Option<String>,
}

/// Client of the app of a sale.
pub trait AppClient: Send + Sync {
    /// The app's report; absent without a response. That is no error: the previous counts stay.
    fn sale_report<'a>(
        &'a self,
        namespace: &'a str,
        sale: &'a str,
    ) -> BoxFuture<'a, Option<SaleReport>>;

    /// The reasons why the replica at this address is not ready, in its own words; empty without a response.
    fn unready_reasons<'a>(&'a self, _pod_ip: &'a str) -> BoxFuture<'a, Vec<String>> {
        std::future::ready(Vec::new()).boxed()
    }
}

/// Client of the app's port for metrics and probes.
#[derive(Clone, Debug)]
pub struct HttpAppClient {
    client: reqwest::Client,
}

/// Longer than the app waits for a database connection, so that the app can report a missing one.
const TIMEOUT: Duration = Duration::from_secs(4);

impl HttpAppClient {
    /// A client with a timeout of four seconds.
    ///
    /// # Errors
    /// When the HTTP client cannot be created.
    pub fn new() -> reqwest::Result<Self> {
        // The app is in the same cluster, so no proxy applies.
        let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
        Ok(Self { client })
    }

    async fn fetch_sale(&self, namespace: &str, sale: &str) -> reqwest::Result<Option<SaleReport>> {
        let host = names::app_host(namespace, sale);
        let url = format!("http://{host}:{}/sale", names::METRICS_PORT);
        let answer = self.client.get(url).send().await?;
        let http_status = answer.status().as_u16();
        Ok(SaleReport::from_response(http_status, &answer.bytes().await?))
    }

    async fn fetch_readiness(&self, ip: &str) -> reqwest::Result<Vec<String>> {
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

impl AppClient for HttpAppClient {
    fn sale_report<'a>(
        &'a self,
        namespace: &'a str,
        sale: &'a str,
    ) -> BoxFuture<'a, Option<SaleReport>> {
        async move {
            match self.fetch_sale(namespace, sale).await {
                Ok(report) => report,
                Err(error) => {
                    tracing::debug!(namespace, sale, %error, "cannot read the counts of the app");
                    None
                }
            }
        }
        .boxed()
    }

    fn unready_reasons<'a>(&'a self, pod_ip: &'a str) -> BoxFuture<'a, Vec<String>> {
        async move {
            self.fetch_readiness(pod_ip).await.unwrap_or_else(|error| {
                tracing::debug!(pod_ip, %error, "cannot read why a replica is not ready");
                Vec::new()
            })
        }
        .boxed()
    }
}
