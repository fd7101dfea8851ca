//! Client of the app: counts, the identity of its database, and reasons why a replica is not ready. It is a trait,
//! so that tests need no app.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::{Method, RequestBuilder};
use serde::Deserialize;

use super::names;
use super::nodes::{ChangeAnswer, LockNodes};
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
    /// Nodes of the lock; absent: the version of the app does not report them.
    #[serde(default)]
    pub redis: Option<LockNodes>,
    /// Counts per product.
    pub products: Vec<ProductStatus>,
    /// What is unfinished; absent: nobody asked for it, or the version of the app does not report it.
    #[serde(default)]
    pub unfinished: Option<Unfinished>,
}

/// What a report has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportScope {
    /// What the status needs.
    Status,
    /// What is unfinished as well, which the app counts only then.
    Unfinished,
}

impl ReportScope {
    /// A version of the app that does not report what is unfinished ignores the query.
    const fn path(self) -> &'static str {
        match self {
            Self::Status => "/sale",
            Self::Unfinished => "/sale?unfinished=true",
        }
    }
}

/// What a sale without pods leaves undone.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Unfinished {
    /// Unpaid orders that hold units until a time.
    pub holds: i64,
    /// Products of which units are left although buyers wait for as many.
    pub waitlists: i64,
    /// Events of orders that were not delivered, and are still tried.
    pub events: i64,
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
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct DatabaseReport {
    /// The time at which its tables were created; absent: the database has no tables.
    pub id: Option<String>,
    /// Major version of `PostgreSQL`; absent: the version of the app does not report it.
    #[serde(default)]
    pub version: Option<i32>,
}

/// Client of the app of a sale.
pub trait AppClient: Send + Sync {
    /// The app's report; absent without a response, or if the app refuses the token, as during a rollout with a new one.
    /// That is no error: the previous counts stay.
    fn sale_report<'a>(
        &'a self,
        namespace: &'a str,
        sale: &'a str,
        token: Option<&'a str>,
        scope: ReportScope,
    ) -> BoxFuture<'a, Option<SaleReport>>;

    /// Requests these nodes for the lock, and returns the progress. A repeated request continues the change.
    fn change_nodes<'a>(
        &'a self,
        _namespace: &'a str,
        _sale: &'a str,
        _token: Option<&'a str>,
        _nodes: Vec<String>,
    ) -> BoxFuture<'a, ChangeAnswer> {
        std::future::ready(ChangeAnswer::None).boxed()
    }

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
/// Divided among the addresses of the replicas, one of which may be gone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

impl HttpAppClient {
    /// A client with a timeout of four seconds.
    ///
    /// # Errors
    /// When the HTTP client cannot be created.
    pub fn new() -> reqwest::Result<Self> {
        // The app is in the same cluster, so no proxy applies.
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .no_proxy()
            .build()?;
        Ok(Self { client })
    }

