//! The load tool's scenarios on a real sale: Redis nodes, a database, replicas. Its verdict is from outside, so it judges
//! the app, and here the app judges it.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use flashsale_load::config::{MetricsSource, Pods, Settings, TimingTargets};
use flashsale_load::scenario::Scenario;
use flashsale_load::verdict::Report;
use flashsale_load::{run, work};
use serde_json::{Value, json};

use crate::common::certificates::{Authority, MountedSecret};
use crate::common::{self, Database, JWT_SECRET, SaleSpec, TestSale, eventually};

fn settings(sale: &TestSale, scenario: Scenario) -> Settings {
    let metrics = |replica: &common::Replica| format!("{}/metrics", replica.internal);
    Settings {
        scenario,
        sale_urls: sale.replicas.iter().map(|replica| replica.api.clone()).collect(),
        sale_ca_file: None,
        metrics: MetricsSource::Urls(sale.replicas.iter().map(metrics).collect()),
        redis_nodes: sale.nodes.iter().map(testkit::RedisServer::address).collect(),
        redis_password: None,
        redis_ca_file: None,
        database_url: sale.database_url(),
        database_ca_file: None,
        jwt_secret: JWT_SECRET.to_owned(),
        product_id: "1".to_owned(),
        timing_targets: TimingTargets::Report,
        wait: Duration::ZERO,
        pods: Pods::alone(),
    }
}

/// A built-in scenario with other numbers.
fn scenario(name: &str, changes: &[(&str, &str)]) -> Scenario {
    let file = format!("{}/../load/scenarios/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    let mut text = std::fs::read_to_string(file).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{name} has {from:?}");
        text = text.replace(from, to);
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    Scenario::from_file(file.path()).unwrap()
}

async fn sale(replicas: usize, products: Value, order: &str) -> TestSale {
    // As in production: less than buyers wait for an answer.
    let settings = vec![("LOCK_ORDER", order.to_owned()), ("LOCK_WAIT_SECONDS", "2".to_owned())];
    let spec = SaleSpec { replicas, products, settings, ..SaleSpec::on(Database::Postgres) };
    TestSale::start(spec).await
}

fn console() -> Value {
    json!([{"id": "1", "name": "Console", "stock": 100, "max_per_buyer": 1}])
}

fn three_products() -> Value {
    let product = |id: &str| json!({"id": id, "name": id, "stock": 90});
    json!([product("A"), product("B"), product("C")])
}

async fn passes(sale: &TestSale, scenario: Scenario) -> Report {
    let report = run(&settings(sale, scenario)).await.unwrap();
    assert!(report.passed(), "{report}");
    report
}

/// The same for users in several pods.
async fn passes_in_pods(sale: &TestSale, scenario: Scenario, number: u32) -> Report {
    let listen = format!("127.0.0.1:{}", testkit::free_port().unwrap());
    let pod = |index| {
        let coordinator = listen.clone();
        let pods = Pods { number, index, coordinator, listen: listen.parse().unwrap() };
        Settings { pods, ..settings(sale, scenario.clone()) }
    };
    let others: Vec<_> = (1..number)
        .map(|index| {
            let pod = pod(index);
            tokio::spawn(async move { work(&pod).await })
        })
        .collect();
    let report = run(&pod(0)).await.unwrap();
    assert!(report.passed(), "{report}");
    for other in others {
        assert_eq!(other.await.unwrap().unwrap(), "PASS");
    }
    report
}

