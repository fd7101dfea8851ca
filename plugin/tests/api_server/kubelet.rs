//! The part of a kubelet that serves logs, over TLS.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use futures::{StreamExt, stream};
use testkit::Authority;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

/// A container: namespace, pod, container, and whether the log is that of before the restart.
type Key = (String, String, String, bool);

/// The kubelet of the only node.
pub struct Kubelet {
    pub port: u16,
    logs: Logs,
}

#[derive(Clone)]
struct Logs {
    texts: Arc<Mutex<HashMap<Key, String>>>,
    more: broadcast::Sender<(Key, String)>,
}

impl Kubelet {
    pub async fn start() -> Self {
        let certificate = Authority::new().unwrap().issue("localhost", 10).unwrap();
        let chain =
            vec![CertificateDer::from_pem_slice(certificate.certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).unwrap();
        let provider = tokio_rustls::rustls::crypto::ring::default_provider();
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = inner.local_addr().unwrap().port();
        let logs = Logs { texts: Arc::default(), more: broadcast::channel(16).0 };
        let router = Router::new()
            .route("/containerLogs/{namespace}/{pod}/{container}", get(log))
            .with_state(logs.clone());
        let listener = Tls { inner, acceptor: TlsAcceptor::from(Arc::new(config)) };
        // The server of all tests outlives the runtime of the test that started it.
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let listener = runtime.block_on(async { listener.again() });
            runtime.block_on(async { axum::serve(listener, router).await }).unwrap();
        });
        Self { port, logs }
    }

    /// The log of a container so far.
    pub fn set(&self, namespace: &str, pod: &str, container: &str, previous: bool, text: &str) {
        let key = key(namespace, pod, container, previous);
        self.logs.texts.lock().unwrap().insert(key, text.to_owned());
    }

    /// A line for those that follow.
    pub fn add(&self, namespace: &str, pod: &str, container: &str, text: &str) -> bool {
        self.logs.more.send((key(namespace, pod, container, false), text.to_owned())).is_ok()
    }
}

fn key(namespace: &str, pod: &str, container: &str, previous: bool) -> Key {
    (namespace.to_owned(), pod.to_owned(), container.to_owned(), previous)
}

async fn log(
    State(logs): State<Logs>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    Query(options): Query<HashMap<String, String>>,
) -> Response {
    let is = |name: &str| options.get(name).is_some_and(|value| value == "true");
    let key = key(&namespace, &pod, &container, is("previous"));
    let more = logs.more.subscribe();
    let Some(mut text) = logs.texts.lock().unwrap().get(&key).cloned() else {
        return (StatusCode::NOT_FOUND, "no such log").into_response();
    };
    if !is("timestamps") {
        // As the kubelet stores them: each line begins with its time.
        let lines = text.lines().map(|line| line.split_once(' ').map_or("", |(_, rest)| rest));
        text = lines.flat_map(|line| [line, "\n"]).collect();
    }
    // Added lines are for those that follow a running container.
    if !is("follow") || container == "load" {
        return text.into_response();
    }
    let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from(text))]);
    let later = stream::unfold(more, move |mut more| {
        let key = key.clone();
        async move {
            loop {
                match more.recv().await {
                    Ok((of, text)) if of == key => return Some((Ok(Bytes::from(text)), more)),
                    Ok(_) => {}
                    Err(_) => return None,
                }
            }
        }
    });
    Body::from_stream(first.chain(later)).into_response()
}

struct Tls {
    inner: TcpListener,
    acceptor: TlsAcceptor,
}

impl Tls {
    /// The same socket on the present runtime.
    fn again(self) -> Self {
        let inner = TcpListener::from_std(self.inner.into_std().unwrap()).unwrap();
        Self { inner, ..self }
    }
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.inner.accept().await else { continue };
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.inner.local_addr()
    }
}
