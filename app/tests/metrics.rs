//! Series that are there before the first request: `rate` does not see the first event of a series that begins with it.

use std::collections::BTreeSet;

use crate::common::{Database, SaleSpec, TestSale, value};

const REQUESTS: &str = "flashsale_http_requests_total{";
const SECONDS: &str = "flashsale_http_request_seconds_count{";
/// A file of each kind, and a path that does not exist.
const PATHS: [&str; 15] = [
    "/",
    "/admin",
    "/app.css",
    "/common.js",
    "/feed.js",
    "/waitlist.js",
    "/app.js",
    "/admin.js",
    "/orders.js",
    "/icon.svg",
    "/docs",
    "/docs/",
    "/docs/swagger-ui.css",
    "/openapi.json",
    "/nope",
];

async fn sale() -> TestSale {
    TestSale::start(SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_response_has_a_series_from_the_start() {
    let metrics = sale().await.metrics().await;
    let document = serde_json::to_value(flashsale_app::api::openapi()).unwrap();
    let mut responses = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let method = method.to_uppercase();
            let statuses = operation["responses"].as_object().unwrap().keys();
            // A header that is too large is refused before there is a route.
            for status in statuses.filter(|status| *status != "431") {
                let labels = format!("method=\"{method}\",route=\"{path}\",status=\"{status}\"");
                let series = format!("{REQUESTS}{labels}}}");
                assert!(value(&metrics, &series) == Some(0), "no {series}");
                responses += 1;
            }
        }
        let series = format!("{SECONDS}route=\"{path}\"}}");
        assert!(value(&metrics, &series) == Some(0), "no {series}");
    }
    assert!(responses > 300, "{responses} responses");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_series_begins_with_a_request_for_a_page() {
    let sale = sale().await;
    let series = async || -> BTreeSet<String> {
        let metrics = sale.metrics().await;
        let lines = metrics.lines().filter_map(|line| Some(line.rsplit_once(' ')?.0));
        let of_requests = lines.filter(|it| it.starts_with(REQUESTS) || it.starts_with(SECONDS));
        of_requests.map(str::to_owned).collect()
    };
    let before = series().await;
    for path in PATHS {
        let url = format!("{}{path}", sale.replicas[0].api);
        sale.client.get(url).send().await.unwrap();
    }
    assert_eq!(series().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_outcome_of_a_payment_event_has_a_series_from_the_start() {
    let metrics = sale().await.metrics().await;
    for outcome in [
        "partial_refund",
        "payments_not_configured",
        "payment_amount",
        "order_not_recorded_yet",
        "lock_timeout",
        "database_unavailable",
    ] {
        let labels = format!("outcome=\"{outcome}\",provider=\"stripe\"");
        let series = format!("flashsale_payment_events_total{{{labels}}}");
        assert!(value(&metrics, &series) == Some(0), "no {series}");
    }
}
