//! Hostile clients, and secrets that must not be in any log.

use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use flashsale_app::auth::{Role, Tokens};
use futures::future::join_all;
use redis::Commands;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::common::{self, Answer, BOTH, Database, JWT_SECRET, OPERATOR_TOKEN, SaleSpec, TestSale};

/// Ids with a meaning in shells, SQL, Redis, paths or logs.
fn hostile() -> Vec<String> {
    let mut ids: Vec<String> = [
        "",
        " ",
        "*",
        "1*",
        "?",
        "[1]",
        "1 ",
        "1\n",
        "1\r\nSET stock:1 999\r\n",
        "1\0",
        "\0",
        "../1",
        "1/../../stock",
        "%00",
        "%2e%2e",
        "1'; DROP TABLE stock; --",
        "1' OR '1'='1",
        "\" OR 1=1",
        "${jndi:ldap://x}",
        "stock:1",
        "lock:stock:1",
        "{1}",
        "1}{",
        "\u{202e}1",
        "１",
        "é",
        "🛒",
        "1\u{301}",
    ]
    .map(str::to_owned)
    .into();
    ids.push("1".repeat(64));
    ids.push("1".repeat(10_000));
    ids.push("🛒".repeat(16));
    ids
}

/// Percent-encodes every byte.
fn encoded(id: &str) -> String {
    let mut encoded = String::new();
    for byte in id.bytes() {
        write!(encoded, "%{byte:02X}").unwrap();
    }
    encoded
}

/// All keys except the short-lived ones that coordinate the replicas' background tasks.
fn keys(sale: &TestSale) -> Vec<String> {
    let address = format!("redis://{}", sale.nodes[0].address());
    let mut node = redis::Client::open(address).unwrap().get_connection().unwrap();
    let keys: Vec<Vec<u8>> = node.keys("*").unwrap();
    let mut keys: Vec<String> = keys.iter().map(|key| key.escape_ascii().to_string()).collect();
    keys.retain(|key| !key.contains("stores:"));
    keys.sort();
    keys
}

/// The answer is a 4xx in our error format.
fn refused(answer: &Answer, what: &str) {
    assert!((400..500).contains(&answer.status), "{what:?}: {answer:?}");
    // The server refuses a path that is too long before it creates a request.
    assert!(answer.status == 431 || !answer.problem().1.is_empty());
}

#[tokio::test]
async fn hostile_ids_reach_neither_redis_nor_sql() {
    for database in BOTH {
        let sale = TestSale::start(SaleSpec { nodes: 1, ..SaleSpec::on(database) }).await;
        let ann = sale.buyer("ann");
        // Creates every key of an ordinary purchase.
        assert_eq!(ann.buy("1", 1, None).await.status, 201);
        sale.await_stock_on_nodes("1", "99").await;
        let before = keys(&sale);
        for id in hostile() {
            refused(&ann.buy(&id, 1, None).await, &id);
            refused(&ann.buy("1", 1, Some("")).await, "an empty key");
            let stock = format!("/v1/products/{}/stock", encoded(&id));
            let stock = ann.request(0, "GET", &stock).send().await.unwrap();
            refused(&Answer::of(stock).await, &id);
            for path in ["signup", "login"] {
                let account = json!({"id": id, "password": "long enough"});
                let url = format!("{}/v1/auth/{path}", sale.replicas[0].api);
                let request = sale.client.post(url).json(&account);
                let answer = Answer::of(request.send().await.unwrap()).await;
                let known = id.chars().all(|c| c.is_ascii_alphanumeric()) && id.len() == 64;
                if !known {
                    assert_eq!(answer.problem(), (422, "invalid_request"), "{id:?}");
                }
            }
        }
        // Those that count attempts to log in and to sign up have names of their own.
        let mut after = keys(&sale);
        after.retain(|key| !key.starts_with("limits:"));
        assert_eq!(after, before);
        assert_eq!(ann.stock("1").await, 99);
        assert_eq!(sale.sold().await[0]["sold"], 1);
    }
}

/// Bodies that are valid except for the id. Null: the route has no body.
fn body(path: &str, method: &str, id: &str) -> Value {
    match (method, path) {
        ("post", "/v1/orders") => json!({"items": [{"product_id": "1"}, {"product_id": id}]}),
        ("patch", _) => json!({"orders": [{"product": "1"}, {"product": id}]}),
        ("post", "/v1/products") => json!({"id": id, "name": "x", "stock": 1}),
        ("post", "/v1/coupons") => json!({"id": id, "quantity": 1}),
        ("put", "/v1/products/{id}") => json!({"name": "x"}),
        ("post", "/v1/products/{id}/restock") => json!({"add": 1}),
        ("post", "/v1/orders/{id}/payment") => json!({"result": "paid"}),
        _ => Value::Null,
    }
}