fn measured(report: &Report, name: &str) -> String {
    let text = report.to_string();
    let row = text.lines().find_map(|line| line.trim_start().strip_prefix(name));
    let row = row.ok_or_else(|| format!("no row {name:?}: {text}")).unwrap();
    row.split_whitespace().next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_products_are_taken_together_or_not_at_all() {
    let sale = sale(2, three_products(), "Unordered").await;
    let report = passes(&sale, Scenario::named("s3-distributed").unwrap()).await;
    assert_eq!((report.figures().sold, report.figures().failed["sold_out"]), (90, 10));
    assert_eq!(measured(&report, "orders with and without C"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asked_first_wins() {
    let sale = sale(3, three_products(), "Fair").await;
    let report = passes(&sale, Scenario::named("s3-fair").unwrap()).await;
    assert_eq!((report.figures().sold, report.figures().failed["sold_out"]), (90, 10));
    assert_eq!(measured(&report, "users overtaken"), "0");
    assert_eq!(measured(&report, "tickets not seen"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_paid_cancelled_refused_and_expire_and_their_units_come_back() {
    // On a busy machine those who pay need some seconds.
    let products = json!([{"id": "1", "name": "Console", "stock": 100, "hold_seconds": 15}]);
    let sale = sale(2, products, "Fair").await;
    let report = passes(&sale, Scenario::named("checkout").unwrap()).await;
    let figures = report.figures();
    assert_eq!(
        (figures.sold, figures.database_stock, figures.database_orders),
        (50, Some(50), Some(100))
    );
    let count = |code: &str| figures.answers[code];
    let ends = ["paid", "cancelled", "payment_failed", "expired"];
    assert_eq!(ends.map(count), [50, 30, 10, 10]);
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_nobody_pays_expire_while_others_buy() {
    let products = json!([{"id": "1", "name": "Console", "stock": 100, "hold_seconds": 5}]);
    let sale = sale(2, products, "Fair").await;
    let changes = [
        ("users: 100\n", "users: 150\nusers_per_second: 20\n"),
        ("{pay: 50, cancel: 30, fail: 10, expire: 10}", "{pay: 50}"),
    ];
    let report = passes(&sale, scenario("checkout", &changes)).await;
    let expired = measured(&report, "units back from orders that expired");
    assert!(expired.parse::<i64>().unwrap() > 0, "{report}");
    let figures = report.figures();
    assert_eq!(figures.database_stock, Some(100 - figures.sold), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn coupons_are_issued_once_to_each_buyer_in_a_sale_in_use() {
    let sale = sale(2, console(), "Unordered").await;
    let changes = [("users: 10000", "users: 300"), ("stock: 1000", "stock: 30")];
    for _ in 0..2 {
        let report = passes(&sale, scenario("coupon-rush", &changes)).await;
        let figures = report.figures();
        assert_eq!((figures.sold, figures.failed["coupon_exhausted"]), (30, 270));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soak_restocks_and_cancels() {
    let products = json!([{"id": "1", "name": "Console", "stock": 1000}]);
    let sale = sale(2, products, "Fair").await;
    let changes = [
        ("users_per_second: 20", "users_per_second: 200"),
        ("every_seconds: 20, units: 450", "every_seconds: 0.5, units: 7"),
    ];
    let soak = scenario("soak", &changes).lasting(Duration::from_secs(3)).unwrap();
    let report = passes(&sale, soak).await;
    let figures = report.figures();
    assert!(figures.answers["cancelled"] > 0 && figures.answers["paid"] > 0, "{report}");
    assert!(figures.users > 200, "{report}");
    let restocked: i64 = measured(&report, "units restocked, by the database").parse().unwrap();
    assert!(restocked > 0 && restocked % 7 == 0, "{report}");
    let left = 1000 + restocked - figures.sold;
    assert_eq!(figures.database_stock, Some(left));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_purchases_fail_until_the_nodes_are_back_and_nothing_is_lost() {
    let mut sale = sale(2, console(), "Fair").await;
    let changes = [("users_per_second: 10", "users_per_second: 50")];
    let settings = settings(&sale, scenario("v3-three-nodes-stopped", &changes));
    let load = tokio::spawn(async move { run(&settings).await.unwrap() });
    let left = async |sale: &TestSale| sale.nodes[4].get("stock:1").unwrap();
    eventually("something is sold", async || left(&sale).await.as_deref() != Some("100")).await;
    for node in &mut sale.nodes[..3] {
        node.kill().unwrap();
    }
    eventually("a buyer is refused", async || {
        sale.metrics().await.lines().any(|line| {
            let refused = r#"flashsale_purchases_total{outcome="quorum_unavailable"} "#;
            line.strip_prefix(refused).is_some_and(|number| number != "0")
        })
    })
    .await;
    for node in &mut sale.nodes[..3] {
        node.restart().unwrap();
    }
    let report = load.await.unwrap();
    assert!(report.passed(), "{report}");
    assert_eq!(report.figures().sold, 100);
    assert_eq!(measured(&report, "Redis nodes stopped"), "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_three_nodes_of_five_vote_no_purchase_fails() {
    let mut sale = sale(2, console(), "Fair").await;
    let changes = [("users_per_second: 10", "users_per_second: 50")];
    let settings = settings(&sale, scenario("v3-two-nodes-stopped", &changes));
    let load = tokio::spawn(async move { run(&settings).await.unwrap() });
    let left = async |sale: &TestSale| sale.nodes[4].get("stock:1").unwrap();
    eventually("something is sold", async || left(&sale).await.as_deref() != Some("100")).await;
    for node in &mut sale.nodes[..2] {
        node.kill().unwrap();
    }
    eventually("the rest is sold", async || left(&sale).await.as_deref() == Some("0")).await;
    for node in &mut sale.nodes[..2] {
        node.restart().unwrap();
    }
    let report = load.await.unwrap();
    assert!(report.passed(), "{report}");
    assert_eq!(report.figures().sold, 100);
    assert_eq!(measured(&report, "Redis nodes stopped"), "2");
    assert_eq!(measured(&report, "answers other than sold, sold_out"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_is_long_enough_to_wait_for_the_lock() {
    let products = json!([{"id": "1", "name": "Console", "stock": 20, "max_per_buyer": 1}]);
    let settings = vec![("LOCK_ORDER", "Fair".to_owned()), ("LOCK_WAIT_SECONDS", "1".to_owned())];
    let spec = SaleSpec { replicas: 2, products, settings, ..SaleSpec::on(Database::Postgres) };
    let sale = TestSale::start(spec).await;
    let changes = [("users: 300", "users: 60"), ("stock: 100", "stock: 20")];
    let report = passes(&sale, scenario("v3-lock-timeout-1s", &changes)).await;
    assert_eq!((report.figures().sold, report.figures().failed["sold_out"]), (20, 40));
    assert_eq!(measured(&report, "answers other than sold, sold_out"), "0");
    assert_eq!(measured(&report, "quorum success"), "100.00");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_in_which_nobody_stopped_a_node_fails() {
    let sale = sale(1, console(), "Fair").await;
    let changes = [("users_per_second: 10", "users_per_second: 500")];
    let settings = settings(&sale, scenario("v3-one-node-stopped", &changes));
    let report = run(&settings).await.unwrap();
    assert_eq!(report.wrong(), ["Redis nodes stopped"], "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_buys_over_tls_and_a_wrong_authority_is_named() {
    let (authority, other) = (Authority::new(), Authority::new());
    let secret = MountedSecret::new(&authority.issue(10));
    let mut spec = SaleSpec { nodes: 1, products: console(), ..SaleSpec::on(Database::Sqlite) };
    for (name, file) in [("TLS_CERT_FILE", "tls.crt"), ("TLS_KEY_FILE", "tls.key")] {
        spec.settings.push((name, secret.path(file).display().to_string()));
    }
    let sale = TestSale::start(spec).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let mut settings = settings(&sale, Scenario::named("v1-single").unwrap());
    let urls = settings.sale_urls.iter();
    settings.sale_urls =
        urls.map(|url| url.replace("http://127.0.0.1", "https://localhost")).collect();
    let error = run(&settings).await.unwrap_err().to_string();
    assert!(error.starts_with("SALE_URL: ") && error.contains("UnknownIssuer"), "public: {error}");
    settings.sale_ca_file = Some(file("other.crt", other.certificate()));
    let error = run(&settings).await.unwrap_err().to_string();
    assert!(error.starts_with("SALE_URL: ") && error.contains("invalid peer"), "other: {error}");
    settings.sale_ca_file = Some(file("ca.crt", authority.certificate()));
    let report = run(&settings).await.unwrap();
    assert!(report.passed(), "{report}");
    assert_eq!(report.figures().sold, 100);
    settings.sale_ca_file = Some(PathBuf::from("/nowhere/ca.crt"));
    let error = run(&settings).await.unwrap_err().to_string();
    assert!(error.starts_with("SALE_CA_FILE: /nowhere/ca.crt: "), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn buyers_of_an_open_model_share_connections_and_pods() {
    let sale = sale(2, console(), "Fair").await;
    let changes = [
        ("users: 30000", "users: 1000\nconnections: 3"),
        ("users_per_second: 1000", "users_per_second: 400"),
    ];
    let report = passes_in_pods(&sale, scenario("black-friday", &changes), 2).await;
    let figures = report.figures();
    assert_eq!((figures.users, figures.sold, figures.failed["sold_out"]), (1000, 100, 900));
    assert!(figures.elapsed_seconds > 2.4, "1000 users at 400 a second: {report}");
    let connections = sale.metrics().await;
    let refused = "flashsale_http_connections_refused_total 0";
    assert!(connections.contains(refused), "{connections}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_buyer_of_four_pods_has_a_final_answer() {
    let sale = sale(2, console(), "Fair").await;
    let changes =
        [("users: 100000", "users: 800"), ("users_per_second: 2000", "users_per_second: 400")];
    let report = passes_in_pods(&sale, scenario("hundred-thousand", &changes), 4).await;
    let figures = report.figures();
    assert_eq!((figures.users, figures.sold, figures.failed["sold_out"]), (800, 100, 700));
    assert_eq!(measured(&report, "load pods"), "4");
    assert_eq!(measured(&report, "users without a final answer"), "0");
}
