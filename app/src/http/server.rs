//! The HTTP server: hyper for the protocol, and bounds on what a client may take. A client that is
//! slow to send its header or its body, or to read its answer, is dropped.

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

use super::activity::{Activity, Watched};
use super::body;
use super::config::HttpConfig;
use crate::metrics::ClientMetrics;

/// Of a whole header. hyper answers 431 to a longer one, and to one with more than 100 lines.
const MAX_HEADER: usize = 16 * 1024;
/// After an error that is not the client's: mostly too many open files.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How many refused connections are told so at a time; more are just closed.
const REFUSING: usize = 256;
/// How long one of them has to read it.
const REFUSAL: Duration = Duration::from_secs(1);

const FULL: &str = r#"{"type":"urn:flashsale:problem:overloaded","title":"Service Unavailable","status":503,"detail":"too many connections are open","code":"overloaded"}"#;

/// Who is at the other end of the connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

struct Server {
    router: Router,
    http: http1::Builder,
    config: HttpConfig,
    metrics: Arc<ClientMetrics>,
    shutdown: CancellationToken,
}

/// Serves until `shutdown`, and then until all requests under way are answered.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    config: HttpConfig,
    metrics: Arc<ClientMetrics>,
    shutdown: CancellationToken,
) {
    let mut http = http1::Builder::new();
    // `Activity` bounds both the header and the time between requests, and for less: hyper would
    // make a timer for each request.
    http.header_read_timeout(None).max_header_size(MAX_HEADER);
    // Without state, it is prepared once.
    let router = router.with_state(());
    let server = Arc::new(Server { router, http, config, metrics, shutdown });
    let slots = Arc::new(Semaphore::new(config.max_connections));
    let refusing = Arc::new(Semaphore::new(REFUSING));
    let connections = TaskTracker::new();
    while let Some((stream, peer)) = server.shutdown.run_until_cancelled(accept(&listener)).await {
        // Answers are small: waiting to fill a packet only delays them.
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
        if let Ok(place) = Arc::clone(&refusing).try_acquire_owned() {
            connections.spawn(async move {
                let _ = timeout(REFUSAL, refuse(stream)).await;
                drop(place);
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
            // The client's.
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

/// Says why, and waits until the client has read it: closing with bytes unread would take it back.
async fn refuse(mut stream: TcpStream) -> std::io::Result<()> {
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
         retry-after: 1\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{FULL}",
        FULL.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

impl Server {
    async fn connection(&self, stream: TcpStream, peer: SocketAddr) {
        let _open = self.metrics.connected();
        let activity = Arc::new(Activity::new());
        let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity)));
        let service = service_fn(|request: Request<Incoming>| {
            activity.request();
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
        // Its own, or all connections would meet at one lock each time they wake.
        let shutdown = self.shutdown.child_token();
        let mut shutting_down = pin!(shutdown.cancelled());
        let mut closing = false;
        // Not for each request: it is looked at from time to time how long the last step took.
        let look = self.config.header_timeout.min(self.config.idle_timeout) / 4;
        let mut next_look = pin!(sleep(look));
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
                () = next_look.as_mut() => {
                    if activity.is_overdue(&self.config) {
                        debug!(%peer, "connection dropped: the client is too slow, or idle");
                        self.metrics.dropped();
                        return;
                    }
                    next_look.as_mut().reset(tokio::time::Instant::now() + look);
                }
            }
        }
    }
}
