//! Traces, read back from the real OpenTelemetry Collector; and collectors that are slow, away or refuse.
#![expect(clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use futures::future::join_all;
use redlock::Policy;
use sale::stock_resource;
use serde_json::json;
use tokio::net::TcpListener;

use crate::collector::{Collector, Span, server};
use crate::common::{Answer, Database, SaleSpec, TestSale, eventually, value};

/// The flags of a sampled span whose parent is in another process, and of one without such a parent.
const REMOTE: u64 = 0x301;
const LOCAL: u64 = 0x101;

fn spec(database: Database, endpoint: &str, settings: &[(&'static str, &str)]) -> SaleSpec {
    let endpoint = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)];
    let settings = endpoint.iter().chain(settings);
    let settings = settings.map(|(name, value)| (*name, (*value).to_owned())).collect();
    SaleSpec { settings, ..SaleSpec::on(database) }
}

fn trace(number: u32) -> String {
    format!("{number:032x}")
}

fn parent(number: u32, flags: &str) -> String {
    format!("00-{}-00000000000000aa-{flags}", trace(number))
}

/// Buys one unit, as a part of this trace.
async fn buy(sale: &TestSale, buyer: &str, traceparent: &str) -> Answer {
    let request = sale.buyer(buyer).request(0, "POST", "/v1/purchases");
    let request = request.json(&json!({"product_id": "1"})).header("traceparent", traceparent);
    Answer::of(request.send().await.unwrap()).await
}

fn requests<'a>(spans: &'a [Span], trace: &'a str) -> impl Iterator<Item = &'a Span> {
    spans.iter().filter(move |span| span.trace() == trace)
}

fn children<'a>(spans: &'a [Span], of: &'a Span) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.trace() == of.trace() && span.parent() == of.id()).collect()
}

