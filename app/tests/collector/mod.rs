//! Receivers of spans: the real OpenTelemetry Collector (`main.go`), which passes on as JSON what it understood, and
//! servers that misbehave.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

use crate::common::eventually;

/// A span, as the Collector read it.
#[derive(Debug, Clone)]
pub struct Span {
    json: Value,
    pub attributes: BTreeMap<String, Value>,
    pub resource: BTreeMap<String, Value>,
}

impl Span {
    fn text(&self, name: &str) -> &str {
        self.json[name].as_str().unwrap_or_default()
    }

    pub fn trace(&self) -> &str {
        self.text("traceId")
    }

    pub fn id(&self) -> &str {
        self.text("spanId")
    }

    pub fn parent(&self) -> &str {
        self.text("parentSpanId")
    }

    pub fn name(&self) -> &str {
        self.text("name")
    }

    pub fn state(&self) -> &str {
        self.text("traceState")
    }

    /// 1: internal, 2: server, 3: client.
    pub fn kind(&self) -> u64 {
        self.json["kind"].as_u64().unwrap()
    }

    pub fn flags(&self) -> u64 {
        self.json["flags"].as_u64().unwrap()
    }

    /// 0: not set, 2: error.
    pub fn status(&self) -> u64 {
        self.json["status"]["code"].as_u64().unwrap_or(0)
    }

    /// Start and end, in nanoseconds of Unix time.
    pub fn times(&self) -> (u64, u64) {
        let time = |name| self.text(name).parse().unwrap();
        (time("startTimeUnixNano"), time("endTimeUnixNano"))
    }

    /// Trace and span of each link.
    pub fn links(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let links = self.json["links"].as_array().cloned().unwrap_or_default();
        links.iter().map(|link| (text(&link["traceId"]), text(&link["spanId"]))).collect()
    }

    /// What links to it have.
    pub fn context(&self) -> (String, String) {
        (self.trace().to_owned(), self.id().to_owned())
    }
}

/// What a server of this test process was sent.
#[derive(Debug, Clone, Default)]
pub struct Received(Arc<Mutex<Vec<(HeaderMap, Vec<u8>)>>>);

impl Received {
    pub fn requests(&self) -> Vec<(HeaderMap, Vec<u8>)> {
        self.0.lock().unwrap().clone()
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.requests();
        requests.iter().flat_map(|(_, body)| read(&serde_json::from_slice(body).unwrap())).collect()
    }
}

fn read(request: &Value) -> Vec<Span> {
    let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut spans = Vec::new();
    for of_resource in array(&request["resourceSpans"]) {
        let resource = attributes(&of_resource["resource"]);
        for of_scope in array(&of_resource["scopeSpans"]) {
            spans.extend(array(&of_scope["spans"]).into_iter().map(|json| Span {
                attributes: attributes(&json),
                resource: resource.clone(),
                json,
            }));
        }
    }
    spans
}

fn attributes(of: &Value) -> BTreeMap<String, Value> {
    let pair = |pair: &Value| {
        let value = match &pair["value"] {
            Value::Object(value) if value.contains_key("intValue") => {
                json!(value["intValue"].as_str().unwrap().parse::<i64>().unwrap())
            }
            value => value["stringValue"].clone(),
        };
        (pair["key"].as_str().unwrap().to_owned(), value)
    };
    of["attributes"].as_array().into_iter().flatten().map(pair).collect()
}

/// A server that answers every export with this status; its base URL.
pub async fn server(status: StatusCode) -> (String, Received) {
    let received = Received::default();
    let take = async move |State(received): State<Received>,
                           headers: HeaderMap,
                           body: axum::body::Bytes| {
        received.0.lock().unwrap().push((headers, body.to_vec()));
        status
    };
    let router = Router::new().route("/v1/traces", post(take)).with_state(received.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    (url, received)
}

/// The real Collector.
pub struct Collector {
    pub endpoint: String,
    received: Received,
    process: Child,
    _folder: TempDir,
}

impl Collector {
    pub async fn start() -> Self {
        let (sink, received) = server(StatusCode::OK).await;
        let folder = tempfile::tempdir().unwrap();
        let address = format!("127.0.0.1:{}", testkit::free_port().unwrap());
        let config = folder.path().join("collector.yaml");
        // Each export is passed on at once.
        let text = json!({
            "receivers": {"otlp": {"protocols": {"http": {"endpoint": address}}}},
            "exporters": {"otlp_http": {
                "endpoint": sink,
                "encoding": "json",
                "compression": "none",
                "sending_queue": {"enabled": false},
            }},
            "service": {
                "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["otlp_http"]}},
                "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "warn"}},
            },
        });
        std::fs::write(&config, text.to_string()).unwrap();
        let process = collector(&config);
        eventually("the collector listens", async || TcpStream::connect(&address).await.is_ok())
            .await;
        Self { endpoint: format!("http://{address}"), received, process, _folder: folder }
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Span> {
        self.received.spans()
    }
}

fn collector(config: &Path) -> Child {
    let path = std::env::var("PATH").unwrap();
    Command::new("flashsale-otelcol")
        .env("PATH", format!("{path}:/var/tmp/flashsale-cluster/bin"))
        .arg(format!("--config=file:{}", config.display()))
        .stdin(Stdio::null())
        .spawn()
        .expect("`cargo xtask test unit` builds flashsale-otelcol")
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