/// Covers, as an administrator, every documented route that the test above does not.
#[tokio::test]
async fn hostile_ids_are_refused_by_every_route_that_takes_one() {
    for database in BOTH {
        let sale = TestSale::start(SaleSpec { nodes: 1, ..SaleSpec::on(database) }).await;
        let (admin, _) = Tokens::new(JWT_SECRET).sign("admin", Role::Admin).unwrap();
        assert_eq!(sale.buyer("ann").buy("1", 1, None).await.status, 201);
        sale.await_stock_on_nodes("1", "99").await;
        let before = keys(&sale);
        let document = flashsale_app::api::openapi().to_json().unwrap();
        let document: Value = serde_json::from_str(&document).unwrap();
        let mut tried = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                let in_body = !body(path, method, "1").is_null();
                if !path.contains("{id}") && !in_body {
                    continue;
                }
                tried += 1;
                for id in hostile() {
                    let url =
                        format!("{}{}", sale.replicas[0].api, path.replace("{id}", &encoded(&id)));
                    let verb = method.to_uppercase().parse().unwrap();
                    let mut request = sale.client.request(verb, url).bearer_auth(&admin);
                    if in_body {
                        request = request.json(&body(path, method, &id));
                    }
                    let answer = Answer::of(request.send().await.unwrap()).await;
                    refused(&answer, &format!("{path} {id:?}"));
                }
            }
        }
        assert!(tried > 0);
        assert_eq!(keys(&sale), before);
        assert_eq!(sale.sold().await[0]["sold"], 1);
    }
}

#[tokio::test]
async fn hostile_names_and_keys_are_only_text() {
    for database in BOTH {
        let sale = TestSale::start(SaleSpec { nodes: 1, ..SaleSpec::on(database) }).await;
        let mut bought = 0;
        // An identity provider may use any name, and a client any key of visible characters.
        for name in hostile().iter().filter(|name| !name.contains('\0') && !name.is_empty()) {
            let buyer = sale.buyer(name);
            let answer = buyer.buy("1", 1, Some("x';DROP{TABLE}orders;--*")).await;
            if name.len() > 256 {
                assert_eq!(answer.problem(), (401, "unauthenticated"));
                continue;
            }
            assert_eq!(answer.body["buyer"], name.as_str());
            let again = buyer.buy("1", 1, Some("x';DROP{TABLE}orders;--*")).await;
            assert_eq!(again.order(), answer.order(), "{name:?}");
            bought += 1;
        }
        assert_eq!(sale.sold().await[0]["sold"], bought);
    }
}

/// A replica as a separate process, with its log.
struct Process {
    child: Child,
    log: std::thread::JoinHandle<Vec<String>>,
    api: String,
}

