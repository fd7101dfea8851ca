//! Stock, sold and remaining as the app counts them, and which database it counts in. Behind a trait,
//! so that tests need no app.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Deserialize;

use super::names;
use crate::crd::ProductStatus;

/// What the app says of its sale.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct SaleReport {
    /// The app says that its database does not answer; then it says nothing else.
    #[serde(skip)]
    pub database_unavailable: bool,
    /// Absent: the app is of a version that does not say.
    #[serde(default)]
    pub database: Option<DatabaseReport>,
    /// The counts.
    pub products: Vec<ProductStatus>,
}

impl SaleReport {
    /// What the app answered at `/sale`; `None` where that is neither counts nor a database away.
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

/// Which database it is.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct DatabaseReport {
    /// When its tables were made; absent: there are none.
    pub id: Option<String>,
}

/// Where the counts of a sale come from.
pub trait AppClient: Send + Sync {
    /// What the app says; absent when nobody answers. That is no error: the last counts stay.
    fn read<'a>(&'a self, namespace: &'a str, sale: &'a str) -> BoxFuture<'a, Option<SaleReport>>;

    /// Why the replica at this address takes no requests, in its own words; nothing if it is silent.
    fn unready<'a>(&'a self, _pod_ip: &'a str) -> BoxFuture<'a, Vec<String>> {
        std::future::ready(Vec::new()).boxed()
    }
}

/// By id: an order of its own would be a change of the status.
#[must_use]
pub fn sorted_by_id(mut products: Vec<ProductStatus>) -> Vec<ProductStatus> {
    products.sort_by(|a, b| a.id.cmp(&b.id));
    products
}

/// Asks the app's own port for metrics and probes.
#[derive(Clone, Debug)]
pub struct HttpAppClient {
    client: reqwest::Client,
}

/// Longer than the app waits for a connection to its database, so that it can say that there is none.
const TIMEOUT: Duration = Duration::from_secs(4);

impl HttpAppClient {
    /// A reader that waits at most four seconds.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new() -> reqwest::Result<Self> {
        // The app is next door: no proxy is on the way.
        let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
        Ok(Self { client })
    }

    async fn ask(&self, namespace: &str, sale: &str) -> reqwest::Result<Option<SaleReport>> {
        let host = names::app_host(namespace, sale);
        let url = format!("http://{host}:{}/sale", names::METRICS_PORT);
        let answer = self.client.get(url).send().await?;
        let http_status = answer.status().as_u16();
        Ok(SaleReport::from_response(http_status, &answer.bytes().await?))
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

impl AppClient for HttpAppClient {
    fn read<'a>(&'a self, namespace: &'a str, sale: &'a str) -> BoxFuture<'a, Option<SaleReport>> {
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
