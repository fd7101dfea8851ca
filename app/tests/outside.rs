//! Clients behind proxies, browsers of other origins, scrapers, both families of addresses.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};

use crate::common::{Answer, Database, SaleSpec, TestSale, eventually};

async fn post(sale: &TestSale, path: &str, body: &Value) -> Answer {
    let url = format!("{}{path}", sale.replicas[0].api);
    Answer::of(sale.client.post(url).json(body).send().await.unwrap()).await
}

/// Sends credentials from an address, as a trusted proxy says it.
async fn from(sale: &TestSale, path: &str, header: (&str, &str), body: &Value) -> Answer {
    let url = format!("{}/v1/auth/{path}", sale.replicas[0].api);
    let request = sale.client.post(url).header(header.0, header.1).json(body);
    Answer::of(request.send().await.unwrap()).await
}

async fn behind_a_proxy() -> TestSale {
    let mut spec = SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) };
    spec.settings.push(("TRUSTED_PROXIES", "1".to_owned()));
    TestSale::start(spec).await
}

#[tokio::test]
async fn clients_are_distinguished_by_the_header_of_any_proxy() {
    let sale = behind_a_proxy().await;
    let ann = json!({"id": "ann", "password": "correct horse"});
    post(&sale, "/v1/auth/signup", &ann).await;
    let wrong = json!({"id": "ann", "password": "battery staple"});
    for [attacker, owner] in [
        [("x-forwarded-for", "203.0.113.7:4711"), ("x-forwarded-for", "198.51.100.9:1234")],
        [("x-forwarded-for", "[2001:db8::1]:443"), ("x-forwarded-for", "[2001:db8:1::1]:443")],
        [("forwarded", "for=203.0.113.8;proto=https"), ("forwarded", "for=\"198.51.100.9:1\"")],
        [("forwarded", "For=\"[2001:db8:2::1]:80\""), ("forwarded", "for=\"[2001:db8:3::1]\"")],
    ] {
        for attempt in 0..6 {
            let status = from(&sale, "login", attacker, &wrong).await.status;
            assert_eq!(status, if attempt < 5 { 401 } else { 429 }, "{attacker:?}");
        }
        assert_eq!(from(&sale, "login", owner, &ann).await.status, 200, "{owner:?}");
    }
}

#[tokio::test]
async fn sign_ups_of_an_address_have_a_budget() {
    let sale = behind_a_proxy().await;
    let account = |n: usize| json!({"id": format!("user{n}"), "password": "correct horse"});
    let attacker = ("x-forwarded-for", "192.0.2.66");
    let mut made = 0;
    let refused = loop {
        let answer = from(&sale, "signup", attacker, &account(made)).await;
        if answer.status != 201 {
            break answer;
        }
        made += 1;
        assert!(made < 500, "there is no budget");
    };
    assert_eq!(refused.problem(), (429, "too_many_attempts"));
    let seconds: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert_eq!(seconds, 1);
    assert!(made >= 30, "{made}");
    // Others sign up, and those who have an account at that address log in.
    let other = ("x-forwarded-for", "192.0.2.1");
    assert_eq!(from(&sale, "signup", other, &account(1000)).await.status, 201);
    assert_eq!(from(&sale, "login", attacker, &account(0)).await.status, 200);
    let metrics = sale.metrics().await;
    let counted = |outcome: &str| format!("flashsale_sign_ups_total{{outcome=\"{outcome}\"}} ");
    assert!(
        metrics.contains(&counted("succeeded")) && metrics.contains(&counted("too_many_attempts"))
    );
}

