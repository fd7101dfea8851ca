//! The whole load run against a small fake sale with a real Redis and a real database: an honest
//! one passes, and each way of cheating is found.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use flashsale_load::config::{MetricsSource, Settings, TimingTargets};
use flashsale_load::scenario::Scenario;
use flashsale_load::verdict::Report;
use flashsale_load::{ConfigError, run};
use serde_json::{Value, json};
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnectOptions;
use tempfile::TempDir;
use testkit::{Authority, RedisServer, TlsFolder};

const STOCK: i64 = 10;
const SCENARIO: &str = "
name: small
description: 30 users on 10 items
users: 30
quantity: 1
stock: 10
nodes: 1
pause_seconds: {min: 0.001, max: 0.01}
max_tries: 5
answer_timeout_seconds: 10
deadline_seconds: 20
targets: {quorum_success_percent: 100}
";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Honest,
    /// Records the order, then answers 500 the first time.
    LosesAnswers,
    SellsOneTooMany,
    AnswersWithoutRecording,
    RecordsTwice,
    ForgetsTheNodes,
}

struct Fake {
    behaviour: Behaviour,
    remaining: i64,
    /// By idempotency key.
    orders: HashMap<String, (String, String)>,
}

#[derive(Clone)]
struct Shop {
    fake: Arc<tokio::sync::Mutex<Fake>>,
    database: SqlitePool,
    redis: redis::aio::MultiplexedConnection,
    batches: Arc<Mutex<u32>>,
}

async fn stock(State(shop): State<Shop>, Path(_product): Path<String>) -> Json<Value> {
    Json(json!({"product_id": "1", "remaining": shop.fake.lock().await.remaining}))
}

async fn metrics(State(shop): State<Shop>) -> String {
    let batches = *shop.batches.lock().unwrap();
    format!(
        "# TYPE flashsale_lock_acquisitions_total counter\n\
         flashsale_lock_acquisitions_total{{outcome=\"acquired\"}} {batches}\n"
    )
}

async fn purchase(State(shop): State<Shop>, headers: HeaderMap) -> (StatusCode, Json<Value>) {
    let buyer = subject(&headers);
    let key = headers["Idempotency-Key"].to_str().unwrap().to_owned();
    let mut fake = shop.fake.lock().await;
    *shop.batches.lock().unwrap() += 1;
    if let Some((order, owner)) = fake.orders.get(&key) {
        assert_eq!(*owner, buyer);
        return (StatusCode::CREATED, created(order));
    }
    let floor = if fake.behaviour == Behaviour::SellsOneTooMany { -1 } else { 0 };
    if fake.remaining <= floor {
        return (StatusCode::CONFLICT, Json(json!({"code": "sold_out"})));
    }
    fake.remaining -= 1;
    let last = fake.remaining == floor;
    let order = uuid::Uuid::new_v4().to_string();
    fake.orders.insert(key, (order.clone(), buyer.clone()));
    if !(last && fake.behaviour == Behaviour::AnswersWithoutRecording) {
        shop.record(&order, &buyer, fake.remaining).await;
    }
    if last && fake.behaviour == Behaviour::RecordsTwice {
        shop.record(&uuid::Uuid::new_v4().to_string(), &buyer, fake.remaining).await;
    }
    if fake.behaviour != Behaviour::ForgetsTheNodes {
        let mut redis = shop.redis.clone();
        let set = redis::cmd("SET").arg("stock:1").arg(fake.remaining).to_owned();
        set.query_async::<()>(&mut redis).await.unwrap();
    }
    if fake.behaviour == Behaviour::LosesAnswers {
        return (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({"code": "internal"})));
    }
    (StatusCode::CREATED, created(&order))
}

fn created(order: &str) -> Json<Value> {
    Json(json!({"order_id": order, "product_id": "1", "quantity": 1, "remaining": 0}))
}