/// The batch that a request links to, which has a link back.
fn batch_of<'a>(spans: &'a [Span], request: &Span) -> &'a Span {
    let links = request.links();
    assert_eq!(links.len(), 1, "{request:?}");
    let batch = spans.iter().find(|span| span.context() == links[0]).unwrap();
    assert!(batch.links().contains(&request.context()), "{batch:?}");
    batch
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_continues_the_trace_of_its_caller_and_is_linked_to_its_batch() {
    let collector = Collector::start().await;
    let settings = [("OTEL_SERVICE_NAME", "shop-sale"), ("HOSTNAME", "replica-0")];
    let mut spec = spec(Database::Postgres, &collector.endpoint, &settings);
    spec.products = json!([{"id": "1", "name": "Console", "stock": 1}]);
    let mut sale = TestSale::start(spec).await;
    assert_eq!(buy(&sale, "ann", &parent(1, "01")).await.status, 201);
    assert_eq!(buy(&sale, "bob", &parent(2, "01")).await.problem(), (409, "sold_out"));
    assert_eq!(buy(&sale, "cid", &parent(3, "00")).await.problem(), (409, "sold_out"));
    let wrong = sale.client.post(format!("{}/v1/purchases", sale.replicas[0].api));
    let wrong = wrong.header("traceparent", parent(4, "01")).header("tracestate", "shop=1");
    assert_eq!(wrong.send().await.unwrap().status(), 401);
    let started = Instant::now();
    sale.replicas.remove(0).stop().await;
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());

    let traces = [1, 2, 4].map(trace);
    let has = |spans: &[Span], trace: &String| requests(spans, trace).next().is_some();
    eventually("all sampled requests arrive", async || {
        let spans = collector.spans();
        traces.iter().all(|trace| has(&spans, trace))
    })
    .await;
    let spans = collector.spans();
    assert!(!has(&spans, &trace(3)), "the caller does not trace it");

    let bought = requests(&spans, &traces[0]).next().unwrap();
    assert_eq!((bought.name(), bought.kind()), ("POST /v1/purchases", 2));
    assert_eq!((bought.parent(), bought.flags()), ("00000000000000aa", REMOTE));
    for (name, value) in [
        ("http.request.method", json!("POST")),
        ("http.route", json!("/v1/purchases")),
        ("url.path", json!("/v1/purchases")),
        ("url.scheme", json!("http")),
        ("http.response.status_code", json!(201)),
        ("flashsale.outcome", json!("sold")),
    ] {
        assert_eq!(bought.attributes[name], value, "{name}");
    }
    for (name, value) in [
        ("service.name", "shop-sale"),
        ("service.instance.id", "replica-0"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("flashsale.sale", "default"),
    ] {
        assert_eq!(bought.resource[name], value, "{name}");
    }

    let batch = batch_of(&spans, bought);
    assert_eq!((batch.name(), batch.kind(), batch.flags()), ("purchase batch", 1, LOCAL));
    assert_eq!((batch.parent(), batch.status()), ("", 0));
    assert_eq!(batch.attributes["flashsale.batch.size"], 1);
    let steps = children(&spans, batch);
    let names: BTreeSet<&str> = steps.iter().map(|step| step.name()).collect();
    assert_eq!(names, BTreeSet::from(["acquire lock", "database"]));
    let database = steps.iter().find(|step| step.name() == "database").unwrap();
    assert_eq!(
        (database.kind(), &database.attributes["db.system.name"]),
        (3, &"postgresql".into())
    );
    for (inner, outer) in steps.iter().map(|step| (*step, batch)).chain([(batch, bought)]) {
        let ((begins, ends), (from, to)) = (inner.times(), outer.times());
        assert!(begins <= ends && from <= begins && ends <= to, "{inner:?} within {outer:?}");
    }

    let refused = requests(&spans, &traces[1]).next().unwrap();
    assert_eq!(refused.attributes["http.response.status_code"], 409);
    assert_eq!(refused.attributes["flashsale.outcome"], "sold_out");
    assert_eq!(refused.status(), 0, "a refusal is no failure of the server");
    let stranger = requests(&spans, &traces[2]).next().unwrap();
    assert_eq!(stranger.attributes["http.response.status_code"], 401);
    assert_eq!((stranger.state(), stranger.links().len()), ("shop=1", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_linked_to_each_of_its_purchases() {
    const BUYERS: u32 = 20;
    let collector = Collector::start().await;
    let sale = TestSale::start(spec(Database::Postgres, &collector.endpoint, &[])).await;
    let redlock = sale.redlock().await;
    let lease = redlock.acquire(&stock_resource("1"), Policy::default()).await.unwrap();
    let buyers: Vec<String> = (0..BUYERS).map(|number| format!("buyer-{number}")).collect();
    let parents: Vec<String> = (1..=BUYERS).map(|number| parent(number, "01")).collect();
    let buying = join_all(buyers.iter().zip(&parents).map(|(name, trace)| buy(&sale, name, trace)));
    let waiting = async {
        eventually("the buyers are connected", async || {
            let open = value::<f64>(&sale.metrics().await, "flashsale_http_connections");
            open.is_some_and(|open| open >= f64::from(BUYERS))
        })
        .await;
        lease.release().await;
    };
    let (answers, ()) = tokio::join!(buying, waiting);
    assert!(answers.iter().all(|answer| answer.status == 201), "{answers:?}");

    let traces: Vec<String> = (1..=BUYERS).map(trace).collect();
    let of_buyers = |spans: &[Span]| -> Vec<Span> {
        spans.iter().filter(|span| traces.contains(&span.trace().to_owned())).cloned().collect()
    };
    eventually("all requests arrive", async || of_buyers(&collector.spans()).len() == traces.len())
        .await;
    let spans = collector.spans();
    let batches: BTreeSet<_> =
        of_buyers(&spans).iter().map(|request| batch_of(&spans, request).context()).collect();
    let batches: Vec<&Span> =
        spans.iter().filter(|span| batches.contains(&span.context())).collect();
    assert!(batches.len() < traces.len(), "some share a batch");
    let links: usize = batches.iter().map(|batch| batch.links().len()).sum();
    assert_eq!(links, traces.len());
    let sizes = batches.iter().map(|batch| batch.attributes["flashsale.batch.size"].as_u64());
    assert_eq!(sizes.map(Option::unwrap).sum::<u64>(), u64::from(BUYERS));
}

#[tokio::test(flavor = "multi_thread")]
async fn purchases_that_redis_decides_orders_and_coupons_have_batches_too() {
    let collector = Collector::start().await;
    let atomic = [("STRATEGY", "Atomic"), ("USE_REDLOCK", "false")];
    let spec_of_atomic =
        SaleSpec { nodes: 1, ..spec(Database::Sqlite, &collector.endpoint, &atomic) };
    let atomic = TestSale::start(spec_of_atomic).await;
    assert_eq!(buy(&atomic, "ann", &parent(1, "01")).await.status, 201);

    let locked = TestSale::start(spec(Database::Sqlite, &collector.endpoint, &[])).await;
    let order = locked.buyer("ann").request(0, "POST", "/v1/orders");
    let order = order.json(&json!({"items": [{"product_id": "1", "quantity": 1}]}));
    let order = order.header("traceparent", parent(2, "01")).send().await.unwrap();
    assert_eq!(order.status(), 201);
    let coupon = json!({"id": "c", "quantity": 1});
    let made = locked.admin("boss").call("POST", "/v1/coupons", Some(&coupon)).await;
    assert_eq!(made.status, 201, "{made:?}");
    let issue = locked.buyer("ann").request(0, "POST", "/v1/coupons/c/issue");
    let issue = issue.header("traceparent", parent(3, "01")).send().await.unwrap();
    assert_eq!(issue.status(), 201);

    for (number, name, outcome, steps) in [
        (1, "purchase batch", "sold", &["redis"][..]),
        (2, "order batch", "placed", &["acquire lock", "database"]),
        (3, "coupon batch", "issued", &["acquire lock", "database"]),
    ] {
        let trace = trace(number);
        eventually("the request arrives", async || {
            requests(&collector.spans(), &trace).next().is_some()
        })
        .await;
        let spans = collector.spans();
        let request = requests(&spans, &trace).next().unwrap();
        assert_eq!(request.attributes["flashsale.outcome"], outcome);
        let batch = batch_of(&spans, request);
        let names: BTreeSet<&str> = children(&spans, batch).into_iter().map(Span::name).collect();
        assert_eq!((batch.name(), names), (name, steps.iter().copied().collect()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_carry_the_headers_and_refused_spans_are_counted() {
    for (status, exported) in [(StatusCode::OK, true), (StatusCode::UNAUTHORIZED, false)] {
        let (endpoint, received) = server(status).await;
        let headers = [("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20key,x-tenant=shop")];
        let sale = TestSale::start(spec(Database::Sqlite, &endpoint, &headers)).await;
        for number in 1..=3 {
            assert_eq!(buy(&sale, "ann", &parent(number, "01")).await.status, 201);
        }
        let name = if exported {
            "flashsale_trace_spans_exported_total"
        } else {
            "flashsale_trace_spans_dropped_total{reason=\"refused\"}"
        };
        // A request, its batch and the two steps of that.
        await_count(&sale, name, 3 * 4).await;
        let requests = received.requests();
        let (headers, body) = requests.first().expect("a request");
        assert_eq!(headers["content-type"], "application/x-protobuf");
        assert_eq!(
            (&headers["authorization"], &headers["x-tenant"]),
            (&"Bearer key".parse().unwrap(), &"shop".parse().unwrap())
        );
        assert!(!body.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_its_spans_and_nothing_else() {
    let nobody = format!("http://127.0.0.1:{}", testkit::free_port().unwrap());
    let sale = TestSale::start(spec(Database::Sqlite, &nobody, &[])).await;
    for number in 1..=3 {
        assert_eq!(buy(&sale, "ann", &parent(number, "01")).await.status, 201);
    }
    await_count(&sale, "flashsale_trace_spans_dropped_total{reason=\"unreachable\"}", 3 * 4).await;
    await_count(&sale, "flashsale_trace_spans_exported_total", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_delays_neither_purchases_nor_the_end_of_the_replica() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let mut sale = TestSale::start(spec(Database::Sqlite, &endpoint, &[])).await;
    assert_eq!(buy(&sale, "ann", &parent(1, "01")).await.status, 201);
    let (connection, _) = silent.accept().await.unwrap();
    // The exporter waits for an answer from here on.
    let started = Instant::now();
    for number in 2..=20 {
        assert_eq!(buy(&sale, "ann", &parent(number, "01")).await.status, 201);
    }
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    let stopping = Instant::now();
    sale.replicas.remove(0).stop().await;
    assert!(stopping.elapsed() < Duration::from_secs(10), "{:?}", stopping.elapsed());
    drop(connection);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ratio_decides_where_the_caller_does_not_and_nothing_is_traced_by_default() {
    let (endpoint, received) = server(StatusCode::OK).await;
    let never =
        [("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0")];
    let mut sale = TestSale::start(spec(Database::Sqlite, &endpoint, &never)).await;
    let alone = sale.buyer("ann").buy("1", 1, None).await;
    assert_eq!((alone.status, buy(&sale, "ann", &parent(1, "01")).await.status), (201, 201));
    await_count(&sale, "flashsale_trace_spans_exported_total", 4).await;
    // The exporter may have come between the batch and its request.
    let exports = received.requests().len();
    sale.replicas.remove(0).stop().await;
    assert_eq!(received.requests().len(), exports, "there are no other spans");

    let off = TestSale::start(SaleSpec::on(Database::Sqlite)).await;
    assert_eq!(buy(&off, "ann", &parent(1, "01")).await.status, 201);
    assert!(!off.metrics().await.contains("flashsale_trace_"));
}

async fn await_count(sale: &TestSale, name: &str, count: u32) {
    eventually(name, async || {
        let metrics = sale.metrics().await;
        let counted: Option<String> = value(&metrics, name);
        counted.unwrap_or_else(|| panic!("no {name}: {metrics}")) == count.to_string()
    })
    .await;
}