#[tokio::test]
async fn a_storm_of_sign_ups_keeps_nobody_from_logging_in() {
    let sale = behind_a_proxy().await;
    let ann = json!({"id": "ann", "password": "correct horse"});
    assert_eq!(post(&sale, "/v1/auth/signup", &ann).await.status, 201);
    let calm = AtomicBool::new(false);
    let overloaded = AtomicUsize::new(0);
    // Each from an address of its own, so that no budget ends the storm.
    let storm = async |caller: usize| {
        for n in 0.. {
            if calm.load(Ordering::Relaxed) {
                return;
            }
            let account = json!({"id": format!("user{caller}.{n}"), "password": "correct horse"});
            let address = format!("10.{caller}.{}.{}", n / 250, n % 250);
            let header = ("x-forwarded-for", address.as_str());
            if from(&sale, "signup", header, &account).await.status == 503 {
                overloaded.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let log_in = async {
        let full = async || overloaded.load(Ordering::Relaxed) > 0;
        eventually("the sign-ups' queue is full", full).await;
        for _ in 0..10 {
            let header = ("x-forwarded-for", "192.0.2.1");
            assert_eq!(from(&sale, "login", header, &ann).await.status, 200);
        }
        calm.store(true, Ordering::Relaxed);
    };
    tokio::join!(join_all((0..100).map(storm)), log_in);
}

#[tokio::test]
async fn an_address_that_guesses_passwords_keeps_nobody_else_from_logging_in() {
    let sale = behind_a_proxy().await;
    let ann = json!({"id": "ann", "password": "correct horse"});
    assert_eq!(post(&sale, "/v1/auth/signup", &ann).await.status, 201);
    let calm = AtomicBool::new(false);
    let overloaded = AtomicUsize::new(0);
    let storm = async |caller: usize| {
        for n in 0.. {
            if calm.load(Ordering::Relaxed) {
                return;
            }
            let guess = json!({"id": format!("user{caller}.{n}"), "password": "a guess or so"});
            let header = ("x-forwarded-for", "192.0.2.66");
            if from(&sale, "login", header, &guess).await.status == 503 {
                overloaded.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let log_in = async {
        let full = async || overloaded.load(Ordering::Relaxed) > 0;
        eventually("the address has its share of the queue", full).await;
        for _ in 0..10 {
            let header = ("x-forwarded-for", "192.0.2.1");
            assert_eq!(from(&sale, "login", header, &ann).await.status, 200);
        }
        calm.store(true, Ordering::Relaxed);
    };
    tokio::join!(join_all((0..100).map(storm)), log_in);
}

/// What a browser asks before a page of this origin may buy.
async fn preflight(sale: &TestSale, origin: &str) -> Answer {
    let url = format!("{}/v1/purchases", sale.replicas[0].api);
    let request = sale.client.request(Method::OPTIONS, url).header("origin", origin);
    let request = request
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type,idempotency-key");
    Answer::of(request.send().await.unwrap()).await
}

#[tokio::test]
async fn pages_of_the_configured_origins_may_call_the_api_and_no_others() {
    const SHOP: &str = "https://shop.example";
    let closed = TestSale::start(SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) }).await;
    let refused = preflight(&closed, SHOP).await;
    assert_eq!(refused.problem(), (405, "method_not_allowed"));
    assert!(!refused.headers.contains_key("access-control-allow-origin"));

    let mut spec = SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) };
    let origins = format!("{SHOP}, http://localhost:3000");
    spec.settings.push(("CORS_ALLOWED_ORIGINS", origins));
    let sale = TestSale::start(spec).await;
    let allowed = preflight(&sale, SHOP).await;
    assert_eq!(allowed.status, 200);
    assert_eq!(allowed.headers["access-control-allow-origin"], SHOP);
    let of = |name: &str| allowed.headers[name].to_str().unwrap().to_ascii_lowercase();
    assert!(of("access-control-allow-methods").contains("post"));
    for header in ["authorization", "content-type", "idempotency-key", "traceparent", "tracestate"]
    {
        assert!(of("access-control-allow-headers").contains(header), "{header}");
    }
    for other in ["https://evil.example", "http://shop.example", "null"] {
        let answer = preflight(&sale, other).await;
        assert!(!answer.headers.contains_key("access-control-allow-origin"), "{other}");
    }
    // The call itself, and one that is refused: the page may read when to try again, and whether it was repeated.
    let url = format!("{}/v1/sale", sale.replicas[0].api);
    let answer = sale.client.get(url).header("origin", SHOP).send().await.unwrap();
    assert_eq!(answer.headers()["access-control-allow-origin"], SHOP);
    let url = format!("{}/v1/purchases", sale.replicas[0].api);
    let answer = sale.client.post(url).header("origin", SHOP).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.headers()["access-control-allow-origin"], SHOP);
    let exposed = answer.headers()["access-control-expose-headers"].to_str().unwrap();
    for header in ["retry-after", "idempotent-replayed"] {
        assert!(exposed.contains(header), "{exposed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_scrapers_at_once_see_every_product() {
    let products: Vec<Value> =
        (0..201).map(|n| json!({"id": n.to_string(), "name": "Console", "stock": 1})).collect();
    let spec = SaleSpec { nodes: 1, products: products.into(), ..SaleSpec::on(Database::Sqlite) };
    let sale = TestSale::start(spec).await;
    let scrape = async || {
        for _ in 0..200 {
            let metrics = sale.metrics().await;
            assert_eq!(metrics.matches("flashsale_stock_remaining{").count(), 201);
        }
    };
    tokio::join!(scrape(), scrape(), scrape(), scrape());
}

/// The app as a process, and its log.
fn app(sale: &TestSale, command: &str) -> tokio::process::Child {
    tokio::process::Command::from(Command::new(env!("CARGO_BIN_EXE_flashsale-app")))
        .arg(command)
        .env_clear()
        .envs(&sale.settings)
        .envs([("LISTEN", "[::]:0"), ("METRICS_LISTEN", "[::]:0"), ("LOG_FORMAT", "json")])
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// The log up to the event with this message.
async fn until(
    log: &mut Lines<BufReader<tokio::process::ChildStderr>>,
    message: &str,
) -> Vec<Value> {
    let mut events = Vec::new();
    loop {
        let line = log.next_line().await.unwrap().expect("the replica goes on");
        let event: Value = serde_json::from_str(&line).unwrap();
        let found = event["fields"]["message"] == message;
        events.push(event);
        if found {
            return events;
        }
    }
}

#[tokio::test]
async fn both_ports_are_open_to_both_families_of_addresses() {
    let sale = TestSale::start(SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) }).await;
    let mut process = app(&sale, "serve");
    let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
    let listening = until(&mut log, "listening").await.pop().unwrap();
    for (socket, path) in [("api", "openapi.json"), ("internal", "livez")] {
        let address = listening["fields"][socket].as_str().unwrap();
        let port = address.rsplit_once(':').unwrap().1;
        for host in ["127.0.0.1", "[::1]"] {
            let url = format!("http://{host}:{port}/{path}");
            assert_eq!(sale.client.get(url).send().await.unwrap().status(), 200, "{host} {socket}");
        }
    }
    process.kill().await.unwrap();
}

#[tokio::test]
async fn a_first_start_warns_of_nothing() {
    for strategy in ["Locked", "Atomic"] {
        let mut spec = SaleSpec { nodes: 1, replicas: 0, ..SaleSpec::on(Database::Postgres) };
        spec.settings.push(("STRATEGY", strategy.to_owned()));
        let sale = TestSale::start(SaleSpec { products: json!([]), ..spec }).await;
        sale.write_catalog(&json!([{"id": "1", "name": "Console", "stock": 100}]));
        let seeded = app(&sale, "seed").wait_with_output().await.unwrap();
        let seeded = String::from_utf8(seeded.stderr).unwrap();
        assert!(seeded.contains("\"seeded\""), "{seeded}");
        let mut events: Vec<Value> =
            seeded.lines().map(|line| serde_json::from_str(line).unwrap()).collect();

        let mut process = app(&sale, "serve");
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        events.extend(until(&mut log, "ready").await);
        if strategy == "Atomic" {
            events.extend(until(&mut log, "stock in Redis made from the database").await);
        }
        process.kill().await.unwrap();
        // That it is not ready yet is why it waits, and no warning of what it does then; and a statement that took a
        // second is the machine's.
        let quiet = |event: &&Value| {
            let message = event["fields"]["message"].as_str().unwrap_or_default();
            event["level"] == "INFO"
                || message == "not ready"
                || message.starts_with("slow statement")
        };
        let loud: Vec<&Value> = events.iter().filter(|event| !quiet(event)).collect();
        assert!(loud.is_empty(), "{strategy}: {loud:#?}");
    }
}