/// The token's subject; the signature is not verified.
fn subject(headers: &HeaderMap) -> String {
    #[derive(serde::Deserialize)]
    struct Claims {
        sub: String,
    }
    let token = headers["Authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap();
    jsonwebtoken::dangerous::insecure_decode::<Claims>(token).unwrap().claims.sub
}

impl Shop {
    async fn record(&self, order: &str, buyer: &str, remaining: i64) {
        sqlx::query("INSERT INTO orders (id, product_id, buyer, quantity) VALUES ($1, '1', $2, 1)")
            .bind(order)
            .bind(buyer)
            .execute(&self.database)
            .await
            .unwrap();
        sqlx::query("UPDATE stock SET available = $1")
            .bind(remaining)
            .execute(&self.database)
            .await
            .unwrap();
    }
}

/// A fake sale that listens, and the settings to load it.
struct Sale {
    settings: Settings,
    redis: RedisServer,
    _folder: TempDir,
}

impl Sale {
    async fn start(behaviour: Behaviour) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut scenario = tempfile::NamedTempFile::new().unwrap();
        scenario.write_all(SCENARIO.as_bytes()).unwrap();

        let path = folder.path().join("sale.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let database = SqlitePool::connect_with(options).await.unwrap();
        for statement in [
            "CREATE TABLE stock (product_id TEXT, available INTEGER)",
            "CREATE TABLE orders (id TEXT, product_id TEXT, buyer TEXT, quantity INTEGER)",
            "INSERT INTO stock VALUES ('1', 10)",
        ] {
            sqlx::query(statement).execute(&database).await.unwrap();
        }

        let redis = RedisServer::start().unwrap();
        let client = redis::Client::open(format!("redis://{}", redis.address())).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let set = redis::cmd("SET").arg("stock:1").arg(STOCK).to_owned();
        set.query_async::<()>(&mut connection).await.unwrap();

        let fake = Fake { behaviour, remaining: STOCK, orders: HashMap::new() };
        let shop = Shop {
            fake: Arc::new(tokio::sync::Mutex::new(fake)),
            database,
            redis: connection,
            batches: Arc::default(),
        };
        let router = Router::new()
            .route("/v1/products/{id}/stock", get(stock))
            .route("/v1/purchases", post(purchase))
            .route("/metrics", get(metrics))
            .with_state(shop);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async { axum::serve(listener, router).await });

        let settings = Settings {
            scenario: Scenario::from_file(scenario.path()).unwrap(),
            sale_urls: vec![format!("http://{address}")],
            metrics: MetricsSource::Host(address.to_string()),
            redis_nodes: vec![redis.address()],
            redis_password: None,
            redis_ca_file: None,
            database_ca_file: None,
            database_url: format!("sqlite://{}", path.display()),
            jwt_secret: "0123456789abcdef0123456789abcdef".to_owned(),
            product_id: "1".to_owned(),
            timing_targets: TimingTargets::Report,
            wait: Duration::ZERO,
        };
        Self { settings, redis, _folder: folder }
    }

    async fn load(&self) -> Result<Report, ConfigError> {
        run(&self.settings).await
    }
}

async fn loaded(behaviour: Behaviour) -> Report {
    Sale::start(behaviour).await.load().await.unwrap()
}

fn is_wrong(report: &Report, name: &str) -> bool {
    report.wrong().iter().any(|wrong| wrong.starts_with(name))
}

#[tokio::test]
async fn an_honest_sale_passes_once() {
    let sale = Sale::start(Behaviour::Honest).await;
    let report = sale.load().await.unwrap();
    assert!(report.passed(), "{report}");
    let figures = report.figures();
    assert_eq!((figures.sold, figures.failed["sold_out"], figures.requests), (10, 20, 30));
    assert_eq!(figures.node_stock[&sale.redis.address()], Some(0));
    assert_eq!((figures.series.response_times.count(), figures.series.points.len()), (30, 30));
    for row in report.checks() {
        assert!(row.rule.is_some(), "{row:?} says how it is computed");
    }

    let again = sale.load().await.unwrap_err().to_string();
    assert!(
        again.contains("needs a fresh sale with 10 units") && again.contains("0 units are left"),
        "{again}"
    );
}

#[tokio::test]
async fn nodes_with_tls_are_read_and_a_wrong_authority_is_named() {
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    let certificate = authority.issue("localhost", 10).unwrap();
    let files = TlsFolder::new(&certificate, other.certificate()).unwrap();
    let mut sale = Sale::start(Behaviour::Honest).await;
    let port = testkit::free_port().unwrap();
    sale.redis.use_tls(&files, port).unwrap();
    sale.settings.redis_nodes = vec![format!("localhost:{port}")];
    sale.settings.redis_ca_file = Some(files.path("ca.crt"));
    let error = sale.load().await.unwrap_err().to_string();
    assert!(error.starts_with("REDIS_NODES: ") && error.contains("UnknownIssuer"), "{error}");
    files.replace(&certificate, authority.certificate()).unwrap();
    let report = sale.load().await.unwrap();
    assert!(report.passed(), "{report}");
    assert_eq!(report.figures().node_stock[&format!("localhost:{port}")], Some(0));
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_under_the_same_key() {
    let report = loaded(Behaviour::LosesAnswers).await;
    assert!(report.passed(), "{report}");
    let figures = report.figures();
    assert_eq!((figures.sold, figures.lost_answers, figures.requests), (10, 10, 40));
}

#[tokio::test]
async fn cheating_is_found() {
    // At once: some of them are found only after the nodes had their time to catch up.
    let (oversold, unrecorded, twice, forgotten) = tokio::join!(
        loaded(Behaviour::SellsOneTooMany),
        loaded(Behaviour::AnswersWithoutRecording),
        loaded(Behaviour::RecordsTwice),
        loaded(Behaviour::ForgetsTheNodes),
    );
    assert!(is_wrong(&oversold, "oversold"), "{oversold}");
    assert!(unrecorded.problems()[0].contains("is not in the database"), "{unrecorded}");
    assert!(twice.problems()[0].contains("without an answer 201"), "{twice}");
    assert!(is_wrong(&forgotten, "stock on 127.0.0.1"), "{forgotten}");
}

/// Another scenario for a fake sale.
fn scenario(change: impl Fn(&str) -> String) -> (tempfile::NamedTempFile, Scenario) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(change(SCENARIO).as_bytes()).unwrap();
    let scenario = Scenario::from_file(file.path()).unwrap();
    (file, scenario)
}

