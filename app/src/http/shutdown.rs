//! The end of a replica in two steps, so that no client sends a request on a connection that is just being closed.
//!
//! First the end is announced: every answer has `Connection: close`, and new connections are still accepted, because
//! load balancers learn of the end with a delay. After the drain time, the other connections are closed: they were idle
//! for that long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// How far the end of a server is. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Shutdown {
    /// Whether answers announce the end. A flag, because each request reads it.
    announced: Arc<AtomicBool>,
    closing: CancellationToken,
}

impl Shutdown {
    /// Announces the end at `signal`, and closes connections `drain_time` later.
    pub(crate) fn after(signal: CancellationToken, drain_time: Duration) -> Self {
        let shutdown = Self::unannounced(CancellationToken::new());
        let Self { announced, closing } = shutdown.clone();
        tokio::spawn(async move {
            signal.cancelled().await;
            info!(?drain_time, "shutting down");
            announced.store(true, Relaxed);
            sleep(drain_time).await;
            closing.cancel();
        });
        shutdown
    }

    /// Closes connections at `closing` without an announcement.
    pub(crate) fn unannounced(closing: CancellationToken) -> Self {
        Self { announced: Arc::default(), closing }
    }

    /// Whether answers must say that their connection is closed.
    pub(crate) fn is_announced(&self) -> bool {
        self.announced.load(Relaxed)
    }

    /// From this time on, no connection is accepted, and each is closed once its request is answered.
    pub(crate) fn closing(&self) -> &CancellationToken {
        &self.closing
    }
}
