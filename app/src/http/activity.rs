//! What a connection is doing, and since when.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::config::HttpConfig;

/// Nothing was asked, or the answer is being sent: bounded by the idle time-out since the last
/// byte.
const IDLE: u64 = 0;
/// A header has begun: bounded by the header time-out since its first byte.
const HEADER: u64 = 1;
/// A request is being answered: its body has a time-out of its own, its work bounds itself.
const BUSY: u64 = 2;

/// One connection's. Only its own task changes it; atomic because tasks move between threads.
#[derive(Debug)]
pub(super) struct Activity {
    origin: Instant,
    /// Milliseconds since the origin, times four, plus what it is doing.
    state: AtomicU64,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self { origin: Instant::now(), state: AtomicU64::new(IDLE) }
    }

    /// A request's header is complete.
    pub(super) fn request(&self) {
        self.now(BUSY);
    }

    /// There is an answer to it; it may not be sent yet.
    pub(super) fn answered(&self) {
        self.now(IDLE);
    }

    pub(super) fn is_overdue(&self, config: &HttpConfig) -> bool {
        let state = self.state.load(Relaxed);
        let since = Duration::from_millis(state / 4);
        let for_long = |limit| self.origin.elapsed().saturating_sub(since) >= limit;
        match state % 4 {
            IDLE => for_long(config.idle_timeout),
            HEADER => for_long(config.header_timeout),
            _ => false,
        }
    }

    fn received(&self) {
        if self.is(IDLE) {
            self.now(HEADER);
        }
    }

    fn sent(&self) {
        if self.is(IDLE) {
            self.now(IDLE);
        }
    }

    fn is(&self, what: u64) -> bool {
        self.state.load(Relaxed) % 4 == what
    }

    fn now(&self, what: u64) {
        let millis = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX / 4);
        self.state.store(millis * 4 + what, Relaxed);
    }
}

/// A stream that tells what passes.
#[derive(Debug)]
pub(super) struct Watched {
    stream: TcpStream,
    activity: Arc<Activity>,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }

    fn sent(&self, sent: Poll<Result<usize>>) -> Poll<Result<usize>> {
        if matches!(sent, Poll::Ready(Ok(1..))) {
            self.activity.sent();
        }
        sent
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.received();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.sent(sent)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.sent(sent)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