impl Process {
    fn start(sale: &TestSale, settings: &[(&str, &str)]) -> Self {
        // Fewer open files than any shell allows.
        let mut child = Command::new("/bin/sh")
            .args(["-c", "ulimit -Sn 64; exec \"$0\" serve", env!("CARGO_BIN_EXE_flashsale-app")])
            .env_clear()
            .envs(&sale.settings)
            .envs([("LISTEN", "127.0.0.1:0"), ("METRICS_LISTEN", "127.0.0.1:0")])
            .envs([("RUST_LOG", "trace"), ("LOG_FORMAT", "json")])
            .envs(settings.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut log = Vec::new();
        let (mut api, mut ready) = (None, false);
        while api.is_none() || !ready {
            let line = lines.next().expect("the replica starts").unwrap();
            let event: Value = serde_json::from_str(&line).unwrap();
            match event["fields"]["message"].as_str() {
                Some("listening") => api = event["fields"]["api"].as_str().map(str::to_owned),
                Some("ready") => ready = true,
                _ => {}
            }
            log.push(line);
        }
        let log = std::thread::spawn(move || {
            log.extend(lines.map(Result::unwrap));
            log
        });
        Self { child, log, api: format!("http://{}", api.unwrap()) }
    }

    fn log(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.log.join().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_any_log() {
    const PASSWORD: &str = "correct-horse-battery";
    const ACCEPTED: &str = "another-secret-of-thirty-two-bytes-or-more";
    for database in BOTH {
        let sale = TestSale::start(SaleSpec { nodes: 1, ..SaleSpec::on(database) }).await;
        let process = Process::start(&sale, &[("JWT_ACCEPTED_SECRET", ACCEPTED)]);
        let post = async |path: &str, token: Option<&str>, body: &Value| {
            let mut request = sale.client.post(format!("{}{path}", process.api)).json(body);
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            Answer::of(request.send().await.unwrap()).await
        };
        let ann = json!({"id": "ann", "password": PASSWORD});
        assert_eq!(post("/v1/auth/signup", None, &ann).await.status, 201);
        assert_eq!(post("/v1/auth/signup", None, &ann).await.status, 409);
        let login = post("/v1/auth/login", None, &ann).await;
        let token = login.body["access_token"].as_str().unwrap().to_owned();
        let wrong = json!({"id": "ann", "password": "wrong-horse-battery"});
        assert_eq!(post("/v1/auth/login", None, &wrong).await.status, 401);
        let odd = json!({"id": "ann", "password": PASSWORD, "more": 1});
        assert_eq!(post("/v1/auth/login", None, &odd).await.status, 422);
        let purchase = json!({"product_id": "1"});
        assert_eq!(post("/v1/purchases", Some(&token), &purchase).await.status, 201);
        let broken = format!("{token}x");
        assert_eq!(post("/v1/purchases", Some(&broken), &purchase).await.status, 401);
        let nothing = json!({"product_id": "9"});
        assert_eq!(post("/v1/purchases", Some(&token), &nothing).await.status, 404);

        let log = process.log();
        let of = |what: &str| log.iter().any(|line| line.contains(what));
        assert!(of("sqlx::query") && of("INSERT INTO accounts"), "all that can be is logged");
        let signature = token.rsplit_once('.').unwrap().1;
        let secrets = [
            PASSWORD,
            "wrong-horse",
            "$argon2id$",
            signature,
            JWT_SECRET,
            ACCEPTED,
            OPERATOR_TOKEN,
        ];
        for line in &log {
            for secret in secrets {
                assert!(!line.contains(secret), "{secret} is in the log: {line}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_s_limit_of_open_files_does_not_bound_the_connections() {
    let sale = TestSale::start(SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) }).await;
    let process = Process::start(&sale, &[]);
    let address = process.api.strip_prefix("http://").unwrap();
    let mut open = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /nope HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut status = [0; 12];
        let read = timeout(Duration::from_secs(30), stream.read_exact(&mut status)).await;
        read.expect("the server accepts the connection").unwrap();
        assert_eq!(&status, b"HTTP/1.1 404");
        open.push(stream);
    }
    process.log();
}

#[tokio::test]
async fn purchases_go_on_while_two_hundred_log_in() {
    let mut spec = SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) };
    // Otherwise the budget of the one address would end the storm.
    spec.settings.push(("TRUSTED_PROXIES", "1".to_owned()));
    let sale = TestSale::start(spec).await;
    let calm = AtomicBool::new(false);
    let [wrong, overloaded] = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let storm = async |caller: usize| {
        for attempt in 0.. {
            if calm.load(Ordering::Relaxed) {
                return;
            }
            let body = json!({"id": format!("user{caller}"), "password": "a guess or so"});
            let from = format!("10.{}.{caller}.{}", attempt / 250, attempt % 250);
            let url = format!("{}/v1/auth/login", sale.replicas[0].api);
            let request = sale.client.post(url).header("x-forwarded-for", from).json(&body);
            let answer = Answer::of(request.send().await.unwrap()).await;
            match answer.problem() {
                (401, "wrong_credentials") => wrong.fetch_add(1, Ordering::Relaxed),
                (503, "overloaded") => {
                    assert_eq!(answer.headers["retry-after"], "2");
                    overloaded.fetch_add(1, Ordering::Relaxed)
                }
                (429, "too_many_attempts") => 0,
                other => panic!("{other:?}"),
            };
        }
    };
    let buy = async {
        // Buy only once the queue is full and some log-ins were answered.
        let started = || [&wrong, &overloaded].iter().all(|it| it.load(Ordering::Relaxed) > 0);
        common::eventually("the storm has begun", async || started()).await;
        for n in 0..50 {
            let answer = sale.buyer(&format!("buyer{n}")).buy("1", 1, None).await;
            assert_eq!(answer.status, 201, "{answer:?}");
        }
        calm.store(true, Ordering::Relaxed);
    };
    tokio::join!(join_all((0..200).map(storm)), buy);
    assert_eq!(sale.sold().await[0]["sold"], 50);
}

/// The report is not for everybody who reaches the port of metrics. Without a token configured, nobody may.
#[tokio::test(flavor = "multi_thread")]
async fn the_report_of_the_sale_needs_the_operator_s_token() {
    let mut sale = TestSale::start(SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) }).await;
    sale.settings.remove("OPERATOR_TOKEN");
    sale.add_replica().await;
    sale.await_ready(1).await;
    let get = async |replica: usize, path: &str, token: Option<&str>| {
        let request = sale.client.get(format!("{}{path}", sale.replicas[replica].internal));
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        request.send().await.unwrap()
    };
    assert_eq!(get(0, "/sale", Some(OPERATOR_TOKEN)).await.status(), 200);
    let (administrator, _) = Tokens::new(JWT_SECRET).sign("boss", Role::Admin).unwrap();
    let beginning = &OPERATOR_TOKEN[..OPERATOR_TOKEN.len() - 1];
    let refused = [
        (0, None),
        (0, Some("")),
        (0, Some(beginning)),
        (0, Some(JWT_SECRET)),
        (0, Some(administrator.as_str())),
        (1, None),
        (1, Some("")),
        (1, Some(OPERATOR_TOKEN)),
    ];
    for (replica, token) in refused {
        let answer = Answer::of(get(replica, "/sale", token).await).await;
        assert_eq!(answer.problem(), (401, "unauthenticated"), "{replica} {token:?}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
    for path in ["/metrics", "/readyz", "/livez"] {
        for replica in [0, 1] {
            assert_eq!(get(replica, path, None).await.status(), 200, "{replica} {path}");
        }
    }
}