fn one_by_one(users: u32, stock: u32) -> impl Fn(&str) -> String {
    move |text| {
        let rate = format!("users: {users}\nusers_per_second: 100");
        text.replace("users: 30\n", &format!("{rate}\n"))
            .replace("stock: 10", &format!("stock: {stock}"))
    }
}

#[tokio::test]
async fn users_who_come_one_after_the_other_need_no_fresh_sale() {
    let mut sale = Sale::start(Behaviour::LosesAnswers).await;
    sale.settings.scenario = scenario(one_by_one(4, 10)).1;
    let report = sale.load().await.unwrap();
    assert!(report.passed(), "{report}");
    let figures = report.figures();
    assert_eq!((figures.sold, figures.answers["sold"], figures.answers["internal"]), (4, 4, 4));
    assert!(figures.longest_pause_ms > 0.0);
    let of_seconds = figures.answers_by_second.iter().flat_map(|second| second.values());
    assert_eq!(of_seconds.sum::<u32>(), 8);

    let again = sale.load().await.unwrap_err().to_string();
    assert!(again.contains("needs 10 units") && again.contains("6 are left"), "{again}");
    sale.settings.scenario = scenario(one_by_one(8, 1)).1;
    let report = sale.load().await.unwrap();
    assert!(report.passed(), "{report}");
    assert_eq!((report.figures().sold, report.figures().failed["sold_out"]), (6, 2));
}

#[tokio::test]
async fn cheating_is_found_while_users_come_one_after_the_other() {
    let run = async |behaviour| {
        let mut sale = Sale::start(behaviour).await;
        sale.settings.scenario = scenario(one_by_one(15, 10)).1;
        sale.load().await.unwrap()
    };
    let (oversold, unrecorded, twice) = tokio::join!(
        run(Behaviour::SellsOneTooMany),
        run(Behaviour::AnswersWithoutRecording),
        run(Behaviour::RecordsTwice),
    );
    assert!(is_wrong(&oversold, "oversold"), "{oversold}");
    assert!(unrecorded.problems()[0].contains("is not in the database"), "{unrecorded}");
    assert!(twice.problems()[0].contains("without an answer 201"), "{twice}");
}

#[tokio::test]
async fn a_run_that_is_told_to_stop_ends_with_its_verdict() {
    let sale = Sale::start(Behaviour::Honest).await;
    let (file, _) = scenario(one_by_one(100_000, 10));
    let Settings { sale_urls, redis_nodes, database_url, jwt_secret, metrics, .. } = &sale.settings;
    let MetricsSource::Host(metrics) = metrics else { panic!("a host") };
    let load = tokio::process::Command::new(env!("CARGO_BIN_EXE_flashsale-load"))
        .args(["run", "--targets", "report", "--scenario-file"])
        .arg(file.path())
        .env("SALE_URL", &sale_urls[0])
        .env("REDIS_NODES", &redis_nodes[0])
        .env("DATABASE_URL", database_url)
        .env("JWT_SECRET", jwt_secret)
        .env("METRICS_HOST", metrics)
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let client = redis::Client::open(format!("redis://{}", sale.redis.address())).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), async {
        let get = redis::cmd("GET").arg("stock:1").to_owned();
        while get.query_async::<i64>(&mut redis).await.unwrap() == STOCK {}
    })
    .await
    .unwrap();
    let process = load.id().unwrap().to_string();
    let told = tokio::process::Command::new("kill").args(["-TERM", &process]).status().await;
    assert!(told.unwrap().success());
    let ended = load.wait_with_output().await.unwrap();
    let output = String::from_utf8(ended.stdout).unwrap();
    assert!(ended.status.success(), "{output}");
    let verdict: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    assert_eq!(verdict["verdict"], "PASS");
    let users = verdict["users"].as_u64().unwrap();
    assert!((1..100_000).contains(&users), "{users} users came");
}

#[tokio::test]
async fn what_cannot_be_reached_is_named() {
    let sale = Sale::start(Behaviour::Honest).await;
    let nowhere = format!("127.0.0.1:{}", testkit::free_port().unwrap());
    let mut cases = HashMap::new();
    let mut case = |name, change: &dyn Fn(&mut Settings)| {
        let mut settings = sale.settings.clone();
        change(&mut settings);
        cases.insert(name, settings);
    };
    case("SALE_URL", &|s| s.sale_urls.push(format!("http://{nowhere}")));
    case("REDIS_NODES", &|s| s.redis_nodes = vec![nowhere.clone()]);
    case("DATABASE_URL", &|s| s.database_url = "sqlite:///nowhere/sale.db".to_owned());
    case("METRICS_HOST", &|s| s.metrics = MetricsSource::Host(nowhere.clone()));
    case("METRICS_URLS", &|s| {
        s.metrics = MetricsSource::Urls(vec![format!("http://{nowhere}/metrics")]);
    });
    for (name, settings) in cases {
        let error = run(&settings).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("{name}: ")), "{name}: {error}");
    }
}
