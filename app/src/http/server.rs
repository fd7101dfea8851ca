//! The HTTP server: hyper for the protocol, and limits for clients. A client that sends its header or
//! body too slowly, or reads its answer too slowly, is disconnected.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;
use tracing::{debug, warn};

use super::activity::{Activity, TrackedStream};
use super::body;
use super::config::HttpConfig;
use crate::metrics::ClientMetrics;

/// Bytes of a whole header. hyper answers a longer one, or one of more than 100 lines, with 431.
const MAX_HEADER: usize = 16 * 1024;
/// Pause after an error of this process, usually too many open files.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Refused connections that receive an answer at the same time; others are closed without one.
const MAX_REFUSALS: usize = 256;
/// Time for the client to read that answer.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

const FULL: &str = r#"{"type":"urn:flashsale:problem:overloaded","title":"Service Unavailable","status":503,"detail":"too many connections are open","code":"overloaded"}"#;

/// The address at the other end of the connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

struct Server {
    router: Router,
    http: http1::Builder,
    config: HttpConfig,
    metrics: Arc<ClientMetrics>,
    shutdown: CancellationToken,
}

/// Serves until `shutdown`, then answers the requests in progress.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    config: HttpConfig,
    metrics: Arc<ClientMetrics>,
    shutdown: CancellationToken,
) {
    let mut http = http1::Builder::new();
    // `Activity` limits both the header and the time between requests, at a lower cost: hyper would
    // create a timer for each request.
    http.header_read_timeout(None).max_header_size(MAX_HEADER);
    // Prepares the router once instead of for each call.
    let router = router.with_state(());
    let server = Arc::new(Server { router, http, config, metrics, shutdown });
    let slots = Arc::new(Semaphore::new(config.max_connections));
    let refusing = Arc::new(Semaphore::new(MAX_REFUSALS));
    let connections = TaskTracker::new();
    while let Some((stream, peer)) = server.shutdown.run_until_cancelled(accept(&listener)).await {
        // Answers are small, so waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
            let server = Arc::clone(&server);
            connections.spawn(async move {
                server.connection(stream, peer).await;
                drop(slot);
            });
            continue;
        }
        server.metrics.refused();
        if let Ok(slot) = Arc::clone(&refusing).try_acquire_owned() {
            connections.spawn(async move {
                let _ = timeout(REFUSAL_TIMEOUT, refuse(stream)).await;
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

/// Sends the reason, and reads until the client closes: a close with unread bytes would reset the
/// connection and discard the answer.
async fn refuse(mut stream: TcpStream) -> std::io::Result<()> {
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
         retry-after: 1\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{FULL}",
        FULL.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    let mut discarded = [0; 1024];
    while stream.read(&mut discarded).await? > 0 {}
    Ok(())
}

impl Server {
    async fn connection(&self, stream: TcpStream, peer: SocketAddr) {
        let _open = self.metrics.connected();
        let activity = Arc::new(Activity::new());
        let io = TokioIo::new(TrackedStream::new(stream, Arc::clone(&activity)));
        let service = service_fn(|request: Request<Incoming>| {
            activity.request_started();
            let mut request = request.map(|body| body::bounded(body, self.config.body_timeout));
            request.extensions_mut().insert(Peer(peer));
            let answer = self.router.clone().call(request);
            let activity = &activity;
            async move {
                let answer = answer.await;
                activity.answered();
                answer
            }
        });
        let mut connection = pin!(self.http.serve_connection(io, service));
        // A child token, because all connections would contend for the lock of a shared one.
        let shutdown = self.shutdown.child_token();
        let mut shutting_down = pin!(shutdown.cancelled());
        let mut closing = false;
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
                () = shutting_down.as_mut(), if !closing => {
                    closing = true;
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
