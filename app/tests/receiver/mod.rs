//! A receiver of webhooks: a real HTTP server that keeps what it was sent, answers as a test wants, and verifies the
//! signatures with the library of the Standard Webhooks project.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

use crate::common::eventually;

pub const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub const NEXT_KEY: &str = "whsec_bmV4dCBrZXkgb2YgdGhlIHRlc3RzLCAzMiBieXRlcy4=";

/// What the receiver does with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    Status(u16),
    /// 503 with `Retry-After`.
    Later(u32),
    /// No answer.
    Hang,
    /// The connection ends without an answer.
    Close,
}

pub const TAKEN: Reply = Reply::Status(204);

/// A request that came.
#[derive(Debug, Clone)]
pub struct Webhook {
    pub headers: HashMap<String, String>,
    pub body: String,
    pub event: Value,
    pub reply: Reply,
    pub at: Instant,
}

impl Webhook {
    pub fn id(&self) -> &str {
        self.event["id"].as_str().unwrap()
    }

    pub fn order(&self) -> &str {
        self.event["subject"].as_str().unwrap()
    }

    /// The type without its prefix.
    pub fn kind(&self) -> &str {
        self.event["type"].as_str().unwrap().strip_prefix("dev.flashsale.order.").unwrap()
    }
}

type Policy = Box<dyn Fn(&Value) -> Reply + Send>;

struct Kept {
    webhooks: Vec<Webhook>,
    policy: Policy,
}

#[derive(Clone)]
pub struct Receiver {
    pub url: String,
    address: String,
    kept: Arc<Mutex<Kept>>,
    server: Arc<Mutex<Option<Server>>>,
}

/// Has a thread of its own: when that ends, so do the connections, as those of a process do.
struct Server(Option<Runtime>);

impl Server {
    fn start(listener: std::net::TcpListener, kept: Arc<Mutex<Kept>>) -> Self {
        let router = Router::new().route("/events", post(take)).with_state(kept);
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(async move {
            listener.set_nonblocking(true).unwrap();
            let listener = TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        Self(Some(runtime))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Receiver {
    pub async fn start() -> Self {
        let address = format!("127.0.0.1:{}", testkit::free_port().unwrap());
        let kept = Kept { webhooks: Vec::new(), policy: Box::new(|_| TAKEN) };
        let receiver = Self {
            url: format!("http://{address}/events"),
            address,
            kept: Arc::new(Mutex::new(kept)),
            server: Arc::default(),
        };
        receiver.start_again().await;
        receiver
    }

    /// Ends it with its connections, as a kill does. What came is kept.
    pub fn kill(&self) {
        *self.server.lock().unwrap() = None;
    }

    /// On its port, which the thread of a killed one may leave a moment later.
    pub async fn start_again(&self) {
        eventually("the port is free", async || {
            let Ok(listener) = std::net::TcpListener::bind(&self.address) else { return false };
            *self.server.lock().unwrap() = Some(Server::start(listener, Arc::clone(&self.kept)));
            true
        })
        .await;
    }

    /// The settings of a sale that sends its events here.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        vec![("EVENTS_WEBHOOK_URL", self.url.clone()), ("EVENTS_WEBHOOK_SECRET", KEY.to_owned())]
    }

    /// Answers by this policy from now on.
    pub fn answer(&self, policy: impl Fn(&Value) -> Reply + Send + 'static) {
        self.kept.lock().unwrap().policy = Box::new(policy);
    }

    /// All that came, whatever the answer was.
    pub fn all(&self) -> Vec<Webhook> {
        self.kept.lock().unwrap().webhooks.clone()
    }

    /// What was taken.
    pub fn taken(&self) -> Vec<Webhook> {
        self.all().into_iter().filter(|webhook| webhook.reply == TAKEN).collect()
    }

    /// The types of the events of each order that were taken, each id once, in the order in which they came.
    fn chains(&self) -> HashMap<String, Vec<String>> {
        let (mut ids, mut chains) = (HashSet::new(), HashMap::<String, Vec<String>>::new());
        for webhook in self.taken() {
            if ids.insert(webhook.id().to_owned()) {
                let chain = chains.entry(webhook.order().to_owned()).or_default();
                chain.push(webhook.kind().to_owned());
            }
        }
        chains
    }

    /// Each order has these events, in this order, and no others came. An id is always the same event, and its
    /// signature is right.
    pub fn assert_chains(&self, expected: &HashMap<String, Vec<&str>>) {
        let chains = self.chains();
        assert_eq!(chains.len(), expected.len(), "no event without its order");
        for (order, kinds) in expected {
            let chain = chains.get(order).map(Vec::as_slice).unwrap_or_default();
            assert_eq!(chain, kinds, "{order}");
        }
        let webhooks = self.all();
        let mut by_id = HashMap::<&str, &str>::new();
        for webhook in &webhooks {
            let body = by_id.entry(webhook.id()).or_insert(&webhook.body);
            assert_eq!(*body, webhook.body);
        }
        assert_eq!(by_id.len(), expected.values().map(Vec::len).sum::<usize>());
        let sample: Vec<_> = webhooks.iter().rev().take(200).cloned().collect();
        assert!(verified(&sample, KEY).iter().all(|it| it == "ok"));
    }

    /// The types of the events of an order that were taken, each id once.
    pub fn kinds_of(&self, order: &str) -> Vec<String> {
        self.chains().remove(order).unwrap_or_default()
    }

    pub async fn await_kinds(&self, order: &str, expected: &[&str]) {
        let what = format!("the events of {order} are {expected:?}");
        eventually(&what, async || self.kinds_of(order).len() >= expected.len()).await;
        assert_eq!(self.kinds_of(order), expected);
    }
}

async fn take(State(kept): State<Arc<Mutex<Kept>>>, headers: HeaderMap, body: String) -> Response {
    let event: Value = serde_json::from_str(&body).unwrap();
    let headers = headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    let reply = {
        let mut kept = kept.lock().unwrap();
        let reply = (kept.policy)(&event);
        kept.webhooks.push(Webhook { headers, body, event, reply, at: Instant::now() });
        reply
    };
    match reply {
        Reply::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Reply::Later(seconds) => {
            (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", seconds.to_string())])
                .into_response()
        }
        Reply::Hang => std::future::pending().await,
        // The connection's task ends, without a message.
        Reply::Close => std::panic::resume_unwind(Box::new(())),
    }
}

/// Python with the library, which `cargo xtask test` installs.
fn python() -> PathBuf {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/receiver/.venv/bin/python");
    let python = std::env::var_os("FLASHSALE_WEBHOOKS_PYTHON").map_or_else(own, PathBuf::from);
    let missing = "is missing: run `cargo xtask test unit`, or install app/tests/receiver/requirements.txt in a \
                   virtual environment .venv beside it";
    assert!(python.exists(), "{} {missing}", python.display());
    python
}

/// What the library says of each webhook with this key: `ok`, or the error.
pub fn verified(webhooks: &[Webhook], key: &str) -> Vec<String> {
    let lines = webhooks.iter().map(|webhook| {
        json!({"key": key, "headers": webhook.headers, "body": webhook.body}).to_string()
    });
    let input = lines.collect::<Vec<_>>().join("\n");
    let mut child = Command::new(python())
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/receiver/verify.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writing = std::thread::spawn(move || stdin.write_all(input.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}
