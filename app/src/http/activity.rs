//! The state of a connection and the time of its last change, for the idle and header time-outs.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::config::HttpConfig;

/// No request is in progress, or its answer is being sent. Limited by the idle time-out since the last
/// byte sent.
const IDLE: u64 = 0;
/// A header is being received. Limited by the header time-out since its first byte.
const HEADER: u64 = 1;
/// A request is being handled. Its body and the handlers have time-outs of their own.
const BUSY: u64 = 2;
/// As `IDLE`, after a request whose body was not read to its end: the next bytes may be that body, which hyper
/// discards. They begin no header.
const UNREAD: u64 = 3;

/// The activity of one connection. Atomic, because the connection's task moves between threads.
#[derive(Debug)]
pub(super) struct Activity {
    origin: Instant,
    /// Milliseconds from the origin to the last change, times four, plus the state.
    state: AtomicU64,
    /// Whether the body of the current request was dropped before its end.
    body_dropped: AtomicBool,
}

impl Activity {
    pub(super) fn new() -> Self {
        let state = AtomicU64::new(IDLE);
        Self { origin: Instant::now(), state, body_dropped: AtomicBool::new(false) }
    }

    /// The header of a request is complete.
    pub(super) fn request_started(&self) {
        self.body_dropped.store(false, Relaxed);
        self.set(BUSY);
    }

    /// Nobody reads the rest of the request's body.
    pub(super) fn body_dropped(&self) {
        self.body_dropped.store(true, Relaxed);
    }

    /// The request has its answer, which may not be sent yet.
    pub(super) fn answered(&self) {
        self.set(if self.body_dropped.load(Relaxed) { UNREAD } else { IDLE });
    }

    /// Whether the current state exceeds its time-out.
    pub(super) fn is_overdue(&self, config: &HttpConfig) -> bool {
        let state = self.state.load(Relaxed);
        let since = Duration::from_millis(state / 4);
        let exceeds = |limit| self.origin.elapsed().saturating_sub(since) >= limit;
        match state % 4 {
            IDLE | UNREAD => exceeds(config.idle_timeout),
            HEADER => exceeds(config.header_timeout),
            _ => false,
        }
    }

    fn received(&self) {
        match self.state.load(Relaxed) % 4 {
            IDLE => self.set(HEADER),
            UNREAD => self.set(IDLE),
            _ => {}
        }
    }

    fn sent(&self) {
        let state = self.state.load(Relaxed) % 4;
        if matches!(state, IDLE | UNREAD) {
            self.set(state);
        }
    }

    fn set(&self, state: u64) {
        let millis = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX / 4);
        self.state.store(millis * 4 + state, Relaxed);
    }
}

/// A stream that records when bytes are received and sent. With TLS, these are the bytes of HTTP: a handshake does not
/// begin a request.
#[derive(Debug)]
pub(super) struct TrackedStream<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> TrackedStream<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }

    fn record(&self, sent: Poll<Result<usize>>) -> Poll<Result<usize>> {
        if matches!(sent, Poll::Ready(Ok(1..))) {
            self.activity.sent();
        }
        sent
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TrackedStream<S> {
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

impl<S: AsyncWrite + Unpin> AsyncWrite for TrackedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.record(sent)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.record(sent)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A header is overdue at once, and an idle connection is not within a test.
    const CONFIG: HttpConfig = HttpConfig {
        max_connections: 1,
        header_timeout: Duration::ZERO,
        body_timeout: Duration::ZERO,
        idle_timeout: Duration::from_hours(1),
        drain_time: Duration::ZERO,
    };

    /// A connection with a request that is being handled.
    fn busy() -> Activity {
        let activity = Activity::new();
        activity.received();
        assert!(activity.is_overdue(&CONFIG), "a header");
        activity.request_started();
        assert!(!activity.is_overdue(&CONFIG));
        activity
    }

    #[test]
    fn bytes_after_an_answer_begin_a_header() {
        let activity = busy();
        activity.answered();
        activity.sent();
        assert!(!activity.is_overdue(&CONFIG));
        activity.received();
        assert!(activity.is_overdue(&CONFIG));
    }

    #[test]
    fn a_body_that_comes_after_the_answer_begins_no_header() {
        let activity = busy();
        activity.body_dropped();
        activity.answered();
        activity.sent();
        activity.received();
        assert!(!activity.is_overdue(&CONFIG), "the body");
        activity.received();
        assert!(activity.is_overdue(&CONFIG), "the next header");
        activity.request_started();
        activity.answered();
        activity.received();
        assert!(activity.is_overdue(&CONFIG), "the next request had no body");
    }
}