    /// A request to the replicas of a sale. The token is sent to every version of the app; one that requires none ignores it.
    fn request(
        &self,
        method: Method,
        namespace: &str,
        sale: &str,
        token: Option<&str>,
        path: &str,
    ) -> RequestBuilder {
        // Any type of the public Service: the replicas' own has the metrics port.
        let host = names::pods_host(namespace, sale);
        let url = format!("http://{host}:{}{path}", names::METRICS_PORT);
        let request = self.client.request(method, url);
        match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn fetch_sale(
        &self,
        namespace: &str,
        sale: &str,
        token: Option<&str>,
        scope: ReportScope,
    ) -> reqwest::Result<Option<SaleReport>> {
        let request = self.request(Method::GET, namespace, sale, token, scope.path());
        let answer = request.send().await?;
        let http_status = answer.status().as_u16();
        Ok(SaleReport::from_response(http_status, &answer.bytes().await?))
    }

    async fn request_nodes(
        &self,
        namespace: &str,
        sale: &str,
        token: Option<&str>,
        nodes: Vec<String>,
    ) -> reqwest::Result<ChangeAnswer> {
        let body = serde_json::json!({ "nodes": nodes });
        let request = self.request(Method::PUT, namespace, sale, token, "/redis-nodes");
        let answer = request.json(&body).send().await?;
        if answer.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(ChangeAnswer::Unsupported);
        }
        Ok(ChangeAnswer::Progress(answer.error_for_status()?.json().await?))
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
        token: Option<&'a str>,
        scope: ReportScope,
    ) -> BoxFuture<'a, Option<SaleReport>> {
        async move {
            match self.fetch_sale(namespace, sale, token, scope).await {
                Ok(report) => report,
                Err(error) => {
                    tracing::debug!(namespace, sale, %error, "cannot read the report of the app");
                    None
                }
            }
        }
        .boxed()
    }

    fn change_nodes<'a>(
        &'a self,
        namespace: &'a str,
        sale: &'a str,
        token: Option<&'a str>,
        nodes: Vec<String>,
    ) -> BoxFuture<'a, ChangeAnswer> {
        async move {
            match self.request_nodes(namespace, sale, token, nodes).await {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::debug!(namespace, sale, %error, "cannot ask the app for other nodes");
                    ChangeAnswer::None
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

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::extract::RawQuery;
    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::get;
    use tokio::net::TcpListener;

    use super::*;

    const BODY: &str = r#"{"database": {"id": "2026-11-27T00:00:00Z"}, "products": []}"#;
    const REFUSED: &str = r#"{"code": "unauthenticated", "status": 401}"#;

    /// A client of an app that listens at `address`, which no other test uses.
    async fn client(address: &str, app: Router) -> HttpAppClient {
        let listener = TcpListener::bind((address, 9090)).await.unwrap();
        let replicas = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        let client = reqwest::Client::builder().no_proxy();
        let client = client.resolve("black-friday-pods.shop.svc", replicas);
        HttpAppClient { client: client.build().unwrap() }
    }

    #[tokio::test]
    async fn the_replicas_are_asked_with_the_token() {
        let sale = get(async |headers: HeaderMap| match headers.get("authorization") {
            Some(sent) if sent == "Bearer right" => (StatusCode::OK, BODY),
            _ => (StatusCode::UNAUTHORIZED, REFUSED),
        });
        let client = client("127.90.90.1", Router::new().route("/sale", sale)).await;
        let report = client
            .sale_report("shop", "black-friday", Some("right"), ReportScope::Status)
            .await
            .unwrap();
        assert_eq!(report.database.unwrap().id.as_deref(), Some("2026-11-27T00:00:00Z"));
        // A refusal is no report, and no outage of the database: the status stays.
        for token in [None, Some("wrong")] {
            assert_eq!(
                client.sale_report("shop", "black-friday", token, ReportScope::Status).await,
                None,
                "{token:?}"
            );
        }
    }

    #[tokio::test]
    async fn what_is_unfinished_is_counted_only_if_it_is_asked_for() {
        let sale = get(async |RawQuery(query): RawQuery| match query.as_deref() {
            Some("unfinished=true") => {
                r#"{"products": [], "unfinished": {"holds": 2, "events": 7}}"#
            }
            _ => BODY,
        });
        let client = client("127.90.90.3", Router::new().route("/sale", sale)).await;
        let report =
            client.sale_report("shop", "black-friday", None, ReportScope::Status).await.unwrap();
        assert_eq!(report.unfinished, None);
        let report = client
            .sale_report("shop", "black-friday", None, ReportScope::Unfinished)
            .await
            .unwrap();
        let unfinished = Unfinished { holds: 2, waitlists: 0, events: 7 };
        assert_eq!(report.unfinished, Some(unfinished));
    }

    /// An app from before the token, next to a newer operator.
    #[tokio::test]
    async fn an_app_that_requires_no_token_is_read_too() {
        let app = Router::new().route("/sale", get(async || BODY));
        let client = client("127.90.90.2", app).await;
        for token in [None, Some("any")] {
            assert!(
                client
                    .sale_report("shop", "black-friday", token, ReportScope::Status)
                    .await
                    .is_some()
            );
            let report = client
                .sale_report("shop", "black-friday", token, ReportScope::Unfinished)
                .await
                .unwrap();
            assert_eq!(report.unfinished, None, "it ignores the query");
        }
    }
}
