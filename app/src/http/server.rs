//! The HTTP server: hyper for the protocol, and limits for clients. A client that sends its header or
//! body too slowly, or reads its answer too slowly, is disconnected.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tower::Service;
use tracing::{debug, warn};

use super::activity::{Activity, TrackedStream};
use super::body;
use super::config::HttpConfig;
use super::rejection::{self, Rejection};
use super::shutdown::Shutdown;
use super::tls::{self, Protocol, Tls};
use crate::metrics::{ClientMetrics, HandshakeFailure};

/// Bytes of a whole header. hyper answers a longer one, or one of more than 100 lines, with 431.
const MAX_HEADER: usize = 16 * 1024;
/// Pause after an error of this process, usually too many open files.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Refused connections that receive an answer at the same time; others are closed without one.
const MAX_REFUSALS: usize = 256;

/// The address at the other end of the connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

struct Server {
    router: Router,
    http: http1::Builder,
    config: HttpConfig,
    /// `None`: plain HTTP.
    tls: Option<Arc<Tls>>,
    metrics: Arc<ClientMetrics>,
    shutdown: Shutdown,
}

/// Serves until `shutdown` closes connections, then answers the requests in progress.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    config: HttpConfig,
    tls: Option<Arc<Tls>>,
    metrics: Arc<ClientMetrics>,
    shutdown: Shutdown,
) {
    let mut http = http1::Builder::new();
    // `Activity` limits both the header and the time between requests, at a lower cost: hyper would
    // create a timer for each request.
    http.header_read_timeout(None).max_header_size(MAX_HEADER);
    // Prepares the router once instead of for each call.
    let router = router.with_state(());
    let server = Arc::new(Server { router, http, config, tls, metrics, shutdown });
    let slots = Arc::new(Semaphore::new(config.max_connections));
    let refusing = Arc::new(Semaphore::new(MAX_REFUSALS));
    let connections = TaskTracker::new();
    let closing = server.shutdown.closing();
    while let Some((stream, peer)) = closing.run_until_cancelled(accept(&listener)).await {
        // Answers are small, so waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
            let server = Arc::clone(&server);
            connections.spawn(async move {
                let open = server.metrics.connected();
                match &server.tls {
                    None => server.connection(stream, peer).await,
                    // Boxed, so that connections without TLS do not need its memory.
                    Some(tls) => Box::pin(server.tls_connection(tls, stream, peer)).await,
                }
                drop((open, slot));
            });
            continue;
        }
        server.metrics.refused();
        if let Ok(slot) = Arc::clone(&refusing).try_acquire_owned() {
            let server = Arc::clone(&server);
            connections.spawn(async move {
                Box::pin(server.refuse(stream)).await;
                drop(slot);
            });
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // The client closed the connection.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionRefused
                        | ErrorKind::ConnectionAborted
                        | ErrorKind::ConnectionReset
                ) => {}
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

impl Server {
    async fn refuse(&self, stream: TcpStream) {
        let Some(tls) = &self.tls else { return Rejection::Full.send(stream).await };
        if let Ok(Ok(stream)) = timeout(rejection::TIMEOUT, tls.accept(stream)).await {
            Rejection::Full.send(stream).await;
        }
    }

    /// A handshake, within the time of a header, then a connection like any other.
    async fn tls_connection(&self, tls: &Tls, stream: TcpStream, peer: SocketAddr) {
        let closing = self.shutdown.closing().child_token();
        let handshake = async {
            match tls::protocol(&stream).await? {
                None => Ok(None),
                Some(Protocol::Tls) => tls.accept(stream).await.map(Some),
                Some(Protocol::PlainHttp) => {
                    tls.metrics.handshake_failed(HandshakeFailure::PlainHttp);
                    Rejection::PlainHttp.send(stream).await;
                    Ok(None)
                }
            }
        };
        let handshake = timeout(self.config.header_timeout, handshake);
        // `None`: shut down. No request is in progress.
        let Some(handshake) = closing.run_until_cancelled(handshake).await else { return };
        match handshake {
            Ok(Ok(Some(stream))) => self.connection(stream, peer).await,
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                debug!(%peer, %error, "TLS handshake failed");
                tls.metrics.handshake_failed(HandshakeFailure::Failed);
            }
            Err(_) => {
                debug!(%peer, "connection dropped: the TLS handshake takes too long");
                tls.metrics.handshake_failed(HandshakeFailure::Timeout);
                self.metrics.dropped();
            }
        }
    }

    async fn connection<S>(&self, stream: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Arc::new(Activity::new());
        let io = TokioIo::new(TrackedStream::new(stream, Arc::clone(&activity)));
        let service = service_fn(|request: Request<Incoming>| {
            activity.request_started();
            let body_timeout = self.config.body_timeout;
            let mut request = request.map(|body| body::bounded(body, body_timeout, &activity));
            request.extensions_mut().insert(Peer(peer));
            let answer = self.router.clone().call(request);
            let activity = &activity;
            async move {
                let mut answer = answer.await;
                activity.answered();
                if self.shutdown.is_announced()
                    && let Ok(answer) = &mut answer
                {
                    // hyper closes the connection after this answer.
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                answer
            }
        });
        let mut connection = pin!(self.http.serve_connection(io, service));
        // A child token, because all connections would contend for the lock of a shared one.
        let closing = self.shutdown.closing().child_token();
        let mut closing = pin!(closing.cancelled());
        let mut is_closing = false;
        // A periodic check of the activity is cheaper than a timer for each request.
        let check_interval = self.config.header_timeout.min(self.config.idle_timeout) / 4;
        let mut next_check = pin!(sleep(check_interval));
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        debug!(%peer, %error, "connection failed");
                    }
                    return;
                }
                () = closing.as_mut(), if !is_closing => {
                    is_closing = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = next_check.as_mut() => {
                    if activity.is_overdue(&self.config) {
                        debug!(%peer, "connection dropped: the client is too slow, or idle");
                        self.metrics.dropped();
                        return;
                    }
                    next_check.as_mut().reset(tokio::time::Instant::now() + check_interval);
                }
            }
        }
    }
}
